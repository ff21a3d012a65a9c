"""Lists of sessions and counts over them: queries over heads, each along an index that it names.

Named, because a planner may choose another one that sorts every session of a namespace; and because a missing index is
then an error that says so, and no list that takes minutes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pymongo import ASCENDING, DESCENDING

from turnkeep.contract import ANYONE, SessionPage
from turnkeep.cursors import page_of_heads, read_position
from turnkeep.outbox.records import STATUSES, read_record
from turnkeep.retention import from_microseconds, to_microseconds
from turnkeep.tallies import Group, add_up
from turnkeep_mongodb._errors import NAME
from turnkeep_mongodb.sessions import HEAD_ONLY, owned_by

if TYPE_CHECKING:
    from datetime import datetime

    from pymongo.asynchronous.collection import AsyncCollection

    from turnkeep.contract import Order, Scope, SessionQuery, Stats, StatsQuery
    from turnkeep_mongodb.names import Document


async def find_page(sessions: AsyncCollection[Document], query: SessionQuery, now: datetime) -> SessionPage:
    """The heads that follow the cursor."""
    condition, order = listing(query, now)
    by_index = index_of(query.scope, query.order)
    found = await sessions.find(condition, HEAD_ONLY).hint(by_index).sort(order).limit(query.limit + 1).to_list()
    return page_of_heads([read_record(document, now, NAME).head for document in found], query)


def listing(query: SessionQuery, now: datetime) -> tuple[Document, list[tuple[str, int]]]:
    """The condition and the order of a page."""
    stamp, direction = ("updated_us", DESCENDING) if query.order == "activity" else ("created_us", ASCENDING)
    condition = _living(query.scope, now)
    # An index leads through each status in order; the server merges what they yield.
    condition["status"] = query.status or {"$in": list(STATUSES)}
    if query.agent_name is not None:
        condition["agent_name"] = query.agent_name
    if query.route is not None:
        condition["current_route"] = query.route
    ranges: dict[str, Document] = {"updated_us": {}, stamp: {}}
    if query.older_than is not None:
        before = now - query.older_than if isinstance(query.older_than, timedelta) else query.older_than
        ranges["updated_us"]["$lt"] = to_microseconds(before)
    if query.cursor is not None:
        moment, last_id = read_position(query.cursor, query.order)
        last = to_microseconds(moment)
        beyond = "$lt" if direction == DESCENDING else "$gt"
        ranges[stamp][f"{beyond}e"] = last
        condition["$or"] = [{stamp: {beyond: last}}, {"session_id": {"$gt": last_id}}]
    condition |= {name: bounds for name, bounds in ranges.items() if bounds}
    return condition, [(stamp, direction), ("session_id", ASCENDING)]


async def count(sessions: AsyncCollection[Document], query: StatsQuery, now: datetime) -> Stats:
    """Counts over living sessions of the scope, added up by the server."""
    by_index = index_of(query.scope, "created")
    found = await (await sessions.aggregate(counting(query.scope, now), hint=by_index)).to_list()
    return add_up(_group(counted) for counted in found)


def _group(counted: Document) -> Group:
    kind = counted["_id"]
    oldest = from_microseconds(counted["oldest"])
    return Group(
        status=kind["status"],
        agent_name=kind["agent_name"],
        route=kind["current_route"],
        day=oldest.date(),  # as that of all the others of the group
        sessions=counted["sessions"],
        messages=counted["messages"],
        bytes=counted["bytes"],
        oldest=oldest,
        newest=from_microseconds(counted["newest"]),
    )


def counting(scope: Scope, now: datetime) -> list[Document]:
    """The aggregation of ``count``. Marks that have passed count as if they had been applied."""
    documents = {"$add": [{"$strLenBytes": "$collected_data"}, {"$strLenBytes": "$state"}]}
    gone = _after_marks("bytes", "$floor_bytes", now)
    text = {"$add": [documents, {"$subtract": ["$total_bytes", gone]}]}
    return [
        {"$match": _living(scope, now)},
        {
            "$group": {
                "_id": {
                    "status": "$status",
                    "agent_name": "$agent_name",
                    "current_route": "$current_route",
                    "day": {"$dateToString": {"date": "$created_at", "format": "%Y-%m-%d"}},
                },
                "sessions": {"$sum": 1},
                "messages": {"$sum": {"$subtract": ["$last_seq", _after_marks("seq", "$floor", now)]}},
                "bytes": {"$sum": text},
                "oldest": {"$min": "$created_us"},
                "newest": {"$max": "$updated_us"},
            }
        },
    ]


def _after_marks(field: str, stored: str, now: datetime) -> Document:
    """A field of the last mark that has passed, or what is stored where none has."""
    passed = {"$lte": ["$$this.leaves_us", to_microseconds(now)]}
    step = {"$cond": [passed, f"$$this.{field}", "$$value"]}
    return {"$reduce": {"input": "$marks", "initialValue": stored, "in": step}}


def index_of(scope: Scope, order: Order) -> str:
    """The name of the index that leads through the sessions of a scope in this order."""
    return f"turnkeep_{'' if scope.owner is ANYONE else 'owner_'}{order}"


def _living(scope: Scope, now: datetime) -> Document:
    # Not "$gt": a session that never expires has no such time.
    return {"namespace": scope.namespace, **owned_by(scope), "expires_us": {"$not": {"$lte": to_microseconds(now)}}}
