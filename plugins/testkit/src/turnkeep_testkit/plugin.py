"""The pytest plugin: options, and plain asserts in the suites that explain themselves.

It imports nothing of the kit until a test asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from turnkeep_testkit.making import FakeClock

# Not the package itself: it is imported by now, and pytest would warn.
pytest.register_assert_rewrite("turnkeep_testkit.suites", "turnkeep_testkit.stateful")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--turnkeep-campaign``."""
    group = parser.getgroup("turnkeep", "Turnkeep adapters")
    group.addoption(
        "--turnkeep-campaign",
        dest="turnkeep_campaign",
        action="store_true",
        default=False,
        help="run the adapter suites at full size (minutes to hours) instead of the everyday one",
    )


@pytest.fixture
def turnkeep_clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    from turnkeep_testkit.making import FakeClock

    return FakeClock()
