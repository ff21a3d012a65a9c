"""URLs of stores: ``scheme://user:password@host:port/path?option=value``.

An adapter takes the options it knows, one by one; what nobody took is refused by name. The password is never part of a
``repr`` or an error.
"""

from __future__ import annotations

import difflib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from turnkeep.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_MASKED = "***"
_LONGEST = timedelta(days=36_525)

T = TypeVar("T")


class StorageURL:
    """A parsed URL whose options are taken one by one.

    Attributes:
        scheme: in lower case.
        username: decoded, or None.
        password: decoded, or None.
        host: one name, or the comma-separated list that some drivers take; None where there is none.
        port: or None.
        path: decoded, with its leading slash; ``""`` where there is none.
    """

    def __init__(self, text: str) -> None:
        """Parses.

        Raises:
            InvalidArgument: it is no URL, or an option occurs twice.
        """
        if type(text) is not str or "://" not in text:
            raise InvalidArgument(
                "a store is named by a URL such as sqlite:///conversations.db, or given as an adapter"
            )
        try:
            parts = urlsplit(text)
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
            hosts = parts.netloc.rpartition("@")[2]
            self.port: int | None = None if "," in hosts else parts.port
        except ValueError:
            # The parser's own message may quote the password.
            raise InvalidArgument("this URL cannot be parsed; percent-encode special characters in its parts") from None
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            raise InvalidArgument("this URL has a control character; percent-encode it")  # urlsplit would drop it
        if parts.fragment:
            raise InvalidArgument("a store's URL has no #fragment; percent-encode a # in the password or path as %23")
        self.scheme: str = parts.scheme.lower()
        self.username: str | None = None if parts.username is None else unquote(parts.username)
        self.password: str | None = None if parts.password is None else unquote(parts.password)
        self.host: str | None = hosts if "," in hosts else parts.hostname
        self.path: str = unquote(parts.path)
        self._raw_path = parts.path
        self._hosts = hosts
        self._options: dict[str, str] = {}
        self._known: set[str] = set()
        for name, value in pairs:
            if name in self._options:
                raise InvalidArgument(f"the option {name!r:.80} occurs twice in the URL")
            self._options[name] = value

    def __repr__(self) -> str:
        return f"StorageURL({str(self)!r})"

    def __str__(self) -> str:
        """Without the password, and without option values, any of which may be secret."""
        user = "" if self.username is None and self.password is None else f"{quote(self.username or '', safe='')}"
        secret = f":{_MASKED}" if self.password is not None else ""
        at = "@" if user or secret else ""
        options = "&".join(f"{quote(name)}={_MASKED}" for name in self._options)
        return f"{self.scheme}://{user}{secret}{at}{self._hosts}{self._raw_path}{f'?{options}' if options else ''}"

    def take(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """The option's value, parsed, or the default where the URL does not have it.

        Raises:
            InvalidArgument: ``parse`` refused the value.
        """
        self._known.add(name)
        text = self._options.pop(name, None)
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError as error:
            raise InvalidArgument(f"the option {name} in the URL: {error}") from None

    def take_all(self, prefix: str) -> dict[str, str]:
        """Takes every option whose name begins so, by what follows in its name."""
        self._known.add(f"{prefix}…")
        names = [name for name in self._options if name.startswith(prefix)]
        return {name.removeprefix(prefix): self._options.pop(name) for name in names}

    def rest(self) -> dict[str, str]:
        """Takes every option that is left, for a driver that judges them itself."""
        left, self._options = self._options, {}
        return left

    def finish(self) -> None:
        """Refuses options that nobody took.

        Raises:
            InvalidArgument: there are some; the nearest known ones are named.
        """
        for name in self._options:
            self._refuse(name)

    def expect_no_location(self) -> None:
        """For schemes that only have options.

        Raises:
            InvalidArgument: the URL has a host, user or path.
        """
        if self._hosts or self.username or self.password or self.path not in {"", "/"}:
            raise InvalidArgument(f"{self.scheme}:// takes no host or path; each use makes a new store")

    def _refuse(self, name: str) -> NoReturn:
        near = difflib.get_close_matches(name, self._known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        known = ", ".join(sorted(self._known)) or "none"
        raise InvalidArgument(f"{self.scheme} URLs have no option {name!r:.80}{hint} Known: {known}")


def anchored(text: str) -> str:
    """A URL that names the same file from any working directory: ``sqlite:///here.db`` is relative to this one."""
    prefix = "sqlite:///"
    if not text.startswith(prefix) or text.startswith(f"{prefix}/"):
        return text
    path, mark, options = text.removeprefix(prefix).partition("?")
    return f"{prefix}/{quote(str(Path(unquote(path)).absolute()).lstrip('/'))}{mark}{options}" if path else text


def parse_text(text: str) -> str:
    """Any text but an empty one."""
    if not text:
        raise ValueError("must not be empty")
    return text


def parse_flag(text: str) -> bool:
    """True or false, in the usual spellings."""
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"must be true or false, not {text!r:.40}")


def parse_count(text: str) -> int:
    """A whole number, 0 or more."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"must be a whole number, not {text!r:.40}")
    return int(text)


def parse_seconds(text: str) -> timedelta:
    """A positive number of seconds."""
    try:
        return duration(float(text), "it")
    except (ValueError, OverflowError):
        raise ValueError(f"must be a positive number of seconds, not {text!r:.40}") from None


def duration(value: float | timedelta, what: str) -> timedelta:
    """Seconds or a ``timedelta`` as a positive ``timedelta``.

    Raises:
        InvalidArgument: it is not positive, or no duration at all.
    """
    if isinstance(value, timedelta):
        found = value
    elif type(value) in {int, float}:
        try:
            found = timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise InvalidArgument(f"{what} is not a usable duration: {value!r:.40}") from None
    else:
        raise InvalidArgument(f"{what} must be seconds or a timedelta, not {value!r:.40}")
    if not timedelta(0) < found <= _LONGEST:
        raise InvalidArgument(f"{what} must be positive and at most 100 years (None means for ever), not {value!r:.40}")
    return found
