"""Processes that tell what they do, and can be killed at any moment."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
import traceback
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec

from turnkeep.contract import StorageAdapter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from multiprocessing.connection import Connection
    from types import TracebackType

    Tell = Callable[[object], None]
    Factory = Callable[[], StorageAdapter | AbstractAsyncContextManager[StorageAdapter]]

P = ParamSpec("P")

# A process that is forked from this one would inherit its threads' locks; one that is spawned takes long to begin.
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT: Any = multiprocessing.get_context(_METHOD)
"""How the processes are made; their locks and barriers come from here too."""

_PRELOADED = ("writing", "contending", "racing", "starting")

PATIENCE: Final = 60.0
"""Seconds to wait for what another process has to do."""


@dataclass(frozen=True, slots=True)
class Failed:
    """What a child says that ended by an error.

    Attributes:
        trace: its traceback.
    """

    trace: str


def preload(factory: Factory) -> None:
    """Lets the process that the others are forked from import what they need, once for all of them."""
    made = factory
    while isinstance(made, partial):
        made = made.func
    adapters = getattr(made, "__module__", None)
    ours = [f"{__package__}.{name}" for name in _PRELOADED]
    # `__main__` is what Python itself preloads.
    CONTEXT.set_forkserver_preload(["__main__", *ours, *([adapters] if isinstance(adapters, str) else [])])


class Child:
    """A process that runs a coroutine function, which is given a way to tell the parent, then the arguments.

    Function and arguments have to be picklable: functions at the top of a module, classes, ``functools.partial``.
    As a context manager it kills the process on the way out. To be used from one thread at a time.
    """

    def __init__(
        self,
        work: Callable[Concatenate[Any, P], Coroutine[Any, Any, None]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> None:
        self._ears, mouth = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_run, args=(work, mouth, arguments, options), daemon=True)
        self._process.start()
        mouth.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._ears.close()

    async def listen(self, hear: Callable[[Any], bool | None], *, seconds: float) -> bool:
        """Hands everything the child tells to ``hear``, until that returns True; or it ends, or the time is over.

        Returns whether ``hear`` did. The test's event loop goes on meanwhile.

        Raises:
            AssertionError: the child failed; its traceback is the message.
        """
        return await asyncio.to_thread(self._listen, hear, seconds)

    def kill(self) -> None:
        """Ends the process with SIGKILL, and reaps it. What it told before can still be heard."""
        self._process.kill()
        self._process.join()

    def _listen(self, hear: Callable[[Any], bool | None], seconds: float) -> bool:
        end = time.monotonic() + seconds
        with suppress(EOFError, OSError):
            while self._ears.poll(max(0.0, end - time.monotonic())):
                told = self._ears.recv()
                assert not isinstance(told, Failed), f"a process failed:\n{told.trace}"
                if hear(told):
                    return True
        return False


def _run(
    work: Callable[..., Coroutine[Any, Any, None]],
    mouth: Connection,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> None:
    try:
        # One write of less than a page: it is in the pipe as a whole or not at all, whenever the process is killed.
        asyncio.run(work(mouth.send, *arguments, **options))
    except BaseException:  # noqa: BLE001 - whatever it is, the parent has to hear of it
        mouth.send(Failed(traceback.format_exc()))


@asynccontextmanager
async def opened(factory: Factory) -> AsyncGenerator[StorageAdapter]:
    """The factory's adapter, open."""
    made = factory()
    if not isinstance(made, StorageAdapter):
        async with made as adapter:
            yield adapter
        return
    try:
        await made.open()
        yield made
    finally:
        await made.aclose()
