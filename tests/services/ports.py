"""Ports of 127.0.0.1."""

import random
import socket
import threading
from collections.abc import Sequence
from urllib.parse import urlsplit

# Below the ports that systems give to outgoing connections, of which tests make thousands.
PORTS = range(20_000, 30_000)

_given: set[int] = set()
_giving = threading.Lock()


def free_port(among: Sequence[int] = PORTS) -> int:
    """Return a port that was free a moment ago and was not given to anybody else by this process."""
    with _giving:
        for port in random.sample(among, len(among)):
            if port not in _given and _is_free(port):
                _given.add(port)
                return port
    raise OSError(f"no port of 127.0.0.1 from {among[0]} to {among[-1]} is free")


def port_of(url: str) -> int:
    """Return the port that one of our own addresses names."""
    port = urlsplit(url).port
    assert port is not None
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
