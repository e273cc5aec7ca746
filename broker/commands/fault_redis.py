"""A Redis Cluster for the fault suite: three masters and a replica of each, as processes of its own."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

from broker.commands.fault_process import free_port
from broker.commands.shell import Failure
from feedgen.store.redis.address import parse
from feedgen.store.redis.link import ReplyError, ask
from feedgen.store.redis.settings import RedisSettings
from simulator.faults.server import ServerFault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

MASTERS = 3
SLOTS = 16_384
NODE_TIMEOUT_MS = 2_000
"""`cluster-node-timeout`: how long a master does not answer until its replica may take over."""

DURABILITY = {
    "always": ("appendonly yes", "appendfsync always"),
    "everysec": ("appendonly yes", "appendfsync everysec"),
    "none": ("appendonly no",),
}
"""How Redis keeps what it was told, by the name of the choice."""

_PATIENCE = 30.0
_LOOK_AGAIN = 0.05
_VOTE = 3.0
"""Seconds after which masters have voted, or will not."""
_ATTEMPTS = 8
_TIMEOUT = 2.0


def program() -> str:
    """Where redis-server is.

    Raises:
        Failure: It is not installed.
    """
    found = shutil.which("redis-server")
    if found is None:
        raise Failure("redis-server is not on the PATH (Debian: redis-server); nodes need one")
    return found


class RedisProcess:
    """One server, which is killed and started again on its data, always on the same port."""

    def __init__(self, directory: Path, options: Sequence[str]) -> None:
        self.port = free_port()
        self.bus = free_port()
        self._directory = directory
        directory.mkdir(parents=True)
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {directory}",
            'save ""',
            "cluster-enabled yes",
            f"cluster-node-timeout {NODE_TIMEOUT_MS}",
            f"cluster-port {self.bus}",
            # Who asks by way of a proxy is sent on by way of the same one.
            "cluster-preferred-endpoint-type unknown-endpoint",
            # A replica that is a moment behind may take over: else nobody would.
            "cluster-replica-validity-factor 0",
            "repl-diskless-sync-delay 0",
            *options,
        )
        (directory / "redis.conf").write_text("\n".join(lines) + "\n")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    async def start(self) -> None:
        """Start it and wait until it has read its data.

        Raises:
            ServerFault: It does not answer in time.
        """
        with (self._directory / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program(),
                str(self._directory / "redis.conf"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        await until(self.answers, f"Redis on port {self.port} does not start")

    async def kill(self) -> None:
        """SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()

    async def answers(self) -> bool:
        """Whether it is there and has read its data."""
        try:
            return bool(await self.ask("PING") == b"PONG")
        except (OSError, ReplyError):
            return False

    async def ask(self, *command: str | int | bytes) -> Any:
        """The answer to a command.

        Raises:
            OSError: There is none.
            ReplyError: It is an error.
        """
        server = ("127.0.0.1", self.port)
        (reply,) = await ask(
            server, parse("redis://127.0.0.1"), RedisSettings(timeout=_TIMEOUT), command
        )
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def says(self, section: str) -> dict[str, str]:
        """What it says of itself; nothing if it does not answer."""
        try:
            lines = (await self.ask("INFO", section)).decode().splitlines()
        except (OSError, ReplyError):
            return {}
        return dict(line.split(":", 1) for line in lines if ":" in line)

    async def role(self) -> str:
        """`master`, `slave`, or "" if it does not answer."""
        return (await self.says("replication")).get("role", "")


class RedisCluster:
    """See the module, and `simulator.faults.server.RedisUnderTest`, which this is.

    Args:
        directory: For the data and logs of all servers; made here.
        durability: A key of `DURABILITY`.
    """

    def __init__(self, directory: Path, durability: str) -> None:
        options = DURABILITY[durability]
        self.servers = [
            RedisProcess(directory / f"redis-{place}", options) for place in range(2 * MASTERS)
        ]
        # Place i is the pair i and i + MASTERS, of which one is the master and the other its replica.
        self._pairs = list(zip(self.servers[:MASTERS], self.servers[MASTERS:], strict=True))

    def url(self, host: str = "127.0.0.1") -> str:
        """The address of the cluster, by way of a host."""
        return "redis+cluster://" + ",".join(f"{host}:{each.port}" for each in self.servers)

    @property
    def places(self) -> int:
        """How many masters there are."""
        return MASTERS

    async def start(self) -> None:
        """Start all servers and make a cluster of them.

        Raises:
            ServerFault: They do not become one in time.
        """
        await asyncio.gather(*(server.start() for server in self.servers))
        masters = self.servers[:MASTERS]
        bounds = [SLOTS * place // MASTERS for place in range(MASTERS + 1)]
        for place, master in enumerate(masters):
            await master.ask("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
            await master.ask("CLUSTER", "ADDSLOTSRANGE", bounds[place], bounds[place + 1] - 1)
        first = masters[0]
        for other in self.servers[1:]:
            await other.ask("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus)
        await until(self._acquainted, "the servers of the Redis Cluster do not find each other")
        for master, replica in self._pairs:
            name = await master.ask("CLUSTER", "MYID")
            await until(partial(_follows, replica, name), "a replica does not follow")
        await self.well()

    async def close(self) -> None:
        """End all of it."""
        await asyncio.gather(*(server.kill() for server in self.servers))

    async def kill(self, place: int) -> None:
        """SIGKILL of a master."""
        await (await self._master(place)).kill()

    async def kill_all(self) -> None:
        """SIGKILL of every server."""
        await asyncio.gather(*(server.kill() for server in self.servers))

    async def start_again(self) -> None:
        """Start what was killed."""
        down = [server for server in self.servers if not server.running]
        await asyncio.gather(*(server.start() for server in down))

    async def fail_over(self, place: int) -> None:
        """CLUSTER FAILOVER: a replica takes its master's place while that one lives."""
        master = await self._master(place)
        replica = next(one for one in self._pairs[place] if one is not master)
        for _ in range(_ATTEMPTS):
            # The other masters do not vote again right after a failover, and then this one is given up.
            await replica.ask("CLUSTER", "FAILOVER")
            with contextlib.suppress(ServerFault):
                await until(lambda: _is_master(replica), "a replica does not take over", _VOTE)
                return
        raise ServerFault("a replica does not take over its master's place when it is told to")

    async def promoted(self, place: int) -> None:
        """Return when the replica of a killed master has taken its place."""
        (left,) = (one for one in self._pairs[place] if one.running)
        await until(lambda: _is_master(left), "a replica does not take the place of its master")

    async def well(self) -> None:
        """Return when all slots are served and every master has its replica."""
        await until(self._is_well, "the Redis Cluster does not come to rest")

    async def _master(self, place: int) -> RedisProcess:
        for server in self._pairs[place]:
            if await _is_master(server):
                return server
        raise ServerFault("a part of the Redis Cluster has no master")

    async def _acquainted(self) -> bool:
        counts = [await _known(server) for server in self.servers]
        return min(counts) == len(self.servers)

    async def _is_well(self) -> bool:
        for server in self.servers:
            try:
                if b"cluster_state:ok" not in await server.ask("CLUSTER", "INFO"):
                    return False
            except (OSError, ReplyError):
                return False
        return all([await _is_whole(one, other) for one, other in self._pairs])


async def until(
    probe: Callable[[], Awaitable[bool]], sentence: str, seconds: float = _PATIENCE
) -> None:
    """Look again and again until it is so.

    Raises:
        ServerFault: It is not in time; with the sentence.
    """
    try:
        async with asyncio.timeout(seconds):
            while not await probe():  # noqa: ASYNC110 - another process tells nobody
                await asyncio.sleep(_LOOK_AGAIN)
    except TimeoutError:
        raise ServerFault(f"{sentence} within {seconds:g} s") from None


async def _is_master(server: RedisProcess) -> bool:
    return server.running and await server.role() == "master"


async def _is_whole(one: RedisProcess, other: RedisProcess) -> bool:
    """Whether of a pair one follows the other, and has all of its data."""
    states = [await one.says("replication"), await other.says("replication")]
    states.sort(key=lambda state: state.get("role", ""))  # master, slave
    master, replica = states
    return (
        (master.get("role"), replica.get("role")) == ("master", "slave")
        and master.get("connected_slaves") == "1"
        and replica.get("master_link_status") == "up"
    )


async def _known(server: RedisProcess) -> int:
    lines = (await server.ask("CLUSTER", "NODES")).decode().splitlines()
    return sum("handshake" not in line and "noaddr" not in line for line in lines)


async def _follows(replica: RedisProcess, master: bytes) -> bool:
    try:
        await replica.ask("CLUSTER", "REPLICATE", master)
    except ReplyError:
        return False
    return True
