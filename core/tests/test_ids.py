from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeep.errors import InvalidArgument
from turnkeep.ids import (
    check_commit_id,
    check_id,
    check_identifier,
    check_namespace,
    check_optional_id,
    create_session_id,
    new_id,
)
from turnkeep_testkit import hostile
from turnkeep_testkit.hostile import Place


def test_session_ids_have_160_random_bits():
    ids = {create_session_id() for _ in range(1000)}
    assert len(ids) == 1000
    for session_id in ids:
        assert re.fullmatch(r"session_[a-z2-7]{32}", session_id)
        check_id(session_id, "id")
    assert create_session_id("chat").startswith("chat_")


def test_new_ids_are_uuids_of_version_7():
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(ids)) == 1000
    for made in ids:
        assert re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", made)
        assert before <= int(made[:12], 16) <= after
        assert check_commit_id(made) == made


def test_later_ids_sort_later():
    first = new_id()
    time.sleep(0.002)
    assert new_id() > first


@pytest.mark.parametrize("case", hostile.cases(Place.ID, expect="exact"), ids=str)
def test_hostile_ids_are_taken_as_they_are(case):
    assert check_id(case.value, "id") is case.value or check_id(case.value, "id") == case.value


@pytest.mark.parametrize("case", hostile.cases(Place.ID, expect="refuse"), ids=str)
def test_hostile_ids_are_refused(case):
    with pytest.raises(InvalidArgument, match=r"^a session id ") as caught:
        check_id(case.value, "a session id")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("case", hostile.cases(Place.NAMESPACE, expect="refuse"), ids=str)
def test_hostile_namespaces_are_refused(case):
    with pytest.raises(InvalidArgument, match="namespace") as caught:
        check_namespace(case.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("case", hostile.cases(Place.COMMIT_ID, expect="refuse"), ids=str)
def test_hostile_commit_ids_are_refused(case):
    with pytest.raises(InvalidArgument, match="commit id") as caught:
        check_commit_id(case.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("case", hostile.cases(Place.IDENTIFIER), ids=str)
def test_hostile_identifiers_are_refused(case):
    with pytest.raises(InvalidArgument, match="a table name must be"):
        check_identifier(case.value, "a table name")


@pytest.mark.parametrize("value", ["default", "a", "0", "a.b-c_d", "n" * 64, "...", "-"])
def test_namespaces(value):
    assert check_namespace(value) == value


@pytest.mark.parametrize("value", ["A", "ä", "a b", "a/b", "a\n", "\na", "n" * 65, ""])
def test_what_is_no_namespace(value):
    with pytest.raises(InvalidArgument):
        check_namespace(value)


@pytest.mark.parametrize("value", ["x", "!", "~" * 64, "a/b:c;d'e\"f"])
def test_commit_ids(value):
    assert check_commit_id(value) == value


@pytest.mark.parametrize("value", ["sessions", "_", "a1", "Turnkeep_Messages", "t" * 63])
def test_identifiers(value):
    assert check_identifier(value, "a table name") == value


@given(st.text(st.characters(exclude_categories=[]), max_size=600))
def test_ids_are_1_to_512_bytes_without_nul_or_surrogates(text):
    good = "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)
    good = good and 1 <= len(text.encode()) <= 512
    try:
        assert check_id(text, "id") == text
    except InvalidArgument:
        assert not good
    else:
        assert good


@pytest.mark.parametrize(("size", "fits"), [(1, True), (7, True), (8, True), (9, False), (100, False)])
def test_a_smaller_limit(size, fits):
    if fits:
        check_id("x" * size, "id", limit=8)
    else:
        with pytest.raises(InvalidArgument, match="1 to 8 bytes"):
            check_id("x" * size, "id", limit=8)


def test_a_limit_counts_bytes():
    assert check_id("é" * 4, "id", limit=8)
    with pytest.raises(InvalidArgument, match="has 10"):
        check_id("é" * 5, "id", limit=8)


def test_optional_ids():
    assert check_optional_id(None, "user_id") is None
    assert check_optional_id("ana", "user_id") == "ana"
    for value in ("", 0, False, "\0"):
        with pytest.raises(InvalidArgument):
            check_optional_id(value, "user_id")
