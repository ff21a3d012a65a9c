"""All that a network does to an adapter."""

from __future__ import annotations

from turnkeep_testkit.faults.counting import WireCostSuite
from turnkeep_testkit.faults.cutting import CutConnectionSuite
from turnkeep_testkit.faults.mixing import MixedReplySuite
from turnkeep_testkit.faults.stalling import StalledServerSuite


class NetworkFaultSuite(CutConnectionSuite, StalledServerSuite, MixedReplySuite, WireCostSuite):
    """For adapters of servers: cut, silent and slow connections, late answers, round trips and bytes."""
