"""Real Redis for tests: one server, a cluster of three masters and their replicas, and sentinels.

Every server listens on 127.0.0.1 on a free port, keeps its files in a directory of its own, and ends
with the block that it was started in.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hiredis
import pytest

from broker.commands.fault_process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0
"""Seconds until a server must have done what is waited for."""
SLOTS = 16384
MASTERS = 3


def program() -> str:
    """Debian's redis-server; without it skip, but fail under CI, which promises it."""
    found = shutil.which("redis-server")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed, although CI is set")
        pytest.skip("redis-server is not installed")
    return found


class Talk:
    """A blocking connection of the test's own."""

    def __init__(self, port: int, password: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._reader = hiredis.Reader()
        if password:
            self("AUTH", password)

    def __call__(self, *command: Any) -> Any:
        """The answer to one command; an error is raised."""
        self._socket.sendall(hiredis.pack_command(command))
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the server hung up")
            self._reader.feed(data)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        self._socket.close()


@dataclass
class RedisServer:
    """One process, which can be killed and started again with what its disk has."""

    directory: Path
    port: int
    options: tuple[str, ...] = ()
    password: str = ""
    is_sentinel: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        who = f":{self.password}@" if self.password else ""
        return f"redis://{who}127.0.0.1:{self.port}"

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "redis.conf"
        if not configuration.exists():  # a sentinel writes its own
            lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.directory}", *self.options]
            if self.password:
                lines.append(f"requirepass {self.password}")
            configuration.write_text("\n".join(lines) + "\n")
        command = [program(), str(configuration), *(["--sentinel"] if self.is_sentinel else [])]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._has_started, f"server on port {self.port}")

    def _has_started(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log").read_text()[-400:]
        return self.answers()

    def answers(self) -> bool:
        """Whether it is there and has read its data."""
        try:
            return bool(self.ask("PING") == b"PONG")
        except (OSError, hiredis.ReplyError):
            return False

    def ask(self, *command: Any) -> Any:
        talk = Talk(self.port, self.password)
        try:
            return talk(*command)
        finally:
            talk.close()

    def info(self, section: str) -> dict[str, str]:
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def kill(self) -> None:
        """As a crash of the process."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As an operator does it."""
        self._end(signal.SIGTERM)

    @contextlib.contextmanager
    def halted(self) -> Iterator[None]:
        """It is there, and does nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.send_signal(signal.SIGCONT)
            self.process.wait(PATIENCE)
            self.process = None


@contextlib.contextmanager
def redis_server(
    directory: Path, *options: str, password: str = "", port: int = 0
) -> Iterator[RedisServer]:
    """One server, which forces every write to the disk unless `options` say otherwise."""
    given = options or ("appendonly yes", "appendfsync always", 'save ""')
    server = RedisServer(directory, port or free_port(), given, password)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@dataclass
class RedisCluster:
    """Masters first, then a replica of each, in the same order."""

    servers: list[RedisServer]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.servers)

    @property
    def masters(self) -> list[RedisServer]:
        """Those that serve slots now."""
        return [each for each in self.servers if each.answers() and _role(each) == "master"]

    def replica_of(self, master: RedisServer) -> RedisServer:
        """One that follows a master now."""
        found = [
            each
            for each in self.servers
            if each.answers()
            and _role(each) == "slave"
            and each.info("replication")["master_port"] == str(master.port)
        ]
        return found[0]

    def fail_over(self, replica: RedisServer) -> None:
        """Have a replica take its master's place, while that one lives."""
        asked = float("-inf")

        def has_happened() -> bool:
            nonlocal asked
            if time.monotonic() > asked + 6:  # after 5 s without agreement it is given up, silently
                asked = time.monotonic()
                replica.ask("CLUSTER", "FAILOVER")
            return _role(replica) == "master"

        until(has_happened, "failover")

    def is_well(self) -> bool:
        """All servers agree that all slots are served, and every master has a replica."""
        states = [each.ask("CLUSTER", "INFO") for each in self.servers]
        masters = [each for each in self.servers if _role(each) == "master"]
        return (
            all(b"cluster_state:ok" in state for state in states)
            and len(masters) == MASTERS
            and all(each.info("replication")["connected_slaves"] != "0" for each in masters)
        )

    def heal(self) -> None:
        """Start what was killed, and wait until all is well."""
        for each in self.servers:
            if each.process is None:
                each.start()
        until(self.is_well, "whole cluster")

    def forget_all(self) -> None:
        """Empty it."""
        for master in self.masters:
            master.ask("FLUSHALL")


@contextlib.contextmanager
def redis_cluster(directory: Path, *options: str) -> Iterator[RedisCluster]:
    """Three masters with a replica each."""
    given = options or ("appendonly yes", "appendfsync everysec", 'save ""')
    ports = [free_port() for _ in range(2 * MASTERS)]
    servers = []
    for port in ports:
        cluster = (
            "cluster-enabled yes",
            "cluster-node-timeout 1500",
            f"cluster-port {free_port()}",
            "repl-diskless-sync-delay 0",
        )
        servers.append(RedisServer(directory / str(port), port, (*cluster, *given)))
    try:
        for server in servers:
            server.start()
        _join(servers)
        yield RedisCluster(servers)
    finally:
        for server in servers:
            server.kill()


@dataclass
class Sentinels:
    """A master, its replica, and the sentinels that watch them."""

    master: RedisServer
    replica: RedisServer
    sentinels: list[RedisServer]

    @property
    def url(self) -> str:
        servers = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{servers}/fleet"

    def master_port(self) -> int:
        """Where the sentinels say that the master is."""
        return int(self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "fleet")[1])


@contextlib.contextmanager
def redis_sentinels(directory: Path) -> Iterator[Sentinels]:
    """One master and one replica; one sentinel, which decides alone."""
    options = ("appendonly yes", "appendfsync always", 'save ""', "repl-diskless-sync-delay 0")
    master = RedisServer(directory / "master", free_port(), options)
    replica = RedisServer(
        directory / "replica", free_port(), (*options, f"replicaof 127.0.0.1 {master.port}")
    )
    watch = (
        f"sentinel monitor fleet 127.0.0.1 {master.port} 1",
        "sentinel down-after-milliseconds fleet 1000",
        "sentinel failover-timeout fleet 5000",
    )
    sentinel = RedisServer(directory / "sentinel", free_port(), watch, is_sentinel=True)
    try:
        master.start()
        replica.start()
        until(lambda: replica.info("replication")["master_link_status"] == "up", "replica")
        sentinel.start()
        until(lambda: bool(sentinel.ask("SENTINEL", "REPLICAS", "fleet")), "sentinel that knows")
        yield Sentinels(master, replica, [sentinel])
    finally:
        for server in (sentinel, replica, master):
            server.kill()


def until(probe: Any, what: str) -> None:
    """Look again and again until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not probe():
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} within {PATIENCE:g} s")
        time.sleep(0.02)


def _role(server: RedisServer) -> str:
    return server.info("replication")["role"]


def _join(servers: list[RedisServer]) -> None:
    """What `redis-cli --cluster create` does, without its waiting."""
    masters, replicas = servers[:MASTERS], servers[MASTERS:]
    bounds = [SLOTS * i // MASTERS for i in range(MASTERS + 1)]
    for index, master in enumerate(masters):
        master.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        master.ask("CLUSTER", "ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
    first = servers[0]
    bus = next(o.split()[1] for o in first.options if o.startswith("cluster-port"))
    for other in servers[1:]:
        other.ask("CLUSTER", "MEET", "127.0.0.1", first.port, bus)
    until(lambda: all(_known(each) == len(servers) for each in servers), "acquaintance")
    for replica, master in zip(replicas, masters, strict=True):
        name = master.ask("CLUSTER", "MYID")
        until(lambda replica=replica, name=name: _follows(replica, name), "replica")
    until(RedisCluster(servers).is_well, "whole cluster")


def _known(server: RedisServer) -> int:
    lines = server.ask("CLUSTER", "NODES").decode().splitlines()
    return sum("handshake" not in line and "noaddr" not in line for line in lines)


def _follows(replica: RedisServer, master: bytes) -> bool:
    try:
        replica.ask("CLUSTER", "REPLICATE", master)
    except hiredis.ReplyError:
        return False
    return True
