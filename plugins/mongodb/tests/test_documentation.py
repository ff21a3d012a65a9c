"""What the documentation says of the documents."""

import json
import re
from datetime import timedelta
from pathlib import Path

from turnkeep.contract import Expect, Scope
from turnkeep_mongodb.schema import INDEXES
from turnkeep_testkit import new_commit, new_key, new_message

from .kit import everything, opened

PAGE = (Path(__file__).parents[3] / "docs/reference/mongodb.md").read_text()
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


def told(heading):
    """The names in the first column of a section's table."""
    section = PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for cell in first for name in re.findall(r"`(\w+)`", cell)}


async def test_every_field_is_told(replica_url, database, client):
    async with opened(replica_url, database) as adapter:
        key = new_key()
        await adapter.commit(new_commit(key, *[MESSAGE] * 16, ttl=timedelta(days=1), message_ttl=timedelta(days=1)))
        await adapter.commit(new_commit(key, "x", expect=Expect.ANY))
        found = await everything(client, database)
    (head,) = found["turnkeep_sessions"]
    assert set(head) == told("Heads")
    assert set(head["tail"][0]) == told("Messages")
    own = {"_id", "session", "namespace", "session_id", "incarnation"}
    assert set(found["turnkeep_messages"][0]) == told("Messages") | own
    assert all(f"`{name}`" in PAGE for name in own)


def test_every_index_is_told():
    rows = [line.split("|") for line in PAGE.splitlines() if "| `turnkeep_" in line]
    shown = [(row[1].strip(), row[2].strip(" `"), re.findall(r"\w+", row[3].partition("`, TTL")[0])) for row in rows]
    assert shown == [(index.collection, index.name, [key for key, _ in index.keys]) for index in INDEXES]


async def test_messages_can_be_queried_one_by_one(replica_url, database, client):
    """By the pipeline that the page shows: each message of every living history, once."""
    pipeline = json.loads(re.search(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[1])
    expected = set()
    async with opened(replica_url, database) as adapter:
        for owner, turns in (("ana", 3), ("bob", 40), (None, 20)):
            key = new_key(Scope("kit"), f"of {owner}")
            await adapter.commit(new_commit(key, user_id=owner))
            for number in range(turns):
                drop = owner is None and number == 15
                if drop:
                    expected = {place for place in expected if place[0] != key.session_id}
                done = await adapter.commit(
                    new_commit(key, f"q {number}", f"a {number}", expect=Expect.ANY, drop_history=drop)
                )
                expected |= {
                    (key.session_id, owner, done.first_seq, f"q {number}"),
                    (key.session_id, owner, done.last_seq, f"a {number}"),
                }
        stray = await client[database]["turnkeep_messages"].find_one({"session_id": "of bob"})
        await client[database]["turnkeep_messages"].insert_one(stray | {"_id": "x#1", "incarnation": "x"})
        sessions = client[database]["turnkeep_sessions"]
        found = await (await sessions.aggregate(pipeline)).to_list()
    rows = [(one["session_id"], one["user_id"], one["seq"], one["content"]) for one in found]
    assert len(rows) == len(set(rows))
    assert set(rows) == expected
