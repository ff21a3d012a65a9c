"""A chat service on FastAPI: one agent for everybody, each user's conversations their own, every turn kept."""

from __future__ import annotations

import json
import os
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

import turnkeep
from turnkeep import Agent, Reply, Route, Step
from turnkeep.providers import GuidedProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DATABASE = os.environ.get("CHAT_DATABASE", "sqlite:///chat.db")
TOKENS = dict(pair.split("=") for pair in os.environ.get("CHAT_TOKENS", "anas-secret=ana,bens-secret=ben").split(","))
STATUS = {turnkeep.SessionNotFound: 404, turnkeep.Conflict: 409, turnkeep.InvalidArgument: 422, turnkeep.DataError: 422}


class Booking(BaseModel):
    name: str
    guests: int


class Ask(BaseModel):
    message: str
    sessionId: str | None = None  # noqa: N815 - as the browser calls it


steps = [Step("Ask who the table is for", collect=["name"]), Step("Ask how many guests", collect=["guests"])]
booking = Route("Book a table", when="the user wants to book", required_fields=["name", "guests"], steps=steps)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with turnkeep.connect(DATABASE) as app.state.store:
        app.state.agent = Agent(
            name="Front desk", provider=GuidedProvider(), schema=Booking, routes=[booking],
            persistence=app.state.store, on_conflict="retry",
        )  # fmt: skip
        yield


app = FastAPI(lifespan=lifespan)


def signed_in(authorization: Annotated[str, Header()] = "") -> str:
    user = TOKENS.get(authorization.removeprefix("Bearer "))
    if user is None:
        raise HTTPException(401, "sign in", {"WWW-Authenticate": "Bearer"})
    return user


User = Annotated[str, Depends(signed_in)]


def what_is_asked(ask: Ask, user: User, idempotency_key: Annotated[str | None, Header()] = None) -> dict[str, Any]:
    """What the agent is called with. A delivery that names no session begins the same one when it is repeated."""
    begun = idempotency_key and uuid.uuid5(uuid.NAMESPACE_URL, f"{user} {idempotency_key}").hex
    return {"text": ask.message, "user_id": user, "session_id": ask.sessionId or begun, "commit_id": idempotency_key}


Turn = Annotated[dict[str, Any], Depends(what_is_asked)]


def answer(reply: Reply) -> dict[str, Any]:
    return {"message": reply.message, "sessionId": reply.session_id, "isComplete": reply.is_route_complete}


@app.post("/chat")
async def chat(request: Request, turn: Turn) -> dict[str, Any]:
    return answer(await request.app.state.agent.respond(**turn))


@app.post("/chat/stream")
async def stream(request: Request, turn: Turn) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        try:
            async with request.app.state.agent.stream(**turn) as chunks:  # left early: nothing is stored
                async for chunk in chunks:
                    yield event(answer(chunk.reply) if chunk.reply else {"delta": chunk.delta})
        except turnkeep.TurnkeepError as error:
            yield event({"error": str(error)})

    return StreamingResponse(events(), media_type="text/event-stream")


def event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


@app.get("/sessions")
async def sessions(request: Request, user: User) -> list[dict[str, Any]]:
    page = await request.app.state.store.find_sessions_by_user_id(user, limit=20)
    return [{"sessionId": each.id, "status": each.status, "messages": each.message_count} for each in page.items]


@app.delete("/sessions/{session_id}", status_code=204)
async def delete(request: Request, session_id: str, user: User) -> None:
    if not await turnkeep.SessionManager(request.app.state.store, session_id=session_id, user_id=user).delete():
        raise HTTPException(404, "no such session")


@app.exception_handler(turnkeep.TurnkeepError)
async def failed(_: Request, error: turnkeep.TurnkeepError) -> JSONResponse:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 503)
    return JSONResponse({"detail": str(error) if status < 500 else "try again later"}, status)
