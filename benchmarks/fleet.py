"""The load: thousands of MQTT 3.1.1 devices and one publisher in one light process.

A benchmark of a broker is only as honest as its clients. These parse every packet boundary (packets
may share a segment or be split over several), count every PUBLISH per device, and acknowledge QoS 1
at once. They do nothing else: a client library would cost more than the broker that it loads.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from certificates import client_context
from wire import (
    RefusedError,
    connect_packet,
    filler,
    long_length,
    publish_packet,
    subscribe_packet,
    window_size,
)

#: Seconds after which a wait for deliveries is a failure of the broker, not a slow machine.
PATIENCE = 60.0
#: Connections opened at a time: enough to keep a broker busy, fewer than any listen backlog.
AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Round:
    """What one measured round brought to the devices.

    Attributes:
        deliveries: PUBLISH packets received by all devices together.
        octets: their bytes, fixed headers included.
        fewest: deliveries of the device that received the fewest in this round.
        most: deliveries of the device that received the most.
        seconds: wall-clock time from the first write to the last delivery.
    """

    deliveries: int
    octets: int
    fewest: int
    most: int
    seconds: float


class Tally:
    """Counts of one process and the wait for them."""

    __slots__ = ("acks", "deliveries", "goal", "octets", "reached", "ready", "trouble")

    def __init__(self) -> None:
        self.deliveries = 0
        self.octets = 0
        self.acks = 0
        self.ready = 0
        self.trouble: str | None = None
        self.goal: tuple[int, int] | None = None
        self.reached: asyncio.Future[None] | None = None

    def check(self) -> None:
        """Wake the waiter once its goal is reached or cannot be any more."""
        if self.reached is None or self.reached.done():
            return
        if self.trouble:
            self.reached.set_exception(RefusedError(self.trouble))
        elif self.goal and self.deliveries >= self.goal[0] and self.acks >= self.goal[1]:
            self.reached.set_result(None)

    async def until(self, deliveries: int, acks: int = 0) -> None:
        """Wait for these totals, counted since the process began.

        Raises:
            RefusedError: they did not come within `PATIENCE`, or a connection was lost.
        """
        self.goal = (deliveries, acks)
        self.reached = asyncio.get_running_loop().create_future()
        self.check()
        try:
            await asyncio.wait_for(self.reached, PATIENCE)
        except TimeoutError:
            raise RefusedError(
                f"{self.deliveries} of {deliveries} deliveries and {self.acks} of {acks} "
                f"acknowledgements within {PATIENCE:.0f} s"
            ) from None
        finally:
            self.goal = self.reached = None


class Client(asyncio.Protocol):
    """One MQTT connection: packet boundaries, counts and acknowledgements."""

    __slots__ = ("_tail", "_transport", "closing", "got", "on_ready", "sink", "tally")

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.got = 0
        self.sink: Callable[[bytes], None] | None = None
        self.on_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closing = False
        self._tail = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back (asyncio)."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count an unasked close as the failure of the run (asyncio)."""
        if self.closing:
            return
        self.fail(f"the broker closed a connection ({exc})")

    def fail(self, why: str) -> None:
        """End the run with a sentence."""
        self.tally.trouble = why
        self.tally.check()
        if not self.on_ready.done():
            self.on_ready.set_exception(RefusedError(why))

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        self._transport.write(data)

    def close(self) -> None:
        """Leave with a DISCONNECT."""
        self.closing = True
        self._transport.write(b"\xe0\x00")
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take whole packets out of the stream (asyncio). The hot path of every benchmark."""
        if self._tail:
            data = self._tail + data
            self._tail = b""
        tally = self.tally
        at, end = 0, len(data)
        while end - at >= 2:
            length, body = data[at + 1], at + 2
            if length > 127:
                length, body = long_length(data, at + 1)
                if not body:
                    break
            stop = body + length
            if stop > end:
                break
            head = data[at]
            if head & 0xF0 == 0x30:
                self.got += 1
                tally.deliveries += 1
                tally.octets += stop - at
                content = body + 2 + (data[body] << 8 | data[body + 1])
                if head & 0x06:
                    self._transport.write(b"\x40\x02" + data[content : content + 2])
                    content += 2
                if self.sink is not None:
                    self.sink(data[content:stop])
            elif head == 0x40:
                tally.acks += 1
                self.acknowledged()
            else:
                self.answered(head, data[body:stop])
            at = stop
        if at < end:
            self._tail = data[at:]
        if tally.goal is not None:
            tally.check()

    def acknowledged(self) -> None:
        """Take one PUBACK; a publisher only counts it."""

    def answered(self, head: int, body: bytes) -> None:
        """Take CONNACK: all that a publisher waits for."""
        if head != 0x20:
            self.fail(f"the broker sent a packet of type {head >> 4}")
        elif body[1]:
            self.fail(f"the broker refused the CONNECT with code {body[1]}")
        elif not self.on_ready.done():
            self.on_ready.set_result(None)


AnyClient = TypeVar("AnyClient", bound=Client)


class Device(Client):
    """A device: connects, says its up messages, subscribes, then counts."""

    __slots__ = ("_awaited", "_greeting")

    def __init__(
        self, tally: Tally, ident: str, ups: Sequence[bytes], filters: Sequence[str], qos: int
    ) -> None:
        super().__init__(tally)
        said = [publish_packet(f"u/{ident}", up, 1, at) for at, up in enumerate(ups, 2)]
        self._greeting = b"".join(said) + subscribe_packet(1, filters, qos)
        self._awaited = 1 + len(ups)

    def acknowledged(self) -> None:
        """Take the PUBACK of an up message."""
        self._one_less()

    def answered(self, head: int, body: bytes) -> None:
        """Take CONNACK, then SUBACK."""
        if head == 0x20 and body[1] == 0:
            self.write(self._greeting)
        elif head == 0x90:
            if 0x80 in body[2:]:
                self.fail("the broker refused a subscription")
            self._one_less()
        else:
            super().answered(head, body)

    def _one_less(self) -> None:
        self._awaited -= 1
        if self._awaited == 0 and not self.on_ready.done():
            self.tally.ready += 1
            self.on_ready.set_result(None)


class Fleet:
    """All devices of one process and their publisher. Public coroutines are its commands.

    Args:
        port: the broker's, on 127.0.0.1.
        idents: client ids; device `x` subscribes to `f/x`.
        qos: of subscriptions and of what `publish_each` sends.
        also: filters that every device subscribes to besides its own.
        ups: payloads per device that it publishes at QoS 1 to `u/<ident>` before SUBSCRIBE.
        keep: keep every payload received, for `held`.
        tls: connect by TLS.
    """

    def __init__(
        self,
        *,
        port: int,
        idents: Sequence[str],
        qos: int,
        also: Sequence[str] = (),
        ups: Sequence[Sequence[bytes]] | None = None,
        keep: bool = False,
        tls: bool = False,
    ) -> None:
        self._tls = client_context() if tls else None
        self.tally = Tally()
        self.qos = qos
        self.devices: list[Device] = []
        self._port = port
        self._idents = idents
        self._also = also
        self._ups = ups
        self._keep = keep
        self._kept: dict[int, list[bytes]] = {}
        self._publisher: Client | None = None
        self._items = 0

    async def connect(self) -> int:
        """Connect and subscribe every device, `AT_ONCE` at a time; returns how many are ready."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(at: int) -> Device:
            async with gate:
                return await self._device(at)

        self.tally.ready = 0
        async with asyncio.timeout(PATIENCE):
            self.devices = list(await asyncio.gather(*map(one, range(len(self._idents)))))
        return self.tally.ready

    async def _device(self, at: int) -> Device:
        ident = self._idents[at]
        ups = self._ups[at] if self._ups else ()
        filters = (f"f/{ident}", *self._also)
        device = Device(self.tally, ident, ups, filters, self.qos)
        device.sink = self.sink(at)
        return await self._open(ident, device)

    def sink(self, at: int) -> Callable[[bytes], None] | None:
        """Return what takes the payloads of a device, nothing unless they are kept."""
        if not self._keep:
            return None
        self._kept[at] = []
        return self._kept[at].append

    async def _open(self, ident: str, client: AnyClient) -> AnyClient:
        loop = asyncio.get_running_loop()
        port = self.port_of(ident)
        await loop.create_connection(lambda: client, "127.0.0.1", port, ssl=self._tls)
        client.write(connect_packet(ident))
        await client.on_ready
        return client

    def port_of(self, ident: str) -> int:
        """Return where a client connects."""
        del ident
        return self._port

    async def publisher(self) -> Client:
        """Return the publisher's connection, opened at its first use."""
        if self._publisher is None:
            self._publisher = await self._open("bench-publisher", Client(self.tally))
        return self._publisher

    async def disconnect(self) -> None:
        """Close all devices; the publisher stays."""
        for device in self.devices:
            device.close()
        self.devices = []
        await asyncio.sleep(0.1)

    async def items(
        self, *, count: int, size: int, priority: int, each: int, channel: str = "bench/x"
    ) -> Round:
        """Publish `count` items at QoS 1 with payloads of `size` bytes, each once the last arrived.

        `each` is the number of deliveries that one item must bring.
        """
        publisher = await self.publisher()
        start = self._start()
        for _ in range(count):
            deliveries = self.tally.deliveries + each
            acks = self.tally.acks + 1
            body = self.item(size=size, priority=priority)
            publisher.write(publish_packet(f"items/{channel}", body, 1, self._items & 0xFFFF or 1))
            await self.tally.until(deliveries, acks)
        return self._end(start)

    def item(self, *, size: int, priority: int) -> bytes:
        """Make the next item as JSON; its payload names it, so that no two are alike."""
        self._items += 1
        name = f"@@{self._items:07d}"
        item = {"id": f"i{self._items}", "payload": name.ljust(size, "."), "priority": priority}
        return json.dumps(item).encode()

    async def each(self, *, count: int, size: int) -> Round:
        """Publish to every device's own topic, `count` times over, packets of `size` bytes."""
        own = [f"f/{ident}" for ident in self._idents]
        blob = b"".join(
            publish_packet(topic, filler(topic, self.qos, size), self.qos, at)
            for at, topic in enumerate(own, 1)
        )
        return await self._repeat(blob, count, len(own) if self.qos else 0)

    async def to_all(self, *, count: int, size: int, topic: str) -> Round:
        """Publish to one topic that every device subscribes to, `count` times."""
        blob = publish_packet(topic, filler(topic, self.qos, size), self.qos, 1)
        return await self._repeat(blob, count, self.qos)

    async def _repeat(self, blob: bytes, count: int, acks: int) -> Round:
        publisher = await self.publisher()
        start = self._start()
        for _ in range(count):
            deliveries = self.tally.deliveries + len(self.devices)
            acknowledged = self.tally.acks + acks
            publisher.write(blob)
            await self.tally.until(deliveries, acknowledged)
        return self._end(start)

    def begin(self) -> None:
        """Open a round whose packets somebody else sends."""
        self._open_round = self._start()

    async def arrived(self, *, deliveries: int) -> None:
        """Wait until the open round has brought this many."""
        await self.tally.until(self._open_round[0] + deliveries)

    def end(self) -> Round:
        """Close the open round."""
        return self._end(self._open_round)

    def _start(self) -> tuple[int, int, list[int], float]:
        got = [device.got for device in self.devices]
        return self.tally.deliveries, self.tally.octets, got, time.perf_counter()

    def _end(self, start: tuple[int, int, list[int], float]) -> Round:
        deliveries, octets, before, began = start
        now = time.perf_counter()
        gained = [device.got - had for device, had in zip(self.devices, before, strict=True)]
        return Round(
            deliveries=self.tally.deliveries - deliveries,
            octets=self.tally.octets - octets,
            fewest=min(gained, default=0),
            most=max(gained, default=0),
            seconds=now - began,
        )

    async def settle(self, *, quiet: float = 0.25) -> int:
        """Wait until nothing arrived for `quiet` seconds; returns all deliveries so far."""
        seen = -1
        while seen != self.tally.deliveries:
            seen = self.tally.deliveries
            await asyncio.sleep(quiet)
        return seen

    def held(self) -> tuple[int, int]:
        """Replay the frames kept: items held by the device that holds (fewest, most)."""
        sizes = [window_size(frames) for frames in self._kept.values()]
        return min(sizes, default=0), max(sizes, default=0)
