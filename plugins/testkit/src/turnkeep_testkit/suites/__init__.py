"""The adapter suites, one theme each. ``AdapterSuite`` is all of them."""

from __future__ import annotations

from turnkeep_testkit.suites.atomic import AtomicTurnSuite
from turnkeep_testkit.suites.base import Suite, starts_closed
from turnkeep_testkit.suites.cancel import CancellationSuite
from turnkeep_testkit.suites.capabilities import CapabilitySuite
from turnkeep_testkit.suites.concurrency import ConcurrencySuite
from turnkeep_testkit.suites.create import CreateSuite
from turnkeep_testkit.suites.delete import DeleteSuite
from turnkeep_testkit.suites.exact import ExactnessSuite
from turnkeep_testkit.suites.expiry import ExpirySuite
from turnkeep_testkit.suites.fresh import ReadYourWritesSuite
from turnkeep_testkit.suites.history import HistorySuite
from turnkeep_testkit.suites.idempotency import IdempotencySuite
from turnkeep_testkit.suites.isolation import IsolationSuite
from turnkeep_testkit.suites.lifecycle import LifecycleSuite
from turnkeep_testkit.suites.lists import ListSuite
from turnkeep_testkit.suites.order import OrderSuite
from turnkeep_testkit.suites.schema import SchemaSuite
from turnkeep_testkit.suites.search import SearchSuite
from turnkeep_testkit.suites.stateful import StatefulSuite
from turnkeep_testkit.suites.swap import CompareAndSwapSuite
from turnkeep_testkit.suites.url import URLSuite

__all__ = [
    "AdapterSuite",
    "AtomicTurnSuite",
    "CancellationSuite",
    "CapabilitySuite",
    "CompareAndSwapSuite",
    "ConcurrencySuite",
    "CreateSuite",
    "DeleteSuite",
    "ExactnessSuite",
    "ExpirySuite",
    "HistorySuite",
    "IdempotencySuite",
    "IsolationSuite",
    "LifecycleSuite",
    "ListSuite",
    "OrderSuite",
    "ReadYourWritesSuite",
    "SchemaSuite",
    "SearchSuite",
    "StatefulSuite",
    "Suite",
    "URLSuite",
    "starts_closed",
]


class AdapterSuite(
    LifecycleSuite,
    URLSuite,
    SchemaSuite,
    AtomicTurnSuite,
    CompareAndSwapSuite,
    IdempotencySuite,
    CreateSuite,
    OrderSuite,
    ReadYourWritesSuite,
    HistorySuite,
    ListSuite,
    DeleteSuite,
    ExpirySuite,
    IsolationSuite,
    ExactnessSuite,
    ConcurrencySuite,
    CancellationSuite,
    CapabilitySuite,
    SearchSuite,
    StatefulSuite,
):
    """Everything an adapter has to show."""
