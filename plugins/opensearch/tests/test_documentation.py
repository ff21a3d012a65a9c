"""What the documentation says of the documents and of the options."""

import re
from datetime import timedelta
from pathlib import Path

from turnkeep.contract import Expect
from turnkeep_opensearch.clients import DRIVER_OPTIONS
from turnkeep_opensearch.mappings import properties, words
from turnkeep_opensearch.names import RECORD
from turnkeep_testkit import new_commit, new_key, new_message

from .kit import everything, opened

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "reference/opensearch.md").read_text()
GUIDE = (DOCS / "how-to/opensearch.md").read_text()
MESSAGE = new_message(
    "x\0",
    role="assistant",
    name="Ana",
    tool_calls="[]",
    tool_call_id="t",
    route="r",
    step="s",
    event="{}",
    metadata="{}",
    reply="{}",
)
OWN = {"session": "keyword", "namespace": "keyword", "session_id": "keyword", "incarnation": "keyword"}
OWN |= {"user_id": "keyword", "words": "text"}


def rows(heading):
    """Each name in the first column of a section's table, with what the last one says of it."""
    section = PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    found = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            first, *_, last = (cell.strip() for cell in line.strip("|").split("|"))
            names = re.findall(r"`(\w+)`", first)
            said = [cell.strip() for cell in last.split(", ")]
            found |= dict(zip(names, said * len(names) if len(said) == 1 else said, strict=True))
    return found


async def test_every_field_is_told(cluster_url, names, client):
    async with opened(cluster_url, names) as adapter:
        key = new_key()
        await adapter.commit(
            new_commit(key, *[MESSAGE] * 15, "plain", ttl=timedelta(days=1), message_ttl=timedelta(days=1))
        )
        await adapter.commit(new_commit(key, "x", expect=Expect.ANY))
        found = await everything(client, names)
    record = found["sessions"].pop(RECORD)
    (head,) = found["sessions"].values()
    assert set(head) | {"_id"} == set(rows("Heads"))
    assert set(head["tail"][0]) == set(rows("Messages"))
    assert set().union(*found["messages"].values()) == set(rows("Messages")) | set(OWN)
    assert all(f"`{name}`" in PAGE for name in OWN)
    assert f"`{RECORD}`" in PAGE
    assert f"`{{{', '.join(record)}}}`" in PAGE


def test_how_every_field_is_indexed_is_told():
    kinds = {"keyword": "keyword", "long": "long", "date": "date", "text": "text"}
    for kind, heading in (("sessions", "Heads"), ("messages", "Messages")):
        told = {name: said for name, said in rows(heading).items() if said not in {"", "no"}}
        mapped = properties(None)[kind] | words(None).get(kind, {})
        marks = {"marks": "`leaves_us`"} if kind == "sessions" else {}
        expected = {name: kinds[field["type"]] for name, field in mapped.items() if field.get("type") in kinds} | marks
        for name, field in OWN.items() if kind == "messages" else [("buried", "keyword")]:
            assert expected.pop(name) == field
        assert told == expected


def test_every_option_is_told():
    table = GUIDE.partition("## Connect")[2].partition("\n## ")[0]
    shown = {name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`([\w.…]+)`", line)}
    ours = {"indices.sessions", "indices.messages", "auto_create_indices", "refresh", "settings.…", "analyzer"}
    assert {*DRIVER_OPTIONS, *ours, "index_templates", "max_retries"} <= shown
