"""What lies in Redis, byte by byte: an interface, too. And constants that two languages hold."""

import re
from datetime import UTC, datetime, timedelta

from turnkeep.contract import PAST_COMMITS, Expect, HeadChange, Scope, SessionKey
from turnkeep.retention import MAX_MARKS
from turnkeep_redis.keys import Keys
from turnkeep_redis.scripts import COMMIT
from turnkeep_testkit import FakeClock, new_commit, new_message

from .kit import address, connected, from_url, new_prefix, opened

KEY = SessionKey(Scope("shop"), "s 1")


async def test_head_and_messages():
    url, prefix, clock = address("redis"), new_prefix(), FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    adapter = from_url(f"{url}?key_prefix={prefix}")
    adapter._clock = clock
    async with connected(url, decode_responses=True) as client, opened(adapter):
        message = new_message("Olá", id="m1", name="ana", metadata='{"a":1}', created_at=datetime(1, 1, 1, tzinfo=UTC))
        result = await adapter.commit(
            new_commit(KEY, "one", message, commit_id="c1", digest="the digest", user_id="ana", data='{"guests":4}')
        )
        clock.advance(1)
        head = HeadChange(status="completed", agent_name="desk", current_route="booking")
        ttls = {"ttl": timedelta(hours=2), "message_ttl": timedelta(hours=1)}
        await adapter.commit(new_commit(KEY, "two", expect=Expect.ANY, commit_id="c2", digest="d", head=head, **ttls))
        keys = Keys(prefix)
        found = await client.hgetall(keys.session(KEY)[0])
        calls = [found[f"commit:c{number}"].split(" ")[7] for number in (1, 2)]
        assert len(set(calls)) == 2
        items = await client.lrange(keys.session(KEY)[1], 0, -1)
        assert found == {
            "namespace": "shop",
            "session_id": "s 1",
            "user_id": "ana",
            "incarnation": result.token.incarnation,
            "version": "2",
            "last_commit": "c2",
            "status": "completed",
            "agent_name": "desk",
            "current_route": "booking",
            "collected_data": '{"guests":4}',
            "state": "{}",
            "last_seq": "3",
            "floor": "0",
            "base": "0",
            "created_at": "1767225600000000",
            "updated_at": "1767225601000000",
            "last_message_at": "1767225601000000",
            "completed_at": "1767225601000000",
            "expires_at": "1767232801000000",
            "marks": "3:1767229201000000",
            "bytes": str(sum(len(item.encode()) for item in items)),
            "commit@1": "c1",
            "commit@2": "c2",
            "commit:c1": f"1 1 1 1 2 2 1767225600000000 {calls[0]} the digest",
            "commit:c2": f"2 0 0 3 3 3 1767225601000000 {calls[1]} d",
        }
        assert items[1] == (
            '[1,"m1","user","Olá","plain","ana",null,null,null,null,null,"{\\"a\\":1}",null,-62135596800000000,"c1"]'
        )
        everyone = keys.everyone("shop", keys.shard("shop", "s 1"))
        for index in (everyone, keys.owner("shop", "ana")):
            assert await client.zrange(index.completed, 0, -1, withscores=True) == [("s 1", -1767225601000000.0)]
            assert await client.zrange(index.created, 0, -1, withscores=True) == [("s 1", 1767225600000000.0)]
        due = await client.zrange(keys.due(keys.shard("shop", "s 1")), 0, -1, withscores=True)
        assert due == [("shop s%201 ana", 1767229201000000.0)]


async def test_only_the_last_commits_are_remembered():
    url, prefix = address("redis"), new_prefix()
    async with (
        connected(url, decode_responses=True) as client,
        opened(from_url(f"{url}?key_prefix={prefix}")) as adapter,
    ):
        await adapter.commit(new_commit(KEY))
        for _ in range(PAST_COMMITS + 8):
            await adapter.commit(new_commit(KEY, expect=Expect.ANY))
        fields = await client.hkeys(Keys(prefix).session(KEY)[0])
        for kind in ("commit:", "commit@"):
            assert len([name for name in fields if name.startswith(kind)]) == PAST_COMMITS


def test_the_script_holds_the_contracts_constants():
    past, marks = re.search(rb"PAST_COMMITS, MAX_MARKS, CHUNK = (\d+), (\d+),", COMMIT.source).groups()
    assert (int(past), int(marks)) == (PAST_COMMITS, MAX_MARKS)
