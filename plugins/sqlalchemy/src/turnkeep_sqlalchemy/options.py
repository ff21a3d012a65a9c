"""URLs and options: from ``sqlalchemy+dialect+driver://…`` to an engine."""

from __future__ import annotations

import inspect
from collections import defaultdict
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import URL

from turnkeep.errors import InvalidArgument
from turnkeep.urls import parse_count, parse_flag, parse_seconds, parse_text
from turnkeep_sqlalchemy.columns import MYSQL
from turnkeep_sqlalchemy.tables import FIELDS, KINDS, MAPPED

if TYPE_CHECKING:
    from datetime import timedelta

    from turnkeep.urls import StorageURL

_PREFIX: Final = "sqlalchemy+"
_CONNECT_SECONDS: Final = 5.0
_TIMEOUTS: Final = {"psycopg": "connect_timeout", "asyncmy": "connect_timeout", "aiomysql": "connect_timeout"}
"""What drivers call the time that connecting may take; asyncpg and aiosqlite: ``timeout``."""


_OF_SQLITE: Final = frozenset({"cached_statements", "check_same_thread", "detect_types", "isolation_level", "timeout"})
_SSL: Final = frozenset({"ssl_ca", "ssl_capath", "ssl_cert", "ssl_check_hostname", "ssl_cipher", "ssl_key"})
_OF_DIALECTS: Final = {
    "asyncpg": frozenset({"prepared_statement_cache_size", "prepared_statement_name_func"}),
    "asyncmy": _SSL,
    "aiomysql": _SSL,
}
"""What SQLAlchemy itself takes from a URL beside the driver's options."""


class Read(NamedTuple):
    """What a URL says."""

    engine: URL
    settings: dict[str, Any]
    """For ``create_async_engine``."""
    adapter: dict[str, Any]
    """For the adapter."""


def read_url(url: StorageURL) -> Read:
    """Takes every option; what is not ours is the driver's.

    Raises:
        InvalidArgument: an option makes no sense.
    """
    mappings: defaultdict[str, dict[str, str | None]] = defaultdict(dict)
    for kind in MAPPED:
        for field in FIELDS[kind]:
            name = url.take(f"field_mappings.{kind}.{field}", str, None)
            if name is not None:
                mappings[kind][field] = name or None
    tables = {kind: url.take(f"tables.{kind}", parse_text, "") for kind in KINDS}
    adapter = {
        "tables": {kind: name for kind, name in tables.items() if name},
        "field_mappings": dict(mappings),
        "schema": url.take("schema", parse_text, None),
    }
    settings: dict[str, Any] = {}
    for option, parse in (("pool_size", parse_count), ("max_overflow", parse_count), ("pool_pre_ping", parse_flag)):
        value = url.take(option, parse, None)
        if value is not None:
            settings[option] = value
    for option in ("pool_timeout", "pool_recycle"):
        time: timedelta | None = url.take(option, parse_seconds, None)
        if time is not None:
            settings[option] = int(time.total_seconds()) if option == "pool_recycle" else time.total_seconds()
    connecting: timedelta | None = url.take("connect_timeout", parse_seconds, None)
    drivername = url.scheme.removeprefix(_PREFIX)
    dialect, _, driver = drivername.partition("+")
    if not driver:
        raise InvalidArgument(
            f"name the driver, too, and an async one: {_PREFIX}{dialect}+{_suggested(dialect)}://… not {url.scheme}://…"
        )
    if not url.path.strip("/"):
        raise InvalidArgument(f"a URL of {url.scheme} names a database: {url.scheme}://host/database")
    engine = URL.create(
        drivername, url.username, url.password, url.host, url.port, url.path[1:], _take_drivers(url, driver)
    )
    seconds = _CONNECT_SECONDS if connecting is None else connecting.total_seconds()
    settings["connect_args"] = _connect_args(driver, seconds)
    return Read(engine, settings, adapter)


def _take_drivers(url: StorageURL, driver: str) -> dict[str, str]:
    """The options that are the driver's. Who opens the URL refuses what is left; a driver does that late, or never."""
    known = _known_to(driver)
    if known is None:
        return url.rest()
    values = {name: url.take(name, str, None) for name in sorted(known)}
    return {name: value for name, value in values.items() if value is not None}


def _known_to(driver: str) -> frozenset[str] | None:
    """The names of a driver's options; None where they cannot be told, as that of a driver that is not installed."""
    try:
        if driver == "psycopg":
            from psycopg.pq import Conninfo

            return frozenset(option.keyword.decode() for option in Conninfo.get_defaults())
        if driver == "aiosqlite":
            return _OF_SQLITE
        found = frozenset(inspect.signature(import_module(driver).connect).parameters)
    except (ImportError, AttributeError, ValueError):
        return None
    return found | _OF_DIALECTS.get(driver, frozenset())


def engine_options(dialect: str) -> dict[str, Any]:
    """For an engine of our own: nothing that costs a round trip, and no conversation in an error."""
    options: dict[str, Any] = {"hide_parameters": True}
    if dialect in MYSQL or dialect == "postgresql":
        # Transactions are begun and ended explicitly; a read stands alone, and nothing is left to be rolled back.
        options |= {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None, "skip_autocommit_rollback": True}
        # Beyond the pool's size SQLAlchemy makes a connection for each call and closes it again: waiting is shorter.
        options |= {"pool_size": 10, "max_overflow": 0}
    return options


def _connect_args(driver: str, seconds: float) -> dict[str, Any]:
    name = _TIMEOUTS.get(driver, "timeout" if driver in {"asyncpg", "aiosqlite"} else "")
    if not name:
        return {}
    return {name: max(1, round(seconds)) if name == "connect_timeout" else seconds}


def _suggested(dialect: str) -> str:
    return {"postgresql": "psycopg", "mysql": "asyncmy", "mariadb": "asyncmy", "sqlite": "aiosqlite"}.get(
        dialect, "driver"
    )
