"""How large each test of faults and load is: every day, and in the campaign (``--turnkeep-campaign``).

The numbers T1 to T16 are those of the plan that the suites follow; the reference page lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """What is counted, and how many of it.

    Attributes:
        what: the unit.
        everyday: in every run.
        campaign: with ``--turnkeep-campaign``.
    """

    what: str
    everyday: int
    campaign: int


SIZES: Final = {
    "T1": Size("kills of a process that writes", 12, 200),
    "T2": Size("kills of the server", 1, 20),
    "T4": Size("turns, 40 % of them cut", 60, 400),
    "T5": Size("calls that are never answered", 12, 500),
    "T6": Size("cancelled calls, of two owners in turn", 20, 400),
    "T10": Size("turns of each of the processes on one session", 15, 250),
    "T15": Size("calls of each of the processes on a few sessions", 80, 2000),
    "T16": Size("processes killed while they open an empty store", 5, 50),
}
