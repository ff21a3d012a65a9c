"""The pytest plugin: options, and plain asserts in the suites that explain themselves.

It imports nothing of the kit until a test asks for it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from turnkeep_testkit.making import FakeClock

# Not the package itself: it is imported by now, and pytest would warn.
pytest.register_assert_rewrite("turnkeep_testkit.suites", "turnkeep_testkit.stateful")

_SUITES = "turnkeep_testkit.suites.base"


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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fails a test of the kit that is skipped or excused by a mark without a reason, before the mark takes effect."""
    if not _is_of_the_kit(item):
        return
    from turnkeep_testkit.excuses import missing_reason

    if mark := missing_reason(item.iter_markers()):
        pytest.fail(f"the mark `{mark}` on a test of turnkeep-testkit needs a reason=…", pytrace=False)


@pytest.fixture
def turnkeep_clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    from turnkeep_testkit.making import FakeClock

    return FakeClock()


def _is_of_the_kit(item: pytest.Item) -> bool:
    """Whether it is a test that a suite brought. Where no suite was imported there is none, and nothing to import."""
    if _SUITES not in sys.modules or not isinstance(item, pytest.Function):
        return False
    from turnkeep_testkit.excuses import kit_owner
    from turnkeep_testkit.suites.base import Suite

    owner: type | None = item.cls
    return owner is not None and issubclass(owner, Suite) and kit_owner(owner, item.originalname) is not None
