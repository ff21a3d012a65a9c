"""A chat service on Flask: the blocking door, one agent for everybody, each user's conversations their own."""

from __future__ import annotations

import json
import os
import uuid
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, abort, request
from pydantic import BaseModel

import turnkeep
from turnkeep import Reply, Route, Step
from turnkeep.providers import GuidedProvider
from turnkeep.sync import Agent, SessionManager, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = os.environ.get("CHAT_DATABASE", "sqlite:///chat.db")
TOKENS = dict(pair.split("=") for pair in os.environ.get("CHAT_TOKENS", "anas-secret=ana,bens-secret=ben").split(","))
STATUS = {turnkeep.SessionNotFound: 404, turnkeep.Conflict: 409, turnkeep.InvalidArgument: 422, turnkeep.DataError: 422}


class Booking(BaseModel):
    name: str
    guests: int


steps = [Step("Ask who the table is for", collect=["name"]), Step("Ask how many guests", collect=["guests"])]
booking = Route("Book a table", when="the user wants to book", required_fields=["name", "guests"], steps=steps)


def turn() -> dict[str, Any]:
    """What the agent is called with. A delivery that names no session begins the same one when it is repeated."""
    user, ask, key = signed_in(), request.get_json(), request.headers.get("Idempotency-Key")
    if not isinstance(ask, dict) or not isinstance(ask.get("message"), str):
        abort(422, "message is missing")
    begun = key and uuid.uuid5(uuid.NAMESPACE_URL, f"{user} {key}").hex
    return {"text": ask["message"], "user_id": user, "session_id": ask.get("sessionId") or begun, "commit_id": key}


def signed_in() -> str:
    user = TOKENS.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
    return user or abort(401, "sign in")


def answer(reply: Reply) -> dict[str, Any]:
    return {"message": reply.message, "sessionId": reply.session_id, "isComplete": reply.is_route_complete}


def event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def create_app() -> Flask:
    app = Flask(__name__)
    app.extensions["turnkeep"] = store = connect(DATABASE)  # a forked worker opens its own; closed at exit
    agent = Agent(
        name="Front desk", provider=GuidedProvider(), schema=Booking, routes=[booking],
        persistence=store, on_conflict="retry",
    )  # fmt: skip

    @app.post("/chat")
    def chat() -> dict[str, Any]:
        return answer(agent.respond(**turn()))

    @app.post("/chat/stream")
    def stream() -> Response:
        def events(asked: dict[str, Any]) -> Iterator[str]:
            try:
                with agent.stream(**asked) as chunks:  # left early: nothing is stored
                    for chunk in chunks:
                        yield event(answer(chunk.reply) if chunk.reply else {"delta": chunk.delta})
            except turnkeep.TurnkeepError as error:
                yield event({"error": str(error)})

        return Response(events(turn()), mimetype="text/event-stream")

    @app.get("/sessions")
    def sessions() -> list[dict[str, Any]]:
        page = store.find_sessions_by_user_id(signed_in(), limit=20)
        return [{"sessionId": each.id, "status": each.status, "messages": each.message_count} for each in page.items]

    @app.delete("/sessions/<session_id>")
    def delete(session_id: str) -> tuple[str, int]:
        found = SessionManager(store, session_id=session_id, user_id=signed_in()).delete()
        return ("", 204) if found else abort(404, "no such session")

    @app.errorhandler(turnkeep.TurnkeepError)
    def failed(error: turnkeep.TurnkeepError) -> tuple[dict[str, str], int]:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 503)
        return {"detail": str(error) if status < 500 else "try again later"}, status

    return app
