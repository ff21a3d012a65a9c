"""What redis-py raises and servers answer, as errors of ours: every class, every code, and nothing secret."""

import inspect

import pytest
from redis import exceptions

from turnkeep.errors import (
    CommitOutcomeUnknown,
    CorruptRecord,
    StorageError,
    StorageFull,
    StorageRefused,
    StorageTimeout,
    StorageUnavailable,
)
from turnkeep_redis._errors import CODES, MEANINGS, is_lost, outcome_unknown, translate

# Raised by what we do not use: locks, subscriptions, transactions, modules, other drivers' settings.
UNUSED = {
    "ChildDeadlockedError",
    "ClusterError",
    "CrossSlotTransactionError",
    "ExecAbortError",
    "ExternalAuthProviderError",
    "IncorrectPolicyType",
    "InvalidPipelineStack",
    "LockError",
    "LockNotOwnedError",
    "ModuleError",
    "MovedError",  # an AskError
    "NoSuchFieldsetError",
    "PubSubError",
    "WatchError",
}


def classes():
    return {
        name: found
        for name, found in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(found, Exception) and found.__module__ == exceptions.__name__
    }


def make(kind):
    if issubclass(kind, exceptions.AskError):
        return kind("3999 127.0.0.1:6381")
    return kind("what happened")


def test_every_class_of_the_driver_is_mapped_or_known_to_be_unused():
    mapped = {kind.__name__ for kind in MEANINGS}
    assert set(classes()) <= mapped | UNUSED, "redis-py has a new exception: say in _errors.py what it means"
    assert not mapped & UNUSED


@pytest.mark.parametrize("kind", list(MEANINGS), ids=lambda kind: kind.__name__)
def test_a_mapped_class(kind):
    error = make(kind)
    ours = translate(error, "load")
    assert type(ours) is MEANINGS[kind].error
    assert isinstance(ours, StorageError)
    assert ours.__cause__ is error
    assert (ours.adapter, ours.operation, ours.retryable) == ("redis", "load", MEANINGS[kind].retryable)


@pytest.mark.parametrize("form", ["{} rest", "ERR Error running script (call to f_1): @user_script:12: -{} rest", "{}"])
@pytest.mark.parametrize("code", list(CODES))
def test_a_code_is_found_wherever_a_server_puts_it(code, form):
    ours = translate(exceptions.ResponseError(form.format(code)), "commit")
    assert type(ours) is CODES[code].error
    assert CODES[code].says in str(ours)


def test_a_code_within_other_words_is_none():
    assert type(translate(exceptions.ResponseError("ERR BUSYBODY and xOOM"), "load")) is StorageError


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.ConnectionError("Connection closed by server."), StorageUnavailable),
        (ConnectionResetError(104, "reset"), StorageUnavailable),
        (exceptions.TimeoutError("Timeout reading"), StorageTimeout),
        (exceptions.OutOfMemoryError("command not allowed"), StorageFull),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), StorageRefused),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), CorruptRecord),
        (exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), StorageRefused),
    ],
)
def test_some_in_particular(error, expected):
    assert type(translate(error, "commit")) is expected


def test_what_the_server_quotes_is_not_told():
    error = exceptions.ResponseError("unknown command `AUTH`, with args beginning with: `hunter2`, `x`")
    ours = translate(error, "open")
    assert "hunter2" not in str(ours)
    assert ours.__cause__ is None


def test_other_errors_stay_what_they_are():
    for error in (KeyError("x"), StorageFull("x")):
        assert translate(error, "load") is error


def test_which_errors_mean_that_another_connection_may_do_better():
    for lost in (exceptions.ConnectionError("x"), ConnectionResetError(), BrokenPipeError()):
        assert is_lost(lost)
    for said in (
        exceptions.TimeoutError("x"),
        exceptions.AuthenticationError("x"),
        exceptions.BusyLoadingError("x"),
        exceptions.MaxConnectionsError("x"),
        exceptions.ResponseError("x"),
    ):
        assert not is_lost(said)


def test_an_unknown_outcome_names_the_commit():
    cause = exceptions.ConnectionError("gone")
    error = outcome_unknown(cause, "c1", "commit")
    assert type(error) is CommitOutcomeUnknown
    assert (error.commit_id, error.operation, error.__cause__, error.retryable) == ("c1", "commit", cause, True)
