"""What OpenSearch indexes of our documents: the fields that are searched, sorted or added up, and nothing else.

``dynamic`` is false, and what may hold anything is switched off: a text there is kept as it is and never looked into.
So no data of an application can make new fields, meet a wrong type or be too long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from turnkeep_opensearch.wording import BUILT_IN

if TYPE_CHECKING:
    from turnkeep.outbox.items import Document

ANALYZER: Final = "standard"
"""Of contents, unless one is given: for queries of other programs."""

_KEYWORD: Final = {"type": "keyword", "ignore_above": 8191}  # characters; in UTF-8 at most what Lucene takes as a term
_LONG: Final = {"type": "long"}
_DATE: Final = {"type": "date", "format": "strict_date_optional_time", "ignore_malformed": True}
_OPAQUE: Final = {"type": "object", "enabled": False}


def _fields(names: str, kind: Document) -> dict[str, Document]:
    return dict.fromkeys(names.split(), kind)


SESSIONS: Final[dict[str, Any]] = {
    **_fields("namespace session_id user_id agent_name status current_route current_step incarnation buried", _KEYWORD),
    **_fields("created_at updated_at last_message_at completed_at expires_at sweep_at", _DATE),
    **_fields("created_us updated_us expires_us last_seq message_count waiting", _LONG),
    **_fields("data_bytes state_bytes total_bytes floor_bytes", _LONG),
    "marks": {"dynamic": "false", "properties": {"leaves_us": _LONG}},
    **_fields("collected_data state recent tail", _OPAQUE),
}
"""Of a head."""

MESSAGES: Final[dict[str, Any]] = {
    **_fields("namespace session_id session incarnation user_id id commit_id role name route step", _KEYWORD),
    "seq": _LONG,
    "created_at": _DATE,
    "created_us": _LONG,
    "bytes": _LONG,
    **_fields("tool_calls event metadata reply", _OPAQUE),
}
"""Of a message, beside its content."""


def properties(analyzer: str | None) -> dict[str, dict[str, Any]]:
    """The fields of each kind of index as the first version has them."""
    content = {"type": "text", "analyzer": analyzer or ANALYZER}
    return {"sessions": SESSIONS, "messages": {**MESSAGES, "content": content}}


def words(analyzer: str | None) -> dict[str, dict[str, Any]]:
    """The field that searches look at, which the second version adds."""
    return {"messages": {"words": {"type": "text", "analyzer": analyzer or BUILT_IN}}}
