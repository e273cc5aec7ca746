"""Many virtual devices in one process, each with its own MQTT connection and its own window.

A device here is what a firmware would be: it connects, says hello, subscribes, applies frames, acknowledges, says hello
again where it sees a gap, and comes back after a lost connection. One asyncio protocol object and one replica, nothing
more: thousands fit into a small process.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from devices.frames import (
    Delta,
    Event,
    Feedback,
    Frame,
    Kind,
    Profile,
    Put,
    Remove,
    Snapshot,
    decode_frame,
    encode_up,
)
from devices.packets import (
    Connect,
    Packet,
    Puback,
    Publish,
    Suback,
    Subscribe,
    encode,
    puback,
    publish_head,
    topic_field,
)
from devices.replica import HelloPacer, Received, Replica
from simulator.connection import KEEP_ALIVE, Client, Refused
from simulator.tally import Arrivals, Tally

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from devices.frames import FeedItem

_AT_ONCE = 64
"""Connections being made at a time: a fleet that starts must not look like an attack."""
_BACKOFF = (0.5, 30.0)
_SAMPLE = 16
"""One delta in so many is compared with the whole window in its place."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """Who a virtual device is.

    Attributes:
        device: Its id.
        follow: The filters it follows; None leaves the server's default.
        k: Window length.
        budget: The longest packet it takes.
        max_qos: The highest QoS that it takes.
    """

    device: str
    follow: tuple[str, ...] | None = None
    k: int = 8
    budget: int = 256
    max_qos: int = 1


class FleetError(Exception):
    """A fleet that cannot start: the sentence says how many devices and why."""


class Device(Client):
    """One virtual device; made and run by a `Fleet`."""

    __slots__ = (
        "_attempts",
        "_fleet",
        "_frames",
        "_gap",
        "_highest",
        "_pacer",
        "_profile",
        "_profile_id",
        "_removed_at",
        "_topic",
        "_up",
        "replica",
        "spec",
        "subscribed",
    )

    def __init__(self, spec: DeviceSpec, fleet: Fleet, seed: int) -> None:
        super().__init__(Connect(spec.device, clean_session=False, keep_alive=KEEP_ALIVE))
        self.spec = spec
        self.replica = Replica(
            k=spec.k, budget=spec.budget, max_qos=spec.max_qos, agent="fleetfeed simulator"
        )
        self.subscribed = False
        self._fleet = fleet
        self._topic = f"f/{spec.device}"
        self._up = topic_field(f"u/{spec.device}")
        self._pacer = HelloPacer(seed)
        self._gap = False
        self._profile = _profile(spec)
        self._profile_id = 0
        self._attempts = 0
        self._frames = 0
        self._highest = 0  # the highest item number seen
        self._removed_at = 0.0  # when an item last left the window by an op of its own

    @property
    def window(self) -> tuple[FeedItem, ...]:
        """What the device shows, best first."""
        return self.replica.window

    @property
    def following(self) -> bool:
        """Whether the server has stored what this device follows."""
        return self._profile is None

    def connected(self) -> None:
        """Profile and hello go before SUBSCRIBE, so that the first snapshot is the right one."""
        self._fleet.tally.connects += 1
        if self._profile is not None:
            self._profile_id = self.send_up(self._profile)
        self._hello()
        subscribe = Subscribe(self.next_packet_id(), ((self._topic, self.spec.max_qos),))
        self.send(encode(subscribe))

    def received(self, packet: Packet, size: int) -> None:
        """Takes frames and acknowledgements."""
        match packet:
            case Publish():
                self._frame(packet, size)
                if packet.qos:
                    self.send(puback(packet.packet_id))
            case Puback(packet_id) if packet_id == self._profile_id:
                self._profile = None
                self._fleet.changed()
            case Suback():
                self.subscribed = True
                self._attempts = 0
                self._fleet.changed()
            case _:
                pass

    def lost(self, why: Exception) -> None:
        """Comes back after a while, unless the server said that it never may."""
        self.subscribed = False
        self._fleet.lost(self, why)

    def backoff(self, rng: random.Random) -> float:
        """Seconds to wait before the next attempt: doubling, with jitter so that a fleet spreads out."""
        shortest, longest = _BACKOFF
        delay = min(shortest * 2.0**self._attempts, longest)
        self._attempts = min(self._attempts + 1, 16)
        return delay * rng.uniform(0.5, 1.0)

    def send_up(self, message: bytes) -> int:
        """Sends an up message at QoS 1; its packet id."""
        packet_id = self.next_packet_id()
        self.send(publish_head(self._up, len(message), qos=1, packet_id=packet_id) + message)
        return packet_id

    def tick(self, now: float) -> None:
        """What time alone makes necessary: pings, and a hello that was not answered."""
        self.keep_alive(now)
        if self._gap and self.subscribed and self._pacer.wants(now):
            self._hello()

    def _hello(self) -> None:
        self.send_up(self.replica.hello())
        self._pacer.sent(asyncio.get_running_loop().time())

    def _frame(self, packet: Publish, size: int) -> None:
        tally = self._fleet.tally
        if packet.topic != self._topic:
            tally.foreign += 1
            return
        tally.oversize += size > self.spec.budget
        result = self.replica.receive(packet.payload)
        if result is Received.APPLIED:
            self._pacer.applied()
            self._gap = False
            self._applied(packet, size)
            return
        tally.ignored[result] += 1
        if result in {Received.GAP, Received.IMPOSSIBLE}:
            self._gap = True
            tally.hellos += 1
            self.tick(asyncio.get_running_loop().time())

    def _applied(self, packet: Publish, size: int) -> None:
        fleet = self._fleet
        # Decoded once more for the counters: the replica keeps what frames do, not what they were.
        frame = decode_frame(packet.payload)
        assert frame is not None
        fleet.tally.applied(frame, size, packet.qos)
        fleet.last_frame = time.perf_counter()
        self._frames += 1
        if isinstance(frame, Delta) and self._frames % _SAMPLE == 0:
            whole = Snapshot(frame.epoch, frame.seq, self.replica.k, self.window)
            fleet.tally.sample_whole(frame, whole, size)
        self._time(frame, fleet.last_frame)

    def _time(self, frame: Frame, now: float) -> None:
        """Times the items that a delta brings because they were published.

        Not those that were published long ago and move up because something left: an older number than one seen before,
        or the last place of a window, by an item that is older than the last removal.
        """
        if isinstance(frame, Snapshot):
            self._removed_at = now
            self._highest = max((item.n for item in frame.items), default=self._highest)
            return
        highest, last = self._highest, len(self.window) - 1
        for op in frame.ops:
            if isinstance(op, Remove):
                self._removed_at = now
            elif isinstance(op, Put) and op.item.n > highest:
                self._highest = max(self._highest, op.item.n)
                published = self._fleet.arrivals.published(op.item.payload)
                if published is None or (op.rank >= last and published < self._removed_at):
                    continue
                self._fleet.tally.latency.add(now - published)

    def react(self, rng: random.Random) -> None:
        """What a person in front of the device does now and then: look, open the best item, dismiss the worst."""
        window = self.window
        if not self.subscribed or not window:
            return
        rank = min(int(rng.expovariate(0.7)), len(window) - 1)
        events = [Event(window[rank].n, Kind.SHOWN, rank, 0)]
        if rng.random() < 0.3:
            events.append(Event(window[rank].n, Kind.OPENED, None, 0))
        elif rng.random() < 0.1:
            events.append(Event(window[rank].n, Kind.DISMISSED, None, 0))
        self.send_up(encode_up(Feedback(tuple(events))))
        self._fleet.tally.feedback += len(events)


class Fleet:
    """Virtual devices against one server.

    Args:
        specs: The devices.
        host: Where the server listens.
        port: Where the server listens.
        seed: Of reconnect times and of what people do.
        feedback: Reactions of people per device and second.
    """

    def __init__(
        self,
        specs: Iterable[DeviceSpec],
        *,
        host: str,
        port: int,
        seed: int = 1,
        feedback: float = 0.0,
    ) -> None:
        self.tally = Tally()
        self.arrivals = Arrivals()
        self.last_frame = time.perf_counter()
        self.feedback = feedback
        self.devices = {
            spec.device: Device(spec, self, seed * 1_000_003 + place)
            for place, spec in enumerate(specs)
        }
        self._host = host
        self._port = port
        self._rng = random.Random(seed)  # noqa: S311 - repeatable behaviour, no secrets
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._fault: Exception | None = None
        self._stopping = False

    async def start(self, within: float = 30.0) -> None:
        """Connects all devices; returns when each is subscribed and the server knows what it follows.

        Raises:
            FleetError: Some are not after `within` seconds, or the server refuses them for good.
        """
        for device in self.devices.values():
            self._spawn(self._connect(device))
        self._spawn(self._clock())
        try:
            async with asyncio.timeout(within):
                await self._all_subscribed()
        except TimeoutError:
            missing = len(self.devices) - self.subscribed
            raise FleetError(
                f"{missing} of {len(self.devices)} devices are not subscribed after {within:.0f} s"
                + (f" ({self._fault})" if self._fault else "")
            ) from None

    async def stop(self) -> None:
        """Disconnects all devices."""
        self._stopping = True
        for device in self.devices.values():
            device.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    @property
    def subscribed(self) -> int:
        """Devices that are connected and subscribed now."""
        return sum(device.subscribed for device in self.devices.values())

    def windows(self) -> dict[str, list[tuple[int, str | bytes]]]:
        """What each device holds: (n, payload), best first."""
        return {
            name: [(item.n, item.payload) for item in device.window]
            for name, device in self.devices.items()
        }

    def published(self, *texts: str | bytes) -> None:
        """Tells the fleet that an item with these texts goes out now, so that its way is timed."""
        self.arrivals.publish(*texts, now=time.perf_counter())

    def quiet_for(self) -> float:
        """Seconds since the last frame."""
        return time.perf_counter() - self.last_frame

    # What devices call

    def changed(self) -> None:
        """A device is a step further on its way to being ready."""
        self._changed.set()

    def lost(self, device: Device, why: Exception) -> None:
        """A connection ended: the device tries again after its backoff."""
        if self._stopping:
            return
        self._fault = why
        self.tally.losses += 1
        if isinstance(why, Refused) and why.final:
            self._changed.set()
            return
        asyncio.get_running_loop().call_later(device.backoff(self._rng), self._again, device)

    def _again(self, device: Device) -> None:
        if not self._stopping:
            self._spawn(self._connect(device))

    async def _all_subscribed(self) -> None:
        while not all(device.subscribed and device.following for device in self.devices.values()):
            if isinstance(self._fault, Refused) and self._fault.final:
                raise FleetError(f"the server refuses {self._fault}")
            self._changed.clear()
            await self._changed.wait()

    async def _connect(self, device: Device) -> None:
        # A failure has reached `lost` already.
        with contextlib.suppress(OSError):
            async with self._gate:
                await device.open_connection(self._host, self._port)

    async def _clock(self) -> None:
        loop = asyncio.get_running_loop()
        everyone = [*self.devices.values()]
        while True:
            await asyncio.sleep(1.0)
            now = loop.time()
            for device in everyone:
                device.tick(now)
                if self.feedback and self._rng.random() < self.feedback:
                    device.react(self._rng)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _profile(spec: DeviceSpec) -> bytes | None:
    """The message that makes a device follow what its spec says, and no longer the default `#`."""
    if spec.follow is None:
        return None
    unfollow = () if "#" in spec.follow else ("#",)
    return encode_up(Profile(follow=spec.follow, unfollow=unfollow))
