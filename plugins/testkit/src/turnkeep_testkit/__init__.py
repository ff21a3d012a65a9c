"""For authors of Turnkeep adapters and applications: suites, faults, stores that fail, a scripted model, a clock."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from turnkeep_testkit.faults import (
        Cut,
        DriverCalls,
        DriverFaultSuite,
        FaultProxy,
        NetworkFaultSuite,
        ProcessFaultSuite,
    )
    from turnkeep_testkit.faulty import FaultyAdapter
    from turnkeep_testkit.making import FakeClock, new_commit, new_key, new_message, new_scope
    from turnkeep_testkit.recording import RecordedCall, RecordingAdapter
    from turnkeep_testkit.scripted import ScriptedProvider
    from turnkeep_testkit.suites import (
        AdapterSuite,
        AtomicTurnSuite,
        CancellationSuite,
        CapabilitySuite,
        CompareAndSwapSuite,
        ConcurrencySuite,
        CreateSuite,
        DeleteSuite,
        ExactnessSuite,
        ExpirySuite,
        HistorySuite,
        IdempotencySuite,
        IsolationSuite,
        LifecycleSuite,
        ListSuite,
        OrderSuite,
        ReadYourWritesSuite,
        SchemaSuite,
        SearchSuite,
        StatefulSuite,
        URLSuite,
    )
    from turnkeep_testkit.wrapping import WrappedAdapter

__all__ = [
    "AdapterSuite",
    "AtomicTurnSuite",
    "CancellationSuite",
    "CapabilitySuite",
    "CompareAndSwapSuite",
    "ConcurrencySuite",
    "CreateSuite",
    "Cut",
    "DeleteSuite",
    "DriverCalls",
    "DriverFaultSuite",
    "ExactnessSuite",
    "ExpirySuite",
    "FakeClock",
    "FaultProxy",
    "FaultyAdapter",
    "HistorySuite",
    "IdempotencySuite",
    "IsolationSuite",
    "LifecycleSuite",
    "ListSuite",
    "NetworkFaultSuite",
    "OrderSuite",
    "ProcessFaultSuite",
    "ReadYourWritesSuite",
    "RecordedCall",
    "RecordingAdapter",
    "SchemaSuite",
    "ScriptedProvider",
    "SearchSuite",
    "StatefulSuite",
    "URLSuite",
    "WrappedAdapter",
    "new_commit",
    "new_key",
    "new_message",
    "new_scope",
]

_ELSEWHERE = {
    "Cut": "faults",
    "DriverCalls": "faults",
    "DriverFaultSuite": "faults",
    "FakeClock": "making",
    "FaultProxy": "faults",
    "FaultyAdapter": "faulty",
    "NetworkFaultSuite": "faults",
    "ProcessFaultSuite": "faults",
    "RecordedCall": "recording",
    "RecordingAdapter": "recording",
    "ScriptedProvider": "scripted",
    "WrappedAdapter": "wrapping",
    "new_commit": "making",
    "new_key": "making",
    "new_message": "making",
    "new_scope": "making",
}
"""Where the names are that are not suites."""


def __getattr__(name: str) -> Any:
    # The pytest plugin imports this package before a suite's asserts can be rewritten, and pays for none of it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'suites')}"), name)


def __dir__() -> list[str]:
    return __all__
