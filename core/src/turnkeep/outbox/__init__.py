"""Sessions as one document each, for stores that can swap one document atomically and no more.

The *head* of a session is a document with its state, its newest messages (the *tail*) and the commits it remembers. A
commit is one compare-and-swap of the head, a load of the newest messages one read of it. Older messages have documents
of their own: a message enters the tail with the commit that adds it, waits there as in an outbox, and leaves it only
after its document was written. So a turn needs no transaction, and the head stays small however long the session grows.

An adapter fills in two classes, ``SessionDocuments`` and ``MessageDocuments``; everything that decides is here.
"""

from __future__ import annotations

from turnkeep.outbox.clock import GivenClock, ServerClock
from turnkeep.outbox.ports import MessageDocuments, SessionDocuments
from turnkeep.outbox.settling import Settler
from turnkeep.outbox.store import Store
from turnkeep.outbox.sweeping import Sweeper
from turnkeep.outbox.tail import Bounds

__all__ = [
    "Bounds",
    "GivenClock",
    "MessageDocuments",
    "ServerClock",
    "SessionDocuments",
    "Settler",
    "Store",
    "Sweeper",
]
