"""What a database must do to keep conversations: the contract between Turnkeep and its adapters.

An adapter stores what it is handed, byte for byte, and decides one question atomically: does this commit take effect?
It knows no hooks, no agents, no tool calls, and never looks inside a document. Everything that travels through the
contract is immutable. ``judge`` and ``retention`` hold the decisions every adapter takes alike; an adapter that can run
Python inside its atomic step calls them, one that cannot (SQL in one statement, Lua) says the same in its own language
and is held to it by the conformance suite.
"""

from turnkeep.contract.adapter import CONTRACT_VERSION, YOURS, StorageAdapter
from turnkeep.contract.capabilities import Capability, Level, Support
from turnkeep.contract.commits import (
    NO_CHANGE,
    PAST_COMMITS,
    UNCHANGED,
    Commit,
    Committed,
    Encoding,
    HeadChange,
    NewMessage,
    Status,
    Unchanged,
)
from turnkeep.contract.health import Check, HealthReport
from turnkeep.contract.identity import ANYONE, Anyone, Expect, Owner, Scope, SessionKey, Token
from turnkeep.contract.lists import (
    DayCount,
    Order,
    SearchHit,
    SearchPage,
    SearchQuery,
    SessionPage,
    SessionQuery,
    Stats,
    StatsQuery,
)
from turnkeep.contract.loads import (
    WIDEN_LIMIT,
    Head,
    LoadQuery,
    MessagePage,
    MessageQuery,
    Replay,
    StoredMessage,
    StoredSession,
)
from turnkeep.contract.removals import Erased, Swept

__all__ = [
    "ANYONE",
    "CONTRACT_VERSION",
    "NO_CHANGE",
    "PAST_COMMITS",
    "UNCHANGED",
    "WIDEN_LIMIT",
    "YOURS",
    "Anyone",
    "Capability",
    "Check",
    "Commit",
    "Committed",
    "DayCount",
    "Encoding",
    "Erased",
    "Expect",
    "Head",
    "HeadChange",
    "HealthReport",
    "Level",
    "LoadQuery",
    "MessagePage",
    "MessageQuery",
    "NewMessage",
    "Order",
    "Owner",
    "Replay",
    "Scope",
    "SearchHit",
    "SearchPage",
    "SearchQuery",
    "SessionKey",
    "SessionPage",
    "SessionQuery",
    "Stats",
    "StatsQuery",
    "Status",
    "StorageAdapter",
    "StoredMessage",
    "StoredSession",
    "Support",
    "Swept",
    "Token",
    "Unchanged",
]
