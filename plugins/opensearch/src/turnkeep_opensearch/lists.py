"""Lists of sessions and counts over them: searches over heads, whose hits are read again as they are now."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from turnkeep.contract import ANYONE, Head, SessionPage
from turnkeep.cursors import make_cursor, read_position
from turnkeep.judge import is_live
from turnkeep.outbox.records import read_grave, read_record
from turnkeep.retention import from_microseconds, to_microseconds
from turnkeep.tallies import Group, add_up
from turnkeep_opensearch._errors import NAME
from turnkeep_opensearch.sessions import HEAD_ONLY, PAGE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from turnkeep.contract import Scope, SessionQuery, Stats, StatsQuery
    from turnkeep.outbox.items import Document
    from turnkeep_opensearch.calls import Calls
    from turnkeep_opensearch.sessions import Sessions

_SUMS: Final = ("message_count", "data_bytes", "state_bytes", "total_bytes", "floor_bytes")


async def find_page(calls: Calls, index: str, sessions: Sessions, query: SessionQuery, now: datetime) -> SessionPage:
    """The heads that follow the cursor, as they are now; a page may be short.

    The order is that of the last refresh: one that was committed to since stands where it stood.
    """
    hits = (await calls.search(index, listing(query, now)))["hits"]["hits"]
    page = hits[: query.limit]
    found = await sessions.read([hit["_id"] for hit in page])
    heads = [read_record(document, now, NAME).head for document in found if read_grave(document) is None]
    items = tuple(head for head in heads if _fits(head, query, now))
    if len(hits) <= query.limit:
        return SessionPage(items, None)
    stamp, last_id = page[-1]["sort"]
    return SessionPage(items, make_cursor(query.order, -stamp if query.order == "activity" else stamp, last_id))


def listing(query: SessionQuery, now: datetime) -> Document:
    """The search for a page, and for one hit more."""
    stamp, direction = ("updated_us", "desc") if query.order == "activity" else ("created_us", "asc")
    named = {"status": query.status, "agent_name": query.agent_name, "current_route": query.route}
    conditions: list[Document] = [{"term": {name: value}} for name, value in named.items() if value is not None]
    if query.older_than is not None:
        conditions.append({"range": {"updated_us": {"lt": to_microseconds(_before(query.older_than, now))}}})
    body: Document = {
        "query": living(query.scope, now, conditions),
        "sort": [{stamp: direction}, {"session_id": "asc"}],
        "size": query.limit + 1,
        "_source": False,
    }
    if query.cursor is not None:
        moment, last_id = read_position(query.cursor, query.order)
        body["search_after"] = [to_microseconds(moment), last_id]
    return body


def _fits(head: Head, query: SessionQuery, now: datetime) -> bool:
    """Whether a head, as it is now, is one of those asked for."""
    return (
        is_live(head, now)
        and query.scope.sees(head.user_id)
        and query.status in (None, head.status)
        and query.agent_name in (None, head.agent_name)
        and query.route in (None, head.current_route)
        and (query.older_than is None or head.updated_at < _before(query.older_than, now))
    )


def _before(older_than: datetime | timedelta, now: datetime) -> datetime:
    return now - older_than if isinstance(older_than, timedelta) else older_than


async def count(calls: Calls, index: str, query: StatsQuery, now: datetime) -> Stats:
    """Counts over living sessions of the scope, added up by the server, after a refresh.

    Where messages have left by age and nothing was committed since, the head does not count so yet: these sessions are
    looked at one by one.
    """
    await calls.refresh(index)
    groups = [_to_group(found) async for found in _groups(calls, index, query.scope, now)]
    async for document in _aged(calls, index, query.scope, now):
        record = read_record(document, now, NAME)
        messages = record.head.message_count - document["message_count"]
        size = document["floor_bytes"] - record.floor_bytes
        groups.append(_group_of(record.head)._replace(messages=messages, bytes=size))
    return add_up(groups)


def _to_group(found: Document) -> Group:
    key, size = found["key"], {name: int(found[name]["value"]) for name in _SUMS}
    return Group(
        key["status"],
        key["agent_name"],
        key["current_route"],
        from_microseconds(key["day"] * 1000).date(),
        sessions=found["doc_count"],
        messages=size["message_count"],
        bytes=size["data_bytes"] + size["state_bytes"] + size["total_bytes"] - size["floor_bytes"],
        oldest=from_microseconds(int(found["oldest"]["value"])),
        newest=from_microseconds(int(found["newest"]["value"])),
    )


def _group_of(head: Head) -> Group:
    """The group of a session that is counted already."""
    day = head.created_at.date()
    place = (head.status, head.agent_name, head.current_route, day)
    return Group(*place, sessions=0, messages=0, bytes=0, oldest=head.created_at, newest=head.updated_at)


async def _groups(calls: Calls, index: str, scope: Scope, now: datetime) -> AsyncIterator[Document]:
    """The sessions of a scope by day of creation, status, agent and route."""
    named = {
        name: {"terms": {"field": name, "missing_bucket": True}} for name in ("status", "agent_name", "current_route")
    }
    day = {"date_histogram": {"field": "created_at", "calendar_interval": "day"}}
    sources = [{name: source} for name, source in ({"day": day} | named).items()]
    inner: Document = {name: {"sum": {"field": name}} for name in _SUMS}
    inner |= {"oldest": {"min": {"field": "created_us"}}, "newest": {"max": {"field": "updated_us"}}}
    composite: Document = {"size": PAGE, "sources": sources}
    body: Document = {"size": 0, "query": living(scope, now), "aggs": {"of": {"composite": composite, "aggs": inner}}}
    while True:
        found = (await calls.search(index, body))["aggregations"]["of"]
        for group in found["buckets"]:
            yield group
        if "after_key" not in found:
            return
        composite["after"] = found["after_key"]


async def _aged(calls: Calls, index: str, scope: Scope, now: datetime) -> AsyncIterator[Document]:
    """Heads of which messages have left by age since the last commit."""
    passed: Document = {"range": {"marks.leaves_us": {"lte": to_microseconds(now)}}}
    body: Document = {
        "query": living(scope, now, [passed]),
        "sort": [{"created_us": "asc"}, {"session_id": "asc"}],
        "size": PAGE,
        "_source": {"excludes": list(HEAD_ONLY)},
    }
    while True:
        hits = (await calls.search(index, body))["hits"]["hits"]
        for hit in hits:
            yield hit["_source"]
        if len(hits) < PAGE:
            return
        body["search_after"] = hits[-1]["sort"]


def living(scope: Scope, now: datetime, conditions: list[Document] | None = None) -> Document:
    """The condition of a session that is there and within the scope, and of whatever else is asked for."""
    required = [{"term": {"namespace": scope.namespace}}, {"exists": {"field": "status"}}, *(conditions or ())]
    excluded: list[Document] = [{"range": {"expires_us": {"lte": to_microseconds(now)}}}]
    if scope.owner is None:
        excluded.append({"exists": {"field": "user_id"}})
    elif scope.owner is not ANYONE:
        required.append({"term": {"user_id": scope.owner}})
    return {"bool": {"filter": required, "must_not": excluded}}
