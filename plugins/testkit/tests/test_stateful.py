"""The machine and its oracle agree on what has passed, also when the clock steps back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from turnkeep.contract import HeadChange
from turnkeep.memory import MemoryAdapter
from turnkeep_testkit import FakeClock
from turnkeep_testkit.bridge import Loop
from turnkeep_testkit.stateful import SessionMachine


class LooksAtItsMarksOnly(MemoryAdapter):
    """Reads leave the stored floor alone; a commit or a sweep moves it. As a database does it."""

    def _record(self, key):
        record = super()._record(key)
        return record and _copy(record)

    def _in(self, scope):
        return [_copy(record) for record in super()._in(scope)]


def _copy(record):
    return replace(record, messages=list(record.messages))


@pytest.fixture(params=[MemoryAdapter, LooksAtItsMarksOnly])
def machine(request):
    with Loop() as loop:
        adapter = request.param(clock=(clock := FakeClock()))

        class Stage:
            deadline = 10.0
            immediate_lists = has_stats = True
            adapters = (adapter, adapter)

        Stage.loop, Stage.clock = loop, clock
        machine = type("Machine", (SessionMachine,), {"stage": Stage()})()
        yield machine
        machine.teardown()


def create(machine, **times):
    defaults = {"messages": ["one"], "data": None, "state": None, "head": HeadChange(), "ttl": None}
    machine.create(writer=0, id="A", owner="ana", **defaults | {"message_ttl": None} | times)


def load(machine):
    machine.load(writer=0, id="A", owner="ana", window=None, asked=0)


@pytest.mark.parametrize("times", [{"ttl": 1}, {"message_ttl": 1}], ids=str)
@pytest.mark.parametrize("swept", [True, False])
@pytest.mark.parametrize("read", [True, False])
def test_what_has_passed_stays_away_when_the_clock_steps_back(machine, times, swept, read):
    create(machine, **times)
    machine.time_passes(minutes=60)
    if swept:
        machine.sweep(writer=1)
    if read:
        load(machine)
    machine.time_passes(minutes=-10)
    load(machine)
    machine.find(writer=0, owner="ana", limit=2, order="created", status=None, agent=None, route=None)
