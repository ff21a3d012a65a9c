"""What the framework itself costs in one `respond`: its time less that of the provider and of the adapter.

Run it with the project's environment: `python benchmarks/respond.py`. It prints, for several numbers of loaded
messages, the framework's own work in microseconds, and the budget: 150 µs + 4 µs per loaded message. "best" is the 5th
percentile, what the code takes when nothing else wants the machine; the median holds the machine's other work too. An
interpreter that was built without profile-guided optimisation (pyenv's are) takes about a fifth longer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import platform
import sys
import time
from typing import TYPE_CHECKING, Any

from turnkeep import Agent, MemoryAdapter, Message, connect, create_session
from turnkeep.providers import Provider, ProviderReply

if TYPE_CHECKING:
    from turnkeep.providers import ProviderRequest

BUDGET = 150.0
BUDGET_PER_MESSAGE = 4.0


class Timed(MemoryAdapter):
    """Counts the time that is not the framework's."""

    def __init__(self) -> None:
        super().__init__()
        self.spent = 0.0

    async def load(self, *args: Any) -> Any:
        started = time.perf_counter()
        try:
            return await super().load(*args)
        finally:
            self.spent += time.perf_counter() - started

    async def commit(self, *args: Any) -> Any:
        started = time.perf_counter()
        try:
            return await super().commit(*args)
        finally:
            self.spent += time.perf_counter() - started


class Echo(Provider):
    async def generate(self, request: ProviderRequest) -> ProviderReply:
        return ProviderReply(text="An answer of a few words, as they come.")


async def measure(messages: int, rounds: int) -> list[float]:
    """The framework's own microseconds in each respond, sorted, where so many messages are loaded."""
    adapter = Timed()
    async with connect(adapter, window=messages) as persistence:
        history = [Message("user" if number % 2 else "assistant", "x" * 200) for number in range(messages)]
        await persistence.save_session_state("s", create_session("s", history=history, data={"name": "Ana"}))
        own: list[float] = []
        for _ in range(rounds):
            agent = Agent(name="bench", provider=Echo(), persistence=persistence)
            adapter.spent = 0.0
            started = time.perf_counter()
            await agent.respond("A question of a few words", session_id="s")
            own.append((time.perf_counter() - started - adapter.spent) * 1e6)
    return sorted(own)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    rounds = parser.parse_args().rounds
    gc.disable()
    print(f"Python {platform.python_version()}, {sys.executable}")
    print(f"{'loaded':>8} {'best µs':>8} {'median µs':>10} {'budget µs':>10}")
    for messages in (0, 10, 50, 200):
        own = asyncio.run(measure(messages, rounds))
        best, median = own[len(own) // 20], own[len(own) // 2]
        print(f"{messages:>8} {best:>8.0f} {median:>10.0f} {BUDGET + BUDGET_PER_MESSAGE * messages:>10.0f}")


if __name__ == "__main__":
    main()
