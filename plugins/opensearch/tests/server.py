"""A server that says what a test tells it to, where the real one cannot be made to."""

import asyncio
import json
from contextlib import asynccontextmanager

OPENSEARCH = {"version": {"distribution": "opensearch", "number": "2.19.1"}}


class Stub:
    """Answers each request with what ``answer(method, path)`` gives: a status and a body; None cuts the connection."""

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.server = None

    def stop(self):
        """Takes no more connections."""
        self.server.close()

    async def handle(self, reader, writer):
        try:
            while line := await reader.readline():
                method, path, _ = line.decode().split(" ")
                headers = {}
                while (header := (await reader.readline()).decode().strip()) != "":
                    name, _, value = header.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((method, path, headers, body))
                found = self.answer(method, path)
                if found is None:
                    return
                status, said = found
                text = said if isinstance(said, str) else json.dumps(said)
                kind = "text/html" if isinstance(said, str) else "application/json"
                head = f"HTTP/1.1 {status} -\r\ncontent-type: {kind}\r\ncontent-length: {len(text.encode())}\r\n\r\n"
                writer.write((head + text).encode())
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def stub(answer):
    """A stub, and its URL."""
    found = Stub(answer)
    found.server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    try:
        found.url = f"opensearch://127.0.0.1:{found.server.sockets[0].getsockname()[1]}"
        yield found
    finally:
        found.stop()
