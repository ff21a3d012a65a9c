"""The chat service on Flask does what its README says."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from .chat_suite import ChatSuite, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("flask", reason="flask is not installed")


class TestFlask(ChatSuite):
    folder = "flask_chat"
    serve = "from werkzeug.serving import run_simple; run_simple('127.0.0.1', port, app.create_app(), threaded=True)"
    exit_code = -signal.SIGTERM

    def command(self, port: int) -> list[str]:
        return [sys.executable, "-m", "flask", "run", "--port", str(port)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from TestFlask().running(tmp_path_factory.mktemp("chat"))
