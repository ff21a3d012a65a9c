"""The server of ``wire``, with a file: what it acknowledged is there when it is started again. Run as a program."""

from __future__ import annotations

import asyncio
import pickle
import sys
from contextlib import closing, suppress
from pathlib import Path

from turnkeep.errors import TurnkeepError
from turnkeep.memory import MemoryAdapter


class Durable(MemoryAdapter):
    """Keeps everything in a file, which is replaced before a write is acknowledged; every ``lazy``-th time only."""

    def __init__(self, path, lazy):
        super().__init__()
        self._path, self._lazy, self._writes = Path(path), lazy, 0
        with suppress(FileNotFoundError):
            self._records = pickle.loads(self._path.read_bytes())

    async def commit(self, commit):
        committed = await super().commit(commit)
        self._writes += 1
        if self._writes % self._lazy == 0:
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(pickle.dumps(self._records))
            fresh.replace(self._path)
        return committed


async def main(wire, path, port, lazy):
    store = Durable(path, int(lazy))

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError, OSError), closing(writer):
            while True:
                operation, arguments, options = await wire.receive(reader)
                try:
                    answer = True, await getattr(store, operation)(*arguments, **options)
                except TurnkeepError as error:
                    answer = False, error
                await wire.send(writer, answer)

    async with await asyncio.start_server(serve, "127.0.0.1", int(port)) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import wire

    asyncio.run(main(wire, *sys.argv[1:]))
