"""Unit costs that only a running server has: items by audience, connections, up messages, TLS.

Used by `costs.py`. Each function starts a server of its own on the broker's core and returns what it
measured as `Measured`; CPU is that of all threads of the server, and what it takes while idle is
subtracted, as a plan adds it by itself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import msgpack
import servers
from contenders import WINDOW, bare, ours
from fleet import AT_ONCE, Device, Fleet
from harness import Series, Worker, cores, idents, idle_share, progress, quiesce
from wire import publish_packet

#: Bytes of an item's payload.
PAYLOAD = 100
#: Payload bytes of the items in a first snapshot: eight of them fit one frame of the default budget.
SHORT = 20
#: A channel without followers.
NOBODY = "nobody/follows"
#: Items that a flood is ahead of their acknowledgements.
AHEAD = 500
#: Channels of one audience, so that not the same sockets are warm for every item.
CHANNELS = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """One unit cost: `value` in `unit`, and `how` it was measured."""

    name: str
    value: float
    unit: str
    how: str


class AskingDevice(Device):
    """A device that pings as well; an answer counts like an acknowledgement."""

    def answered(self, head: int, body: bytes) -> None:
        """Take PINGRESP besides what a device takes."""
        if head == 0xD0:
            self.tally.acks += 1
        else:
            super().answered(head, body)


class AskingFleet(Fleet):
    """A fleet whose devices ask: pings, up messages, and a publisher that does not wait."""

    async def _device(self, at: int) -> AskingDevice:
        ident = self._idents[at]
        ups = self._ups[at] if self._ups else ()
        device = AskingDevice(self.tally, ident, ups, (f"f/{ident}",), self.qos)
        device.sink = self.sink(at)
        return await self._open(ident, device)

    def octets(self) -> int:
        """Return the bytes of all PUBLISH packets received so far."""
        return self.tally.octets

    async def pings(self, *, count: int) -> int:
        """Let every device ping `count` times, each time once all are answered."""
        for _ in range(count):
            await self._ask([b"\xc0\x00"] * len(self.devices))
        return count * len(self.devices)

    async def ups(self, *, payload: bytes, count: int) -> int:
        """Let every device send an up message at QoS 1, `count` times."""
        for at in range(1, count + 1):
            await self._ask(
                [publish_packet(f"u/{ident}", payload, 1, at) for ident in self._idents]
            )
        return count * len(self.devices)

    async def _ask(self, packets: list[bytes]) -> None:
        """Send one packet of each device, some devices at a time, and wait for every answer."""
        for first in range(0, len(packets), AT_ONCE):
            some = slice(first, first + AT_ONCE)
            acks = self.tally.acks + len(packets[some])
            for device, packet in zip(self.devices[some], packets[some], strict=True):
                device.write(packet)
            await self.tally.until(self.tally.deliveries, acks)

    async def flood(self, *, count: int, size: int, channels: Sequence[str]) -> None:
        """Publish `count` items at QoS 1, up to `AHEAD` ahead of their PUBACKs; wait for all frames."""
        publisher = await self.publisher()
        for first in range(0, count, AHEAD):
            acks = self.tally.acks
            for at in range(first, min(first + AHEAD, count)):
                topic = f"items/{channels[at % len(channels)]}"
                body = self.item(size=size, priority=1)
                publisher.write(publish_packet(topic, body, 1, self._items & 0xFFFF or 1))
                acks += 1
            await self.tally.until(self.tally.deliveries, acks)
        await self.settle()


class Meter:
    """CPU seconds of a server, without what it takes while idle.

    Args:
        server: quiet at the moment.
    """

    def __init__(self, server: servers.Server) -> None:
        self._server = server
        self.idle = idle_share(server.pid, seconds=1.0)

    def spent(self, work: Callable[[], object]) -> float:
        """Return the CPU seconds that some work costs the server, up to its last acknowledgement."""
        quiesce(self._server.pid)
        before, began = self._server.cpu(), time.monotonic()
        work()
        after = self._server.cpu()
        return max(after - before - self.idle * (time.monotonic() - began), 0.0)


def _channels(audience: int, devices: int) -> int:
    """Return how many channels stand for one size of audience; all devices is one audience."""
    return CHANNELS if audience < devices else 1


def _greetings(audiences: Mapping[int, int], devices: int) -> Iterator[list[bytes]]:
    """Yield what each device says first: the channels that it follows."""
    rng = random.Random(1)
    follow: list[list[str]] = [[] for _ in range(devices)]
    for audience, channels in audiences.items():
        for channel in range(channels):
            for device in rng.sample(range(devices), audience):
                follow[device].append(f"bench/{audience}/{channel}")
    for filters in follow:
        # A device follows 32 filters at most; the last ones are the largest audiences.
        yield [msgpack.packb([3, {"follow": filters[-32:], "unfollow": ["#"]}])]


def items(devices: int, rounds: int) -> Iterator[Measured]:
    """Yield the CPU of one item by its audience, at QoS 0 and 1; bytes of a frame; idle share."""
    sizes = [size for size in (10, 100, 1000, 10_000) if size < devices]
    audiences = {size: _channels(size, devices) for size in (*sizes, devices)}
    with ExitStack() as stack:
        server = stack.enter_context(servers.fleetfeed())
        fleet = stack.enter_context(
            Worker(
                cores()[1],
                AskingFleet,
                port=server.port,
                idents=idents(devices),
                qos=1,
                ups=list(_greetings(audiences, devices)),
            )
        )
        progress(f"items: connecting {devices} devices")
        fleet.call("connect")
        fleet.call("settle")
        for audience, channels in audiences.items():
            for channel in range(channels):
                _publish(fleet, WINDOW, audience, channel, priority=0)
        meter = Meter(server)
        said = f"{devices} devices connected, payload {PAYLOAD}, learned ranking, windows full"
        yield Measured("idle", meter.idle * 1e6, "µs of CPU a second", said)
        for qos in (0, 1):
            yield from _curve(fleet, meter, audiences, qos, rounds, said)
        yield from _floods(fleet, meter, audiences, rounds, said)
        resident, count = server.resident(), 2 * devices
        fleet.call("flood", count=count, size=PAYLOAD, channels=[NOBODY])
        how = f"growth of the server's resident set by {count} live items of {PAYLOAD} bytes"
        yield Measured("item_bytes", (server.resident() - resident) / count, "bytes", how)


def sends(devices: int, rounds: int) -> Iterator[Measured]:
    """Yield what writing one packet takes at least: a bare `send()`, cold or warm as the fleet is."""
    progress("a bare send() loop")
    with ExitStack() as stack:
        loop = bare(stack, devices, 10, 0)
        for _ in range(rounds):
            loop.measure(PAYLOAD, 10 * devices)
    how = f"a send() of {PAYLOAD} bytes in a Python loop over {devices} sockets, {rounds} rounds"
    yield Measured("send", loop.spent.median * 1e6, "µs of CPU", how)


def _publish(fleet: Worker, count: int, audience: int, channel: int, priority: int) -> int:
    """Publish items to one audience, each once the last arrived; returns the bytes of all frames."""
    arrived = fleet.call(
        "items",
        count=count,
        size=PAYLOAD,
        priority=priority,
        each=audience,
        channel=f"bench/{audience}/{channel}",
    )
    octets: int = arrived.octets
    return octets


def _curve(
    fleet: Worker, meter: Meter, audiences: Mapping[int, int], qos: int, rounds: int, said: str
) -> Iterator[Measured]:
    """Yield the CPU of one item for each audience, none included."""
    octets = pushes = 0
    for audience, channels in {0: 1, **audiences}.items():
        progress(f"items: QoS {qos}, {audience} followers")
        each = max(1, min(100, 2000 // max(audience, 1))) // channels or 1
        spent = Series()

        def work(audience: int = audience, channels: int = channels, each: int = each) -> None:
            nonlocal octets, pushes
            for channel in range(channels):
                octets += _publish(fleet, each, audience, channel, priority=qos)
                pushes += each * audience

        work()  # code and sockets are warm in a server that has run for long
        octets = pushes = 0
        for _ in range(rounds):
            spent.add(meter.spent(work) / (each * channels))
        how = f"one item of QoS {qos} to {audience} devices, each once the last arrived; {said}"
        yield Measured(f"item_qos{qos}_to_{audience}", spent.median * 1e6, "µs of CPU", how)
    how = f"PUBLISH packets of QoS {qos} to {audience} devices, one item of {PAYLOAD} bytes each"
    yield Measured(f"frame_bytes_qos{qos}", octets / pushes, "bytes", how)


def _floods(
    fleet: Worker, meter: Meter, audiences: Mapping[int, int], rounds: int, said: str
) -> Iterator[Measured]:
    """Yield the CPU of one item of many that come together, for each audience but the largest."""
    for audience, channels in {0: 1, **audiences}.items():
        if audience and channels == 1:
            continue
        progress(f"items: {audience} followers, flooded")
        names = [f"bench/{audience}/{at}" for at in range(channels)] if audience else [NOBODY]
        count = 4 * AHEAD if audience <= 100 else AHEAD
        flood = {"count": count, "size": PAYLOAD, "channels": names}
        spent = Series()
        for _ in range(rounds):
            spent.add(meter.spent(lambda flood=flood: fleet.call("flood", **flood)) / count)
        how = f"{count} items of QoS 1 to {audience} devices, {AHEAD} at a time; {said}"
        yield Measured(f"flood_to_{audience}", spent.median * 1e6, "µs of CPU", how)


@dataclass(slots=True)
class Connections:
    """What connections, and what comes by them, cost in each round."""

    first: Series = field(default_factory=Series)
    again: Series = field(default_factory=Series)
    snapshot: Series = field(default_factory=Series)
    process: Series = field(default_factory=Series)
    connected: Series = field(default_factory=Series)
    socket: Series = field(default_factory=Series)
    ping: Series = field(default_factory=Series)
    up: Series = field(default_factory=Series)

    def measure(self, server: servers.Server, fleet: Worker, devices: int) -> None:
        """Take one round on a fresh server."""
        fleet.call("items", count=WINDOW, size=SHORT, priority=1, each=0)
        quiesce(server.pid)
        self.process.add(server.resident())
        meter, slab = Meter(server), _slab()
        self._connect(self.first, meter, fleet, devices)
        self.connected.add((server.resident() - self.process.values[-1]) / devices)
        # Both ends of each connection are on this machine.
        self.socket.add((_slab() - slab) / devices / 2)
        fleet.call("disconnect")
        self._connect(self.again, meter, fleet, devices)
        count, ack = 3 * devices, msgpack.packb([1, 1, 1])
        self.ping.add(meter.spent(lambda: fleet.call("pings", count=3)) / count)
        self.up.add(meter.spent(lambda: fleet.call("ups", payload=ack, count=3)) / count)

    def _connect(self, into: Series, meter: Meter, fleet: Worker, devices: int) -> None:
        octets = fleet.call("octets")
        into.add(meter.spent(lambda: _connect(fleet)) / devices)
        self.snapshot.add((fleet.call("octets") - octets) / devices)


def connections(devices: int, rounds: int) -> Iterator[Measured]:
    """Yield what a connection costs: CPU, memory here and in the kernel; pings, up messages."""
    found = Connections()
    for at in range(rounds):
        progress(f"connections: round {at + 1} of {rounds}, {devices} devices")
        with ExitStack() as stack:
            server = stack.enter_context(servers.fleetfeed())
            settings = {"port": server.port, "idents": idents(devices), "qos": 1}
            fleet = stack.enter_context(Worker(cores()[1], AskingFleet, **settings))
            found.measure(server, fleet, devices)
    said = f"{devices} devices, {rounds} rounds"
    window = f"CONNECT, SUBSCRIBE, a snapshot of {WINDOW} items in one frame, PUBACK; {said}"
    asked = f"{AT_ONCE} devices at a time; {said}"
    for name, series, unit, how in (
        ("connect_first", found.first, "µs", f"an unknown device: {window}"),
        ("connect", found.again, "µs", f"a known device: {window}"),
        ("ping", found.ping, "µs", f"PINGREQ and PINGRESP, {asked}"),
        ("up_message", found.up, "µs", f"the up message [1, 1, 1] at QoS 1, {asked}"),
        ("snapshot_bytes", found.snapshot, "bytes", f"PUBLISH packet of the first snapshot; {said}"),
        ("connected_bytes", found.connected, "bytes", f"growth of the server's resident set; {said}"),
        ("socket_bytes", found.socket, "bytes", f"growth of Slab in /proc/meminfo, halved; {said}"),
        ("process_bytes", found.process, "bytes", f"resident set of a started server; {rounds} rounds"),
    ):  # fmt: skip
        if unit == "µs":
            yield Measured(name, 1e6 * series.median, "µs of CPU", how)
        else:
            yield Measured(name, series.median, unit, how)


def _connect(fleet: Worker) -> None:
    fleet.call("connect")
    fleet.call("settle")


def _slab() -> int:
    """Return the bytes of the kernel's objects, sockets among them."""
    with open("/proc/meminfo", encoding="ascii") as info:  # noqa: PTH123 - a kernel file
        kilobytes = next(line.split()[1] for line in info if line.startswith("Slab:"))
    return 1024 * int(kilobytes)


def tls(devices: int, rounds: int) -> Iterator[Measured]:
    """Yield what TLS adds to a push, a connection and its memory."""
    said = f"{devices} devices, {rounds} rounds; TLS 1.3, ECDSA, less the same without TLS"
    for qos in (0, 1):
        progress(f"TLS: pushes at QoS {qos}")
        with ExitStack() as stack:
            sides = [ours(stack, devices, 20, qos, encrypted) for encrypted in (False, True)]
            for _ in range(rounds):
                for side in sides:
                    side.measure(0, 20 * devices)
        plain, encrypted = (side.spent.median for side in sides)
        how = f"a push at QoS {qos}, {said}"
        yield Measured(f"tls_push_qos{qos}", max(encrypted - plain, 0) * 1e6, "µs of CPU", how)
    progress("TLS: connections")
    cpu, memory = {}, {}
    for encrypted in (False, True):
        with ExitStack() as stack:
            server = stack.enter_context(servers.fleetfeed(tls=encrypted))
            settings = {"port": server.port, "idents": idents(devices), "qos": 1, "tls": encrypted}
            fleet = stack.enter_context(Worker(cores()[1], Fleet, **settings))
            resident, meter = server.resident(), Meter(server)
            cpu[encrypted] = meter.spent(lambda fleet=fleet: _connect(fleet)) / devices
            memory[encrypted] = (server.resident() - resident) / devices
    how = f"a connection, its handshake included, {said}"
    yield Measured("tls_connect", max(cpu[True] - cpu[False], 0) * 1e6, "µs of CPU", how)
    yield Measured("tls_bytes", max(memory[True] - memory[False], 0), "bytes", how)
