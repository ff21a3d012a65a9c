"""Servers of a test's own: to kill, to fill, to make replicas of, to move slots between."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
PROMPT = ("--repl-diskless-sync-delay", "0")
"""A replica is served at once, not after five seconds in which another one might come."""
NODE_TIMEOUT = "1000"
SLOTS = 16384


def free_port():
    """A port of 127.0.0.1 that was free a moment ago, and whose cluster port is one."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        if port < 55_000:
            return port


class PrivateRedis:
    """A redis-server of this machine; the test is skipped where there is none."""

    def __init__(self, directory: Path, *options: str, program=None, before=()) -> None:
        self.program = program or shutil.which("redis-server")
        if self.program is None:
            if os.environ.get("TURNKEEP_REQUIRE_SERVICES", "") not in {"", "0"}:
                pytest.fail("there is no redis-server on this machine")
            pytest.skip("there is no redis-server on this machine to start, kill and start again")
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        listen = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(directory), "--logfile", "log")
        # A sentinel knows no such setting, and is told what it needs by its file.
        settings = () if before else (*PROMPT, *(options or DURABLE))
        self.command = [self.program, *before, *listen, *settings]
        self.process = None

    def __enter__(self):
        try:
            self.resume()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        """SIGKILL, and waits for the end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def resume(self):
        """Starts it on what lies there, and waits until it answers."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        self.wait(lambda: self.ask("PING"))

    def ask(self, *command):
        """The answer to a command."""
        with Redis(port=self.port, socket_timeout=5, protocol=2, retry=None) as client:
            return client.execute_command(*command)

    def wait(self, condition, seconds=20):
        """Waits until a condition holds; until then errors of Redis do not matter."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except AuthenticationError:
                return  # it answers, and no more can be asked
            except RedisError:
                pass
            assert time.monotonic() < deadline, f"redis-server on port {self.port} did not get there"
            time.sleep(0.05)


class PrivateCluster(ExitStack):
    """Masters that share the slots, each with so many replicas."""

    def __init__(self, directory: Path, masters=3, replicas=0) -> None:
        super().__init__()
        count = masters * (1 + replicas)
        self.nodes = [self._node(directory / str(number)) for number in range(count)]
        self.masters, self.replicas = self.nodes[:masters], self.nodes[masters:]
        share = SLOTS // masters
        for number, node in enumerate(self.masters):
            last = SLOTS - 1 if number == masters - 1 else (number + 1) * share - 1
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * share, last)
        for node in self.nodes[1:]:
            self.nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        for node in self.nodes:
            node.wait(lambda node=node: self._info(node)["cluster_known_nodes"] == str(count))
        for number, node in enumerate(self.replicas):
            node.ask("CLUSTER", "REPLICATE", self.id_of(self.masters[number % masters]))
        for node in self.nodes:
            node.wait(lambda node=node: self._info(node)["cluster_state"] == "ok")
        for node in self.replicas:
            node.wait(lambda node=node: node.ask("INFO", "replication")["master_link_status"] == "up")
        self.url = f"redis+cluster://127.0.0.1:{self.masters[0].port}"

    def id_of(self, node):
        """The node's name among its likes."""
        return _text(node.ask("CLUSTER", "MYID"))

    def _node(self, directory):
        settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT)
        return self.enter_context(PrivateRedis(directory, *DURABLE, *settings))

    def _info(self, node):
        answer = node.ask("CLUSTER", "INFO")
        return answer if isinstance(answer, dict) else dict(line.split(":") for line in _text(answer).split())


def _text(answer):
    return answer.decode() if isinstance(answer, bytes) else answer
