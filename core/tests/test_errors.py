from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

from turnkeep import errors
from turnkeep.contract import Capability, Token
from turnkeep.errors import StorageError, TurnkeepError

CLASSES = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, TurnkeepError) and member.__module__ == errors.__name__
]
FIELDS = {
    "plugin": "acme",
    "hook": "on_startup",
    "session_id": "s-1",
    "missing": ("name", "guests"),
    "problems": {"guests": "not an int"},
    "commit_id": "c-1",
    "expected": Token("i", 1, "c"),
    "actual": Token("i", 2, "d"),
    "capability": Capability.SEARCH,
    "reason": "no index",
    "adapter": "memory",
    "operation": "commit",
    "retryable": True,
}


def example(cls):
    names = inspect.signature(cls.__init__).parameters if cls.__init__ is not Exception.__init__ else ()
    return cls("what went wrong", **{name: value for name, value in FIELDS.items() if name in names})


def drawn_tree():
    """(name, name of the parent) of every line of the drawing."""
    pairs, path = [], []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^([│├└─ ]*)([A-Z]\w+)(.*)$", line)
        if found is None or (not found[1] and found[2] != "TurnkeepError"):
            continue
        depth = len(found[1]) // 4
        path[depth:] = [found[2]]
        pairs.append((found[2], path[depth - 1] if depth else None, re.findall(r"\((\w+)\)", found[3])))
    return pairs


def test_the_drawing_is_the_tree():
    drawn = drawn_tree()
    assert {name for name, _, _ in drawn} == {cls.__name__ for cls in CLASSES}
    for name, parent, also in drawn:
        bases = getattr(errors, name).__bases__
        assert [base.__name__ for base in bases] == ([parent] if parent else ["Exception"]) + also, name


def test_the_drawing_tells_every_mixed_in_error():
    for cls in CLASSES:
        foreign = [base.__name__ for base in cls.__bases__ if not issubclass(base, TurnkeepError)]
        if cls is not TurnkeepError:
            assert foreign == next(also for name, _, also in drawn_tree() if name == cls.__name__)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_travel_between_processes(cls):
    error = example(cls)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is cls
        assert (again.args, str(again), vars(again)) == (error.args, str(error), vars(error))
    again = copy.deepcopy(error)
    assert (again.args, vars(again)) == (error.args, vars(error))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_errors_have_a_docstring_and_a_message(cls):
    assert cls.__doc__
    error = example(cls)
    assert str(error) == "what went wrong"
    assert repr(error).startswith(cls.__name__)
    with pytest.raises(cls):
        raise error


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if issubclass(cls, StorageError)], ids=lambda cls: cls.__name__)
def test_storage_errors_say_where_and_whether_to_repeat(cls):
    error = example(cls)
    assert error.adapter == "memory"
    assert isinstance(error.operation, str)
    assert isinstance(error.retryable, bool)


def test_what_can_be_repeated():
    retryable = {cls.__name__ for cls in CLASSES if issubclass(cls, StorageError) and cls.retryable}
    assert retryable == {"StorageUnavailable", "StorageTimeout", "CommitOutcomeUnknown", "SessionConflict"}
    assert StorageError("x", retryable=True).retryable is True
    assert errors.StorageUnavailable("x", retryable=False).retryable is False
    assert StorageError.retryable is False


def test_builtin_families():
    assert issubclass(errors.SessionNotFound, LookupError)
    assert issubclass(errors.InvalidArgument, ValueError)
    assert issubclass(errors.MissingDriver, ImportError)
    with pytest.raises(ValueError, match="x"):
        raise errors.InvalidArgument("x")


def test_missing_is_kept_as_a_tuple():
    assert errors.DataIncomplete("x", missing=iter(["a", "b"])).missing == ("a", "b")
