"""The checkers of the process suites see every defect they are for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from turnkeep.contract import Expect
from turnkeep.memory import MemoryAdapter
from turnkeep_testkit import new_commit, new_key
from turnkeep_testkit.faults.racing import verify
from turnkeep_testkit.processes.ledger import Acknowledged, Ledger, Tried
from turnkeep_testkit.processes.racing import Deed

KEY = new_key()


async def write(adapter, ledger, *, turns=3, unheard=0):
    """Turns that are acknowledged, then one that is sent and not heard of."""
    expect = Expect.NEW
    for number in range(turns + unheard):
        commit_id = f"c{number}"
        commit = new_commit(KEY, f"question {number}", "answer", expect=expect, state=commit_id, commit_id=commit_id)
        ledger.note(Tried(commit, float(number)))
        if number < turns:
            committed = await adapter.commit(commit)
            ledger.note(Acknowledged(commit_id, committed))
            expect = committed.token
    return commit


async def test_what_was_acknowledged_and_is_there_passes():
    adapter, ledger = MemoryAdapter(), Ledger()
    await write(adapter, ledger)
    await ledger.verify(adapter)
    assert ledger.began("c1") == 1.0


@pytest.mark.parametrize("landed", [True, False])
async def test_what_nobody_heard_of_is_sent_again(landed):
    adapter, ledger = MemoryAdapter(), Ledger()
    last = await write(adapter, ledger, unheard=1)
    assert ledger.unheard == 1
    if landed:
        await adapter.commit(last)
    assert await ledger.settle(adapter) == landed
    assert ledger.unheard == 0
    await ledger.verify(adapter)
    assert len(ledger.acknowledged) == 4


class Tampered(MemoryAdapter):
    def __init__(self, tamper):
        super().__init__()
        self._tamper = tamper

    async def load(self, key, query):
        return self._tamper(await super().load(key, query))


def renumbered(stored, messages):
    head = replace(stored.head, last_seq=len(messages))
    return replace(stored, head=head, messages=tuple(m._replace(seq=n) for n, m in enumerate(messages, 1)))


TAMPERS = {
    "is not there": lambda stored: None,
    "a gap": lambda stored: replace(stored, messages=stored.messages[:2] + stored.messages[4:]),
    "acknowledged turns are lost": lambda stored: renumbered(stored, stored.messages[:4]),
    "a torn turn": lambda stored: renumbered(stored, stored.messages[:5]),
    "there twice": lambda stored: renumbered(
        stored, [*stored.messages, *(m._replace(turn_seq=7) for m in stored.messages[4:])]
    ),
    "that nobody wrote": lambda stored: renumbered(
        stored, [*stored.messages, stored.messages[0]._replace(turn_seq=7, commit_id="other")]
    ),
    "the order of their versions": lambda stored: renumbered(
        stored, stored.messages[2:4] + stored.messages[:2] + stored.messages[4:]
    ),
    "the state is not": lambda stored: replace(stored, state="c1"),
}


@pytest.mark.parametrize("defect", TAMPERS)
async def test_the_ledger_sees(defect):
    adapter, ledger = Tampered(TAMPERS[defect]), Ledger()
    await write(adapter, ledger)
    with pytest.raises(AssertionError, match=defect):
        await ledger.verify(adapter)


def deed(kind, version, began, ended, incarnation="a"):
    return Deed(kind, "s", incarnation, version, began, ended)


LIFE = [deed("create", 1, 0, 1), deed("commit", 2, 2, 3), deed("load", 2, 4, 5), deed("delete", 2, 6, 7)]
RACES = {
    "the same version": deed("commit", 2, 2.5, 3.5),
    "after its delete": deed("load", 2, 8, 9),
    "deleted twice": deed("delete", 2, 6.5, 7.5),
    "older than what": deed("load", 1, 4, 5),
    "went on after the next": [deed("create", 1, 4, 5, "b"), deed("load", 2, 5.5, 5.8)],
}


def test_calls_in_order_pass_however_they_overlap():
    verify([*LIFE, deed("commit", 3, 2.5, 6.5), deed("load", 3, 5.5, 6), deed("create", 1, 6.9, 9, "b")])


@pytest.mark.parametrize("defect", RACES)
def test_the_race_is_seen(defect):
    more = RACES[defect] if isinstance(RACES[defect], list) else [RACES[defect]]
    with pytest.raises(AssertionError, match=defect):
        verify([*LIFE, *more])
