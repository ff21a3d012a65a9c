"""What goes wrong outside an adapter: networks, processes that are killed, driver calls that fail."""

from __future__ import annotations

from turnkeep_testkit.faults.addresses import adapter_at, address_of, redirected
from turnkeep_testkit.faults.contending import ContentionSuite
from turnkeep_testkit.faults.counting import WireCostSuite
from turnkeep_testkit.faults.cuts import Cut, Strike
from turnkeep_testkit.faults.cutting import CutConnectionSuite
from turnkeep_testkit.faults.driver import DriverCalls
from turnkeep_testkit.faults.failing import DriverFaultSuite
from turnkeep_testkit.faults.killing import KilledWriterSuite
from turnkeep_testkit.faults.mixing import MixedReplySuite
from turnkeep_testkit.faults.proxy import FaultProxy
from turnkeep_testkit.faults.racing import RaceSuite
from turnkeep_testkit.faults.stalling import StalledServerSuite
from turnkeep_testkit.faults.starting import StartSuite
from turnkeep_testkit.faults.traffic import Traffic

__all__ = [
    "ContentionSuite",
    "Cut",
    "CutConnectionSuite",
    "DriverCalls",
    "DriverFaultSuite",
    "FaultProxy",
    "KilledWriterSuite",
    "MixedReplySuite",
    "NetworkFaultSuite",
    "ProcessFaultSuite",
    "RaceSuite",
    "StalledServerSuite",
    "StartSuite",
    "Strike",
    "Traffic",
    "WireCostSuite",
    "adapter_at",
    "address_of",
    "redirected",
]


class NetworkFaultSuite(CutConnectionSuite, StalledServerSuite, MixedReplySuite, WireCostSuite):
    """For adapters of servers: cut, silent and slow connections, late answers, round trips and bytes."""


class ProcessFaultSuite(KilledWriterSuite, ContentionSuite, RaceSuite, StartSuite):
    """For stores that outlive a process: writers and servers that are killed, processes that compete and start."""
