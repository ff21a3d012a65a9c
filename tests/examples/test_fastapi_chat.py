"""The chat service on FastAPI does what its README says."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from .chat_suite import ChatSuite, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("fastapi", reason="fastapi is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")


class TestFastAPI(ChatSuite):
    folder = "fastapi_chat"
    serve = "import uvicorn; uvicorn.run(app.app, port=port, log_level='warning')"
    exit_code = -signal.SIGTERM

    def command(self, port: int) -> list[str]:
        return [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from TestFastAPI().running(tmp_path_factory.mktemp("chat"))
