"""The requests that are sent, and what their answers mean."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import quote

from opensearchpy.exceptions import ConnectionError as ConnectionFailed
from opensearchpy.exceptions import ConnectionTimeout

from turnkeep_opensearch._errors import CONFLICT, INDEX_EXISTS, NO_DOCUMENT, as_object, is_unsent, kind_of, refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from opensearchpy import AsyncOpenSearch

    from turnkeep.outbox.items import Document

Refresh = Literal["false", "wait_for", "true"]

PRIMARY: Final = {"preference": "_primary"}
"""Reads ask the copy that decides over writes. A search that always asks the same copy never goes back in time."""

_WHOLE: Final = {**PRIMARY, "allow_partial_search_results": "false"}
_UNCOUNTED: Final = {"track_total_hits": False}

_MOST_RERUNS: Final = 3
"""How often the server runs an update again because another one came in between."""


class Updated(NamedTuple):
    """What became of an update."""

    done: bool
    """It was not a noop."""
    source: Document
    """The fields that were asked for, as the script left them."""


class Calls:
    """A client, and what is asked of it.

    Args:
        client: the driver's.
        tries: how often a request is sent if the connection is lost. What is written can be sent twice: it takes effect
            once. An attempt that may have reached the server is never told as one that has not.
        refresh: whether writes wait until searches find them.
    """

    def __init__(self, client: AsyncOpenSearch, *, tries: int = 1, refresh: Refresh = "false") -> None:
        self._client = client
        self._tries = tries
        self._refresh = refresh

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        *,
        expected: Collection[str] = (),
        ignore: Collection[int] = (),
    ) -> Any:
        """The answer. One with a status of ``ignore`` is given back too, unless its error is none of ``expected``."""
        text = body if body is None or type(body) is str else dump(body)
        told: ConnectionFailed | None = None
        for attempt in range(1, self._tries + 1):
            try:
                answer = await self._client.transport.perform_request(
                    method, path, params=dict(params or {}), body=text, ignore=tuple(ignore)
                )
            except ConnectionTimeout:
                raise
            except ConnectionFailed as error:
                told = error if told is None or is_unsent(told) else told
                if attempt == self._tries:
                    raise told from None
            else:
                return _checked(answer, expected)
        raise AssertionError("unreachable")

    async def get(self, index: str, name: str, *, without: Sequence[str] = ()) -> Document | None:
        """A document as it is now; None if there is none."""
        excluded = {"_source_excludes": ",".join(without)} if without else {}
        path = f"/{index}/_doc/{quote(name, safe='')}"
        answer = await self.send("GET", path, params={**PRIMARY, **excluded}, ignore=(404,))
        return answer["_source"] if answer["found"] else None

    async def get_many(self, index: str, names: Sequence[str], *, without: Sequence[str] = ()) -> list[Document | None]:
        """These documents as they are now, in this order; None for each that is not there."""
        if not names:
            return []
        source = {"excludes": list(without)} if without else True
        docs = [{"_id": name, "_source": source} for name in names]
        answer = await self.send("POST", f"/{index}/_mget", {"docs": docs}, PRIMARY)
        return [_found(document) for document in answer["docs"]]

    async def create(self, index: str, name: str, document: Document) -> bool:
        """Writes a document, unless there is one of this name."""
        path = f"/{index}/_create/{quote(name, safe='')}"
        # No PUT: aiohttp sends those again by itself.
        answer = await self.send("POST", path, document, self._writing(), ignore=(409,), expected=(CONFLICT,))
        return "error" not in answer

    async def update(
        self, index: str, name: str, script: str, params: Document, *, told: Sequence[str] = ()
    ) -> Updated:
        """Runs a script on a document; a document that is not there, or was changed all the time, is a noop."""
        body = {"script": {"source": script, "lang": "painless", "params": params}}
        asked = {"_source": ",".join(told)} if told else {}
        answer = await self.send(
            "POST",
            f"/{index}/_update/{quote(name, safe='')}",
            body,
            {**self._writing(), **asked, "retry_on_conflict": str(_MOST_RERUNS)},
            ignore=(404, 409),
            expected=(NO_DOCUMENT, CONFLICT),
        )
        if "error" in answer:
            return Updated(done=False, source={})
        return Updated(answer["result"] != "noop", answer.get("get", {}).get("_source", {}))

    async def bulk(self, index: str, lines: Iterable[Document], *, expected: Collection[int]) -> list[Document]:
        """Carries out each line; the outcomes. One whose status is neither good nor expected is raised."""
        text = "".join(f"{dump(line)}\n" for line in lines)
        answer = await self.send("POST", f"/{index}/_bulk", text, self._writing())
        items: list[Document] = [outcome for item in answer["items"] for outcome in item.values()]
        for item in items:
            if "error" in item and item["status"] not in expected:
                raise refusal(item["status"], item["error"])
        return items

    async def search(self, index: str, body: Document, params: Mapping[str, str] | None = None) -> Document:
        """What a search finds in all shards: one that does not answer is an error."""
        return await self.send("POST", f"/{index}/_search", {**_UNCOUNTED, **body}, {**_WHOLE, **(params or {})})

    async def search_several(self, *searches: tuple[str, Document, Mapping[str, str]]) -> list[Document]:
        """What each of these finds, given as ``search`` takes them: one request, carried out at the same time."""
        lines = [
            line
            for index, body, params in searches
            for line in ({"index": index, **_WHOLE, **params}, {**_UNCOUNTED, **body})
        ]
        answer = await self.send("POST", "/_msearch", "".join(f"{dump(line)}\n" for line in lines))
        return [_checked(found, ()) for found in answer["responses"]]

    async def refresh(self, index: str) -> None:
        """Lets searches find what was written so far."""
        await self.send("POST", f"/{index}/_refresh")

    async def make_index(self, name: str, body: Document) -> bool:
        """Makes an index; False if there is one of this name."""
        answer = await self.send("PUT", f"/{name}", body, ignore=(400,), expected=(INDEX_EXISTS,))
        return "error" not in answer

    def _writing(self) -> dict[str, str]:
        return {"require_alias": "true", "refresh": self._refresh}


def dump(value: Any) -> str:
    """JSON on one line; dates in ISO's form."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_write_date)


def _write_date(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a document")


def _checked(answer: Any, expected: Collection[str]) -> Any:
    """The answer, unless it is an error that was not expected."""
    found = as_object(answer)
    if "error" in found:
        failed = refusal(found["status"], found["error"])
        if kind_of(failed) not in expected:
            raise failed
    return answer


def _found(document: Document) -> Document | None:
    if "error" in document:
        raise refusal(503, document["error"])
    return document["_source"] if document["found"] else None
