"""The same names, arguments and errors as ``turnkeep``, blocking: for Flask, Django, Celery, scripts and notebooks.

Everything runs on one event loop in one thread of its own; there is no second implementation. Plain-function hooks and
tools run in threads with the caller's context variables, so they may use this door; async ones await the asynchronous
API. After a fork the child opens anew what was opened from a URL. What was not closed is closed at interpreter exit.
"""

from turnkeep.sync.agent import Agent, ReplyStream
from turnkeep.sync.connecting import connect
from turnkeep.sync.paging import Page
from turnkeep.sync.persistence import Persistence
from turnkeep.sync.session import SessionManager, SessionTurn

__all__ = ["Agent", "Page", "Persistence", "ReplyStream", "SessionManager", "SessionTurn", "connect"]
