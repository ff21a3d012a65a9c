"""What the suites with several processes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from turnkeep_testkit.processes.children import preload
from turnkeep_testkit.suites.base import Suite

if TYPE_CHECKING:
    from turnkeep_testkit.processes.children import Factory

_HOW = """Override the fixture `adapter_factory` in your test class: a picklable function without arguments that builds
an adapter, not open yet. Other processes call it. Each test needs a store of its own, at first empty:

    class TestProcesses(ProcessFaultSuite):
        @pytest.fixture
        def adapter_factory(self, tmp_path):
            return functools.partial(MyAdapter, tmp_path / "store")

A URL works by `functools.partial(adapter_at, "mydb://127.0.0.1:1234/name")`, with `adapter_at` of this package. The
function may also return an async context manager that yields an open adapter."""


class ManyProcesses(Suite):
    """Base of the suites that start processes. In the test, ``adapter`` is one more over the same store."""

    factory: Factory

    @pytest.fixture
    def adapter_factory(self) -> Factory:
        """The adapter's author says here how another process builds one."""
        raise NotImplementedError(_HOW)

    @pytest.fixture
    def make_adapter(self, adapter_factory: Factory) -> Factory:  # pyright: ignore[reportIncompatibleMethodOverride] - fixtures ask for what they need
        """Builds the test's own adapter as the other processes build theirs."""
        return self.start_with(adapter_factory)

    def start_with(self, adapter_factory: Factory) -> Factory:
        """What ``prepare`` is given."""
        self.factory = adapter_factory
        preload(adapter_factory)
        return adapter_factory
