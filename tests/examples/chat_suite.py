"""What every chat service of the examples has to do, over HTTP on the loopback."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import turnkeep

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ANA, BEN = "anas-secret", "bens-secret"

SLOW = """
import asyncio, re
from turnkeep.providers import Provider, ProviderReply

class Slow(Provider):
    async def generate(self, request):
        return ProviderReply(text="word " * 200)
    async def stream(self, request):
        for word in ["word "] * 200:
            await asyncio.sleep(0.05)
            yield word
        yield ProviderReply(text="word " * 200)

app.GuidedProvider = Slow
"""


class Server:
    """A service in a process of its own."""

    def __init__(self, command: list[str], folder: Path, place: Path, port: int) -> None:
        self.port = port
        self.url = f"sqlite:///{place}/chat.db"
        self._log = place / "server.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CHAT_", "FLASK_"))}
        environment["CHAT_DATABASE"] = self.url
        with self._log.open("a") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        end = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.end(signal.SIGKILL)
                raise AssertionError(f"the service did not start:\n{self.said()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ends the process, and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=15)

    def said(self) -> str:
        """What it wrote to its log."""
        return self._log.read_text(encoding="utf-8")

    def connect(self) -> http.client.HTTPConnection:
        """A connection of its own."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def request(
        self, method: str, path: str, body: object = None, *, token: str | None = ANA, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        with closing(self.connect()) as connection:
            connection.request(method, path, *self.prepare(body, token, headers))
            response = connection.getresponse()
            content = response.read()
        is_json = content and "json" in response.getheader("Content-Type", "")
        return response.status, json.loads(content) if is_json else content.decode()

    def prepare(self, body: object, token: str | None, headers: dict[str, str]) -> tuple[str | None, dict[str, str]]:
        """The body and headers of a request."""
        found = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            found["Authorization"] = f"Bearer {token}"
        if body is None:
            return None, found
        return json.dumps(body), {"Content-Type": "application/json"} | found

    def chat(self, message: str, session_id: str | None = None, **options: Any) -> dict[str, Any]:
        """The answer to a message, which must be one."""
        status, answer = self.request("POST", "/chat", {"message": message, "sessionId": session_id}, **options)
        assert status == 200, (status, answer)
        assert set(answer) == {"message", "sessionId", "isComplete"}
        return answer

    def events(self, body: object, *, token: str = ANA, **headers: str) -> Iterator[dict[str, Any]]:
        """The events of a stream as they come; closing it closes the connection."""
        with closing(self.connect()) as connection:
            connection.request("POST", "/chat/stream", *self.prepare(body, token, headers))
            response = connection.getresponse()
            assert response.status == 200, response.read()
            assert response.getheader("Content-Type", "").startswith("text/event-stream")
            for line in response:
                if line.strip():
                    assert line.startswith(b"data: ")
                    yield json.loads(line.removeprefix(b"data: "))

    def stored(self, session_id: str) -> list[tuple[str, str]] | None:
        """(role, content) of all messages; None where there is no session."""

        async def read() -> list[tuple[str, str]] | None:
            async with turnkeep.connect(self.url) as store:
                state = await store.load_session_state(session_id)
            return None if state is None else [(message.role, message.content) for message in state.history]

        return asyncio.run(read())


def free_port() -> int:
    """One that nobody listened on a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def need_sqlite() -> None:
    """Skips the test where the services have nowhere to keep their conversations."""
    pytest.importorskip("turnkeep_sqlite", reason="turnkeep-sqlite is not installed")


class ChatSuite:
    """The tests. A subclass says how its service is started."""

    folder: str
    serve: str
    """Python that serves the module ``app`` on ``port``."""
    exit_code: int

    def command(self, port: int) -> list[str]:
        """As the README has it."""
        raise NotImplementedError

    def start(self, place: Path, *, before: str = "") -> Server:
        """A service on that directory; ``before`` runs when its module was imported."""
        port = free_port()
        source = f"import sys; sys.path.insert(0, ''); import app\n{before}\nport = {port}\n{self.serve}"
        return Server([sys.executable, "-c", source], EXAMPLES / self.folder, place, port)

    def running(self, place: Path) -> Iterator[Server]:
        """For a fixture ``server``: a service that all tests share; it must end as it should, without complaint."""
        need_sqlite()
        server = self.start(place)
        yield server
        code = server.end()
        assert "Traceback" not in server.said(), server.said()
        assert code == self.exit_code, server.said()

    def test_the_quick_start(self, server: Server) -> None:
        first = server.chat("A table, please")
        assert first["message"] == "Who the table is for?"
        assert not first["isComplete"]
        session_id = first["sessionId"]
        assert server.chat("Ana", session_id) == {
            "message": "How many guests?", "sessionId": session_id, "isComplete": False
        }  # fmt: skip
        assert server.chat("four", session_id)["isComplete"]
        stored = server.stored(session_id)
        assert stored is not None
        assert [content for role, content in stored if role == "user"] == ["A table, please", "Ana", "four"]

    def test_a_session_named_by_the_client_is_made(self, server: Server) -> None:
        assert server.chat("A table, please", "table-7")["sessionId"] == "table-7"
        assert server.stored("table-7") is not None

    def test_who_has_not_signed_in_gets_nothing(self, server: Server) -> None:
        for token in (None, "", "wrong"):
            for method, path, body in (
                ("POST", "/chat", {"message": "hi"}),
                ("POST", "/chat/stream", {"message": "hi"}),
                ("GET", "/sessions", None),
                ("DELETE", "/sessions/table-7", None),
            ):
                assert server.request(method, path, body, token=token)[0] == 401, (method, path)

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            ({}, {}),
            ({"message": 7}, {}),
            ([], {}),
            ({"message": "hi", "sessionId": "x" * 600}, {}),
            ({"message": "hi"}, {"Idempotency_Key": "x" * 65}),
            ({"message": "x" * 5_000_000}, {}),
        ],
        ids=["empty", "number", "list", "long id", "long key", "long message"],
    )
    def test_what_makes_no_sense_is_refused(self, server: Server, body: object, headers: dict[str, str]) -> None:
        status, answer = server.request("POST", "/chat", body, **headers)
        assert 400 <= status < 500, (status, answer)

    def test_users_do_not_see_each_other(self, server: Server) -> None:
        mine = server.chat("A table, please", token=ANA)["sessionId"]
        his = server.chat("A table, please", token=BEN)["sessionId"]
        assert server.request("DELETE", f"/sessions/{mine}", token=BEN)[0] == 404
        status, answer = server.request("POST", "/chat", {"message": "hi", "sessionId": mine}, token=BEN)
        assert status == 409  # only making one that is taken tells
        assert "ana" not in json.dumps(answer).lower().replace(mine, "")
        events = list(server.events({"message": "hi", "sessionId": mine}, token=BEN))
        assert [set(event) for event in events if "delta" not in event] == [{"error"}]
        assert len(server.stored(mine) or ()) == 2
        listed = {user: {each["sessionId"] for each in server.request("GET", "/sessions", token=user)[1]}
                  for user in (ANA, BEN)}  # fmt: skip
        assert mine in listed[ANA]
        assert listed[BEN] == {his}
        assert server.request("DELETE", f"/sessions/{mine}", token=ANA)[0] == 204
        assert server.stored(mine) is None
        assert server.request("DELETE", f"/sessions/{mine}", token=ANA)[0] == 404
        assert server.stored(his) is not None

    def test_many_conversations_at_once(self, server: Server) -> None:
        def book(number: int) -> str:
            session_id = server.chat("A table, please", f"many-{number}")["sessionId"]
            assert server.chat(f"Guest {number}", session_id)["message"] == "How many guests?"
            last = server.chat(str(number + 1), session_id)
            assert last["isComplete"]
            return str(last["message"])

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(book, range(32)))
        for number, answer in enumerate(answers):
            assert f"Guest {number}," in answer
            assert answer.endswith(f"{number + 1}.")
            assert len(server.stored(f"many-{number}") or ()) == 6

    def test_one_conversation_from_many_sides(self, server: Server) -> None:
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda number: server.chat(f"text {number}", "shared"), range(24)))
        stored = server.stored("shared")
        assert stored is not None
        assert {content for role, content in stored if role == "user"} == {f"text {number}" for number in range(24)}
        assert [role for role, _ in stored] == ["user", "assistant"] * 24

    @pytest.mark.parametrize("session_id", [None, "webhook"])
    def test_what_is_delivered_twice_is_one_turn(self, server: Server, session_id: str | None) -> None:
        key = f"delivery-{session_id}"

        def deliver(_: int) -> dict[str, Any]:
            return server.chat("A table, please", session_id, Idempotency_Key=key)

        first = deliver(0)
        assert deliver(1) == first
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(deliver, range(6))) == [first] * 6
        assert len(server.stored(first["sessionId"]) or ()) == 2
        assert list(server.events({"message": "A table, please", "sessionId": session_id}, Idempotency_Key=key))[
            -1
        ] == first  # fmt: skip
        body = {"message": "Something else", "sessionId": session_id}
        assert server.request("POST", "/chat", body, Idempotency_Key=key)[0] == 409

    def test_deliveries_at_the_same_time_are_one_turn(self, server: Server) -> None:
        def deliver(_: int) -> dict[str, Any]:
            return server.chat("A table, please", Idempotency_Key="at-once")

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(deliver, range(8)))
        assert answers == [answers[0]] * 8
        assert len(server.stored(answers[0]["sessionId"]) or ()) == 2

    def test_one_key_of_two_users_is_two_turns(self, server: Server) -> None:
        one, other = (server.chat("A table, please", token=token, Idempotency_Key="same") for token in (ANA, BEN))
        assert one["sessionId"] != other["sessionId"]

    def test_a_stream(self, server: Server) -> None:
        events = list(server.events({"message": "A table, please", "sessionId": "streamed"}))
        *deltas, last = events
        assert "".join(event["delta"] for event in deltas) == last["message"] == "Who the table is for?"
        assert last == {"message": last["message"], "sessionId": "streamed", "isComplete": False}
        assert len(server.stored("streamed") or ()) == 2

    def test_a_stream_that_the_client_leaves(self, tmp_path: Path) -> None:
        need_sqlite()
        server = self.start(tmp_path, before=SLOW)
        try:
            for _ in range(3):
                events = server.events({"message": "hi", "sessionId": "left"})
                assert next(events) == {"delta": "word "}
                events.close()
            # A turn that went on would be stored after ten seconds, and the next would wait for it until then.
            started = time.monotonic()
            assert server.chat("hello", "left")["message"].startswith("word")
            assert time.monotonic() - started < 5
            stored = server.stored("left")
            assert stored is not None
            assert [content for role, content in stored if role == "user"] == ["hello"]
        finally:
            server.end(signal.SIGKILL)
        assert "Traceback" not in server.said(), server.said()

    def test_the_service_is_killed_and_the_conversation_goes_on(self, tmp_path: Path) -> None:
        need_sqlite()
        port = free_port()
        folder = EXAMPLES / self.folder
        server = Server(self.command(port), folder, tmp_path, port)
        session_id = server.chat("A table, please")["sessionId"]
        assert server.chat("Ana", session_id, Idempotency_Key="second")["message"] == "How many guests?"
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        server = Server(self.command(port), folder, tmp_path, port)
        try:
            # The answer may have been lost with the process: the client asks again.
            assert server.chat("Ana", session_id, Idempotency_Key="second")["message"] == "How many guests?"
            last = server.chat("four", session_id)
            assert last["isComplete"]
            assert "Ana" in last["message"]
            assert len(server.stored(session_id) or ()) == 6
        finally:
            server.end(signal.SIGKILL)
