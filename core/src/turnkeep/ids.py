"""Identifiers: how they are made, and what is taken as one."""

from __future__ import annotations

import base64
import os
import re
import time

from turnkeep.codec import is_plain
from turnkeep.errors import InvalidArgument

_NAMESPACE = re.compile(r"[a-z0-9_.-]{1,64}\Z")
_COMMIT_ID = re.compile(r"[!-~]{1,64}\Z")


def create_session_id(prefix: str = "session") -> str:
    """A new session id: the prefix, ``_`` and 160 random bits in base32 (32 characters, no padding)."""
    return f"{prefix}_{base64.b32encode(os.urandom(20)).decode('ascii').lower()}"


def new_id() -> str:
    """A new id for a message or a commit: a UUID of version 7 (RFC 9562) in 32 hexadecimal digits.

    Ids made later sort later, to the millisecond; nothing relies on it but the locality of database indexes.
    """
    noise = os.urandom(10).hex()
    variant = "89ab"[int(noise[3], 16) & 3]  # the two highest bits of this digit say: RFC 9562
    return f"{time.time_ns() // 1_000_000:012x}7{noise[:3]}{variant}{noise[4:19]}"


def check_id(value: object, what: str, *, limit: int = 512) -> str:
    """``value`` itself, if it can be an id on every database: a ``str`` of 1 to ``limit`` bytes of UTF-8, no NUL.

    Raises:
        InvalidArgument: it cannot.
    """
    if type(value) is not str:
        raise InvalidArgument(f"{what} must be a str, not {type(value).__name__}")
    if not is_plain(value):
        raise InvalidArgument(f"{what} has a NUL or a lone surrogate, which not every database can hold: {value!r:.80}")
    # A character is one to four bytes: most ids are decided without encoding them.
    size = len(value)
    if not 0 < size <= limit or (size * 4 > limit and len(value.encode()) > limit):
        raise InvalidArgument(f"{what} must be 1 to {limit} bytes of UTF-8, this one has {len(value.encode())}")
    return value


def check_optional_id(value: object, what: str, *, limit: int = 512) -> str | None:
    """As ``check_id``, but None stays None."""
    return None if value is None else check_id(value, what, limit=limit)


def check_namespace(value: object) -> str:
    """``value`` itself, if it is a namespace: ``[a-z0-9_.-]``, 1 to 64 characters.

    Raises:
        InvalidArgument: it is not.
    """
    if type(value) is not str or not _NAMESPACE.match(value):
        raise InvalidArgument(f"a namespace is 1 to 64 of the characters a-z 0-9 _ . -, not {value!r:.80}")
    return value


def check_commit_id(value: object) -> str:
    """``value`` itself, if it can be a commit id: 1 to 64 printable ASCII characters without blanks.

    Raises:
        InvalidArgument: it cannot.
    """
    if type(value) is not str or not _COMMIT_ID.match(value):
        raise InvalidArgument(f"a commit id is 1 to 64 printable ASCII characters without blanks, not {value!r:.80}")
    return value


_TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")


def check_identifier(value: object, what: str) -> str:
    """``value`` itself, if it can name a table, index, collection or column: a letter or ``_``, then 62 more at most.

    Raises:
        InvalidArgument: it cannot.
    """
    if type(value) is not str or not _TABLE_NAME.match(value):
        raise InvalidArgument(
            f"{what} must be 1 to 63 letters, digits and _, and not begin with a digit, not {value!r:.80}"
        )
    return value
