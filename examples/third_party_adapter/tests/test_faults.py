"""Processes that are killed, that compete, and that start at once."""

from functools import partial

import pytest

from turnkeep_testkit import ProcessFaultSuite
from turnkeep_testkit.faults import adapter_at


class TestProcesses(ProcessFaultSuite):
    @pytest.fixture
    def adapter_factory(self, tmp_path):
        return partial(adapter_at, f"jsonl:///{tmp_path}/store")
