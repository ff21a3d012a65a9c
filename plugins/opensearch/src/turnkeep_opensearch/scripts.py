"""What the server runs to change a head: constant texts, so that each is compiled once; every value is a parameter.

A script sees the head as it is and decides; ``noop`` writes nothing, and the reply says so. OpenSearch runs the update
again if another one came in between.
"""

from __future__ import annotations

from typing import Final

_STALE: Final = """
    if (ctx._source.incarnation != params.incarnation || ctx._source.version != params.version
            || ctx._source.last_commit != params.last_commit) {
        ctx.op = 'noop';
        return;
    }
"""
"""A grave has no version."""

_BEHIND: Final = f"""{_STALE}
    if (ctx._source.flushed > params.fields.flushed) {{
        ctx.op = 'noop';
        return;
    }}
"""
"""Neither may who writes forget documents that a search wrote since it read: they would be nobody's to remove."""

SWAP: Final = f"""{_BEHIND}
    ctx._source.putAll(params.fields);
    ctx._source.recent.add(params.line);
    while (ctx._source.recent.size() > params.past) {{
        ctx._source.recent.remove(0);
    }}
    ctx._source.tail.addAll(params.items);
    int gone = ctx._source.tail.size() - params.kept;
    if (gone > 0) {{
        ctx._source.tail = ctx._source.tail.subList(gone, ctx._source.tail.size());
    }}
"""
"""Writes a commit; what leaves the tail is cut off at its old end, if a sweep has not done that already.

``attempt`` tells whose the last commit is, should the same request arrive twice.
"""

TRIM: Final = f"""{_BEHIND}
    ctx._source.putAll(params.fields);
    ctx._source.tail.removeIf(item -> item.seq <= params.fields.floor);
"""
"""Writes what has left the history, and which messages have documents."""

BURY: Final = """
    if (ctx._source.incarnation != params.incarnation || ctx._source.buried != null
            || (params.version != null && (ctx._source.version != params.version
                || ctx._source.last_commit != params.last_commit))) {
        ctx.op = 'noop';
        return;
    }
    def erased = ctx._source.erased;
    def last_seq = ctx._source.last_seq;
    ctx._source.clear();
    ctx._source.putAll(params.grave);
    ctx._source.erased = erased;
    ctx._source.last_seq = last_seq;
"""
"""Puts a grave in place of a head. ``buried`` tells whose it is, should the same request arrive twice."""

REMOVE: Final = """
    ctx.op = ctx._source.buried != null && ctx._source.incarnation == params.incarnation ? 'delete' : 'noop';
"""
"""Removes a grave."""

MOVE_RECORD: Final = """
    if (ctx._source.version >= params.version) {
        ctx.op = 'noop';
        return;
    }
    ctx._source.version = params.version;
"""
"""Writes the version of our indices, when a migration has brought them there."""

MARK_PLACE: Final = """
    ctx._source.after = params.after;
"""
"""Writes where a sweep stopped looking."""

TELL_TIME: Final = """
    ctx._source.now = ctx._now;
    ctx.op = 'noop';
"""
"""Writes nothing; ``now``, in milliseconds since 1970, is in the reply alone."""
