"""What goes wrong outside an adapter: networks, processes that are killed, driver calls that fail."""

from __future__ import annotations

from turnkeep_testkit.faults.addresses import address_of, redirected
from turnkeep_testkit.faults.cuts import Cut, Strike
from turnkeep_testkit.faults.network import NetworkFaultSuite
from turnkeep_testkit.faults.proxy import FaultProxy
from turnkeep_testkit.faults.traffic import Traffic

__all__ = ["Cut", "FaultProxy", "NetworkFaultSuite", "Strike", "Traffic", "address_of", "redirected"]
