"""Whether a server speaks its protocol; no driver is needed to know."""

import json
import socket
import struct
from typing import BinaryIO
from urllib.parse import urlsplit

PING_SECONDS = 2.0


def postgres(url: str) -> bool:
    """Return whether PostgreSQL, or what stands before it, lets this user in without a password and runs a query."""
    parts = urlsplit(url)
    fields = ["user", parts.username or "", "database", parts.path.strip("/"), ""]
    startup = struct.pack("!I", 196_608) + b"".join(field.encode() + b"\0" for field in fields)
    query = b"SELECT 1\0"
    try:
        with _connect(url) as stream:
            stream.write(struct.pack("!I", len(startup) + 4) + startup)
            stream.flush()
            if b"E" in _postgres_replies(stream):
                return False
            stream.write(b"Q" + struct.pack("!I", len(query) + 4) + query)
            stream.flush()
            return b"D" in _postgres_replies(stream)
    except (OSError, EOFError):
        return False


def redis(url: str, *command: str) -> str:
    """Return the reply to one command (`PING` if none is given) as text, or nothing if there is none."""
    words = [word.encode() for word in command or ("PING",)]
    try:
        with _connect(url) as stream:
            stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
            stream.flush()
            first = stream.readline().decode()
            body = stream.read(int(first[1:])).decode() if first.startswith("$") else ""
            return first[1:].strip() if first.startswith("+") else body
    except (OSError, ValueError):
        return ""


def mongodb(url: str) -> bool:
    """Return whether the server says that it takes writes."""
    hello = b"\x10hello\0" + struct.pack("<i", 1) + b"\x02$db\0" + struct.pack("<i", 6) + b"admin\0"
    document = struct.pack("<i", len(hello) + 5) + hello + b"\0"
    body = struct.pack("<i", 0) + b"\0" + document
    try:
        with _connect(url) as stream:
            stream.write(struct.pack("<iiii", len(body) + 16, 1, 0, 2013) + body)
            stream.flush()
            (length,) = struct.unpack("<i", _exactly(stream, 4))
            return b"\x08isWritablePrimary\0\x01" in _exactly(stream, length - 4)
    except (OSError, EOFError):
        return False


def opensearch(url: str) -> bool:
    """Return whether the cluster is able to keep documents."""
    try:
        with _connect(url) as stream:
            stream.write(b"GET /_cluster/health HTTP/1.0\r\n\r\n")
            stream.flush()
            head, _, body = stream.read().partition(b"\r\n\r\n")
            return b" 200 " in head.partition(b"\r\n")[0] and json.loads(body)["status"] in {"green", "yellow"}
    except (OSError, ValueError):
        return False


def _connect(url: str) -> BinaryIO:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=PING_SECONDS) as connection:
        return connection.makefile("rwb")


def _exactly(stream: BinaryIO, count: int) -> bytes:
    found = stream.read(count)
    if len(found) < count:
        raise EOFError
    return found


def _postgres_replies(stream: BinaryIO) -> set[bytes]:
    """Return the types of the messages up to "ready" or the first error."""
    kinds: set[bytes] = set()
    while not kinds & {b"Z", b"E"}:
        kind = _exactly(stream, 1)
        (length,) = struct.unpack("!I", _exactly(stream, 4))
        body = _exactly(stream, length - 4)
        # "R" asks for a password unless it says 0: all is well.
        kinds.add(b"E" if kind == b"R" and body != b"\0\0\0\0" else kind)
    return kinds
