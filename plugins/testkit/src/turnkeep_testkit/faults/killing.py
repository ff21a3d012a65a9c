"""T1, T2: writers and servers that are killed."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from typing import TYPE_CHECKING

import pytest

from turnkeep_testkit.faults.several import ManyProcesses
from turnkeep_testkit.processes.children import PATIENCE, Child
from turnkeep_testkit.processes.ledger import Acknowledged, Ledger
from turnkeep_testkit.processes.writing import write

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from turnkeep_testkit.processes.ledger import Tried

    KillServer = Callable[[], Awaitable[None] | None]

_SESSIONS = 4
_SHORT, _LONG = 0.005, 0.1


class KilledWriterSuite(ManyProcesses):
    """Writers that are killed in the middle of a commit: what was acknowledged is there, the rest whole or not."""

    @pytest.fixture
    def kill_server(self) -> KillServer:
        """Override it where there is a server: a function, plain or async, that kills it with SIGKILL and starts it.

        It waits for the end of the killed process (one that is not reaped keeps its lock), starts another over the same
        files, on the same address, and may return before that accepts connections.
        """
        pytest.skip("override the fixture kill_server to let the kit kill the server")

    async def test_t1_nothing_is_lost_when_writers_are_killed(self) -> None:
        """Writing processes are killed, one after the other, at any moment.

        What was acknowledged is there, once, whole and in order; what nobody heard of is sent again with its commit id
        and lands once.

        On failure: an acknowledgement before the commit was durable; a turn in two transactions; a commit id that is
        kept by the process and not by the store.
        """
        kills = self.size("T1")
        rng = random.Random(1)  # noqa: S311 - the same moments in every run
        keys = [self.new_key() for _ in range(_SESSIONS)]
        ledger = Ledger()
        unheard = landed = 0
        for _ in range(kills):
            with Child(write, self.factory, keys, stubborn=False) as child:
                await _hear_acknowledged(child, ledger)
                await child.listen(ledger.note, seconds=rng.uniform(_SHORT, _LONG))
                await _kill(child, ledger)
            unheard += ledger.unheard
            landed += await ledger.settle(self.adapter)
        await ledger.verify(self.adapter)
        self.figure("T1", "kills of a writing process", kills)
        self.figure("T1", "turns acknowledged", len(ledger.acknowledged) - unheard)
        self.figure("T1", "turns nobody had heard of", unheard)
        self.figure("T1", "of these had taken effect", landed)
        self.figure("T1", "turns lost, torn or stored twice", 0)

    async def test_t2_nothing_is_lost_when_the_server_is_killed(self, kill_server: KillServer) -> None:
        """The server is killed and started while processes write, who send each turn until it is acknowledged.

        What was acknowledged is there, once, whole and in order, and writers go on without being restarted.

        On failure: acknowledgements before the data is on disk; look at what `check` says of the server's settings. Or
        the adapter keeps connections to the server that is gone.
        """
        kills = self.size("T2")
        rng = random.Random(2)  # noqa: S311 - the same moments in every run
        keys = [self.new_key() for _ in range(_SESSIONS * 2)]
        ledger = Ledger()
        slowest = 0.0
        with Child(write, self.factory, keys, stubborn=True) as child:
            await _hear_acknowledged(child, ledger)
            for _ in range(kills):
                await child.listen(ledger.note, seconds=rng.uniform(_SHORT, _LONG) * 5)
                killed = time.monotonic()
                ended = await asyncio.to_thread(kill_server)
                if inspect.isawaitable(ended):
                    await ended
                await _hear_acknowledged(child, ledger, since=time.monotonic())
                slowest = max(slowest, time.monotonic() - killed)
            await _kill(child, ledger)
        await ledger.settle(self.adapter)
        await ledger.verify(self.adapter)
        self.figure("T2", "kills of the server", kills)
        self.figure("T2", "turns acknowledged", len(ledger.acknowledged))
        self.figure("T2", "turns lost, torn or stored twice", 0)
        self.figure("T2", "longest time from kill to the next turn, s", slowest)


async def _hear_acknowledged(child: Child, ledger: Ledger, *, since: float = 0.0) -> None:
    """Listens until a turn is acknowledged that was first sent since then."""

    def hear(entry: Tried | Acknowledged) -> bool:
        ledger.note(entry)
        return isinstance(entry, Acknowledged) and ledger.began(entry.commit_id) >= since

    heard = await child.listen(hear, seconds=PATIENCE)
    assert heard, f"no turn was acknowledged within {PATIENCE:g} s"


async def _kill(child: Child, ledger: Ledger) -> None:
    child.kill()
    await child.listen(ledger.note, seconds=PATIENCE)
