"""Unit costs of a shared store: what an item, a device and feedback take of Redis, and of the node that asks.

Used by `costs.py`. One Redis server runs on the broker's core, with every write on disk before it is
answered (`appendfsync always`); nodes run on the other. CPU of Redis is that of all its threads.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import servers
from cost_server import PAYLOAD, Measured
from harness import Worker, cores, cpu_seconds, idents, idle_share, progress, quiesce

from devices.profile import Profile
from feedgen.items import Item, Record, digest
from feedgen.store.redis import RedisStore
from feedgen.store.shared import Claim

#: Items, claims or feedback bodies under way at a time: as many as one turn of a busy node brings.
TOGETHER = 64
#: Idle nodes whose heartbeats are measured.
NODES = 30
#: Feedback events in one body, and bytes of an event in it.
EVENTS, EVENT = 100, 40


@contextmanager
def redis() -> Iterator[servers.Server]:
    """Run a Redis server on an empty directory, with the durable setting.

    Raises:
        FileNotFoundError: it is not installed.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError("redis-server")
    with tempfile.TemporaryDirectory(prefix="redis-bench-") as place:
        port = servers.free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", place]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with servers._running("redis", command, port, Path(place) / "log") as server:  # noqa: SLF001
            yield server


def info(server: servers.Server, name: str) -> int:
    """Return a number of Redis' INFO."""
    with socket.create_connection(("127.0.0.1", server.port)) as asked:
        asked.sendall(b"INFO\r\n")
        said = b""
        while not said.endswith(b"\r\n\r\n") and len(said) < 1 << 20:
            if not (more := asked.recv(1 << 16)):
                break
            said += more
            if said.startswith(b"$") and len(said) >= int(said[1 : said.index(b"\r")]):
                break
    (value,) = (line[len(name) + 1 :] for line in said.split(b"\r\n") if line.startswith(name.encode() + b":"))  # fmt: skip
    return int(value)


class Node:
    """One node's hold on the store, told what to do by a `Worker`; it is told what others do.

    Args:
        port: Of Redis, on 127.0.0.1.
        name: Of the node.
    """

    def __init__(self, *, port: int, name: str) -> None:
        self._store = RedisStore(f"redis://127.0.0.1:{port}")
        self._name = name
        self._claims: dict[str, Claim] = {}
        self._heard: dict[int, float] = {}

    async def join(self) -> None:
        """Become a node."""
        await self._store.join(self._name, self)

    async def leave(self) -> None:
        """Let go of the store."""
        await self._store.close(clean=True)

    async def put(self, *, count: int) -> float:
        """Store items, `TOGETHER` at a time; returns CPU seconds."""
        began = time.process_time()
        for first in range(0, count, TOGETHER):
            some = [self._record() for _ in range(first, min(first + TOGETHER, count))]
            await asyncio.gather(*(self._store.put_item(record, None) for record in some))
        return time.process_time() - began

    async def put_alone(self, *, count: int) -> list[tuple[int, float, float]]:
        """Store items one after the other; returns number, beginning and end of each."""
        found = []
        for _ in range(count):
            record, began = self._record(), time.monotonic()
            await self._store.put_item(record, None)
            found.append((record.n, began, time.monotonic()))
            await asyncio.sleep(0.005)
        return found

    def heard(self) -> dict[int, float]:
        """Return when each item of another node was told."""
        return self._heard

    async def claim(self, *, devices: Sequence[str]) -> float:
        """Claim devices, `TOGETHER` at a time; returns CPU seconds."""
        began = time.process_time()
        for first in range(0, len(devices), TOGETHER):
            some = devices[first : first + TOGETHER]
            claims = await asyncio.gather(*map(self._store.claim, some))
            self._claims.update(zip(some, claims, strict=True))
        return time.process_time() - began

    async def release(self, *, devices: Sequence[str]) -> float:
        """Store the profiles of claimed devices and let go of them; returns CPU seconds."""
        profile = Profile("x", follow=("alerts/+/ca", "news/#"), agent="device 1.0", epoch=1, session=bytes(60))  # fmt: skip
        began = time.process_time()
        for first in range(0, len(devices), TOGETHER):
            blob = profile.pack()
            puts = []
            for device in devices[first : first + TOGETHER]:
                claim = self._claims[device]
                put = {"version": claim.version, "token": claim.token, "release": True}
                puts.append(self._store.put_device(device, blob, **put))  # type: ignore[arg-type]
            await asyncio.gather(*puts)
        return time.process_time() - began

    async def feedback(self, *, bodies: int) -> float:
        """Hand over feedback and wait until it is written; returns CPU seconds."""
        began = time.process_time()
        for _ in range(bodies):
            self._store.feedback(bytes(EVENTS * EVENT))
            await asyncio.sleep(0)
        await self._store.submit(())
        return time.process_time() - began

    async def read_feedback(self, *, bodies: int) -> int:
        """Read feedback as the trainer does; returns how many bodies there were."""
        read = 0
        while read < bodies and (found := await self._store.read_feedback(100)):
            read += len(found)
        return read

    def _record(self) -> Record:
        n, now = self._store.number(), time.time()
        item = Item(f"bench/{n % 50}", f"i{n}", f"@@{n:07d}".ljust(PAYLOAD, "."))
        return Record(n, 0, item, int(1000 * now), int(now) + 86_400, digest(item))

    # ---- What other nodes do

    def accepted(self, records: Sequence[Record]) -> None:
        """Note when."""
        now = time.monotonic()
        for record in records:
            self._heard[record.n] = now

    def changed(self, device: str, notice: str) -> None:
        """Not of interest."""

    def taken(self, device: str) -> None:
        """Not of interest."""

    def told(self, kind: str, body: bytes, node: str) -> None:
        """Not of interest."""

    def posted(self, bodies: Sequence[bytes]) -> None:
        """Not of interest."""

    def members(self, nodes: frozenset[str]) -> None:
        """Not of interest."""

    def missed(self) -> None:
        """Not of interest."""


class Crowd:
    """Nodes that do nothing, in one process.

    Args:
        port: Of Redis, on 127.0.0.1.
    """

    def __init__(self, *, port: int) -> None:
        self._nodes = [Node(port=port, name=f"idle-{at}") for at in range(NODES)]

    async def join(self) -> None:
        """Become nodes."""
        for node in self._nodes:
            await node.join()

    async def settle(self) -> None:
        """Wait until nothing more is told."""
        seen = -1
        while seen != (heard := sum(len(node.heard()) for node in self._nodes)):
            seen = heard
            await asyncio.sleep(0.3)

    async def leave(self) -> None:
        """Let go of the store."""
        for node in self._nodes:
            await node.leave()


class Meter:
    """What Redis spends on some work: CPU seconds without its idle share, and bytes sent."""

    def __init__(self, server: servers.Server) -> None:
        self._server = server
        self._idle = idle_share(server.pid, seconds=2.0)
        self.cpu = self.sent = 0.0

    def __enter__(self) -> Self:
        quiesce(self._server.pid)
        self._sent = info(self._server, "total_net_output_bytes")
        self._cpu, self._began = cpu_seconds(self._server.pid), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        quiesce(self._server.pid)
        idle = self._idle * (time.monotonic() - self._began)
        self.cpu = max(cpu_seconds(self._server.pid) - self._cpu - idle, 0.0)
        self.sent = info(self._server, "total_net_output_bytes") - self._sent


def shared_store(items: int, devices: int, waits: int) -> Iterator[Measured]:
    """Yield all costs of the store."""
    with ExitStack() as stack:
        server = stack.enter_context(redis())
        progress("Redis: items")
        first = _node(stack, server, "first")
        meter = Meter(server)
        cpu = "µs of CPU"
        memory = info(server, "used_memory")
        with meter:
            ours = first.call("put", count=items) / items
        alone, stored = meter.cpu / items, info(server, "used_memory") - memory
        said = f"{items} items of {PAYLOAD} bytes, {TOGETHER} at a time, appendfsync always"
        yield Measured("node_put_item", ours * 1e6, cpu, f"the node's part of storing {said}")
        yield Measured("redis_put_item", alone * 1e6, cpu, f"Redis' part of storing {said}")
        yield Measured(
            "redis_item_bytes", stored / items, "bytes", f"growth of used_memory by {said}"
        )
        yield _reader(server, first, items)
        yield from _waits(stack, server, first, waits)
        yield from _devices(server, first, devices)
        yield from _feedback(server, first, max(devices // 20, 1))
        yield from _crowd(stack, server, first, max(items // 5, 1), alone)


def _crowd(
    stack: ExitStack, server: servers.Server, first: Worker, items: int, alone: float
) -> Iterator[Measured]:
    """Yield what one node of many takes of Redis: its heartbeats, and the items of others."""
    progress(f"Redis: {NODES} more nodes")
    before = idle_share(server.pid, seconds=3.0)
    crowd = stack.enter_context(Worker(cores()[1], Crowd, port=server.port))
    crowd.call("join")
    stack.callback(crowd.call, "leave")
    idle = (idle_share(server.pid, seconds=3.0) - before) / NODES
    how = f"Redis' part of a second of an idle node, one of {NODES} more"
    yield Measured("redis_node", max(idle, 1e-6) * 1e6, "µs of CPU", how)
    meter = Meter(server)
    with meter:
        first.call("put", count=items)
        crowd.call("settle")
    each = max(meter.cpu / items - alone, 1e-7) / NODES
    said = f"{items} items, {TOGETHER} at a time, for each of {NODES} nodes that read them"
    yield Measured("redis_read_item", each * 1e6, "µs of CPU", f"Redis' part of telling {said}")
    sent = meter.sent / items / NODES
    yield Measured("redis_read_bytes", sent, "bytes", f"what Redis sends to tell {said}")


def _node(stack: ExitStack, server: servers.Server, name: str) -> Worker:
    node = stack.enter_context(Worker(cores()[1], Node, port=server.port, name=name))
    node.call("join")
    stack.callback(node.call, "leave")
    return node


def _reader(server: servers.Server, first: Worker, items: int) -> Measured:
    """Return what it takes a server, a node as it is, to take in the items of another."""
    progress("Redis: a server that reads")
    with servers.fleetfeed("--store", f"redis://127.0.0.1:{server.port}") as node:
        idle = idle_share(node.pid, seconds=2.0)
        before, began = node.cpu(), time.monotonic()
        first.call("put", count=items)
        reading = node.cpu() - before - idle * (time.monotonic() - began)
    how = f"a server takes in {items} items of another node, {TOGETHER} at a time; nobody follows them"
    return Measured("node_read_item", max(reading / items, 0.0) * 1e6, "µs of CPU", how)


def _waits(
    stack: ExitStack, server: servers.Server, first: Worker, count: int
) -> Iterator[Measured]:
    """Yield how long an item takes to be durable, and to be told to another node."""
    progress("Redis: how long an item takes")
    second = _node(stack, server, "second")
    put = first.call("put_alone", count=count)
    time.sleep(0.5)  # what is not heard by then is not heard at all
    heard = second.call("heard")
    commits = [end - began for _, began, end in put]
    tails = [heard[n] - began for n, began, _ in put]
    said = f"{count} items, one after the other, appendfsync always"
    for name, waits, how in (
        ("commit", commits, f"put_item to durable, {said}"),
        ("tail", tails, f"put_item on one node to accepted on another, {said}"),
    ):
        yield Measured(f"redis_{name}_p50", statistics.median(waits) * 1e3, "ms", how)
        p99 = statistics.quantiles(waits, n=100)[98]
        yield Measured(f"redis_{name}_p99", p99 * 1e3, "ms", how)


def _devices(server: servers.Server, node: Worker, count: int) -> Iterator[Measured]:
    """Yield what claiming and letting go of a device takes, once it is known."""
    progress("Redis: devices")
    devices = idents(count)
    memory = info(server, "used_memory")
    node.call("claim", devices=devices)
    node.call("release", devices=devices)
    stored = (info(server, "used_memory") - memory) / count
    meter, said = Meter(server), f"{count} known devices, {TOGETHER} at a time"
    with meter:
        ours = node.call("claim", devices=devices) / count
    yield Measured("node_claim", ours * 1e6, "µs of CPU", f"the node's part of claiming {said}")
    yield Measured(
        "redis_claim", meter.cpu / count * 1e6, "µs of CPU", f"Redis' part of claiming {said}"
    )
    yield Measured(
        "redis_claim_bytes", meter.sent / count, "bytes", f"what Redis sends for it, {said}"
    )
    with meter:
        ours = node.call("release", devices=devices) / count
    how = f"part of storing a profile with its position and letting go, {said}"
    yield Measured("node_release", ours * 1e6, "µs of CPU", f"the node's {how}")
    yield Measured("redis_release", meter.cpu / count * 1e6, "µs of CPU", f"Redis' {how}")
    how = f"growth of used_memory by {count} devices with a profile and a position"
    yield Measured("redis_device_bytes", stored, "bytes", how)


def _feedback(server: servers.Server, node: Worker, bodies: int) -> Iterator[Measured]:
    """Yield what an event takes on its way to the trainer and from there."""
    progress("Redis: feedback")
    meter, events = Meter(server), bodies * EVENTS
    with meter:
        ours = node.call("feedback", bodies=bodies) / events
        read = node.call("read_feedback", bodies=bodies)
    assert read == bodies, f"{read} bodies of {bodies} were read"
    said = f"{bodies} bodies of {EVENTS} events of {EVENT} bytes"
    yield Measured("node_feedback", ours * 1e6, "µs of CPU", f"an event handed over, {said}")
    how = f"an event written and read, {said}"
    yield Measured("redis_feedback", meter.cpu / events * 1e6, "µs of CPU", how)
    yield Measured("redis_feedback_bytes", meter.sent / events, "bytes", f"sent by Redis, {how}")
