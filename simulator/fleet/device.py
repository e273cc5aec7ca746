"""The firmware of one virtual device."""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING

from devices.frames import (
    BadFrame,
    Delta,
    Snapshot,
    decode_frame,
    encode_up,
)
from devices.packets import (
    REFUSED,
    Connect,
    Packet,
    Puback,
    Publish,
    Pubrel,
    Suback,
    Subscribe,
    encode,
    puback,
    pubcomp,
    pubrec,
)
from devices.replica import HelloPacer, Received, Replica
from simulator.checker import items_of
from simulator.facts import Finding
from simulator.fleet.outside import with_will
from simulator.fleet.speaking import Speaker
from simulator.fleet.spec import DeviceSpec, State
from simulator.fleet.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Callable

    from devices.frames import FeedItem
    from simulator.fleet.fleet import Fleet

_SAMPLE = 16
"""One delta in so many is compared with the whole window in its place."""


class Device(Speaker):
    """One virtual device; made and run by a `Fleet`.

    Attributes:
        replica: Its window and position.
        timing: How long items took to it.
        seed: Of what is random about it alone.
        asked: When it last said hello, real seconds (`time.perf_counter`).
        changed: When a frame last applied, likewise.
    """

    __slots__ = (
        "_frames",
        "_gap",
        "_hello_at",
        "_pacer",
        "_profile_heard",
        "_profile_id",
        "_topic",
        "asked",
        "changed",
        "replica",
        "seed",
        "timing",
    )

    def __init__(self, spec: DeviceSpec, fleet: Fleet, seed: int) -> None:
        super().__init__(spec, fleet)
        self.seed = seed
        self.timing = Timing()
        self.replica = self._blank()
        self.asked = 0.0
        self.changed = 0.0
        self._topic = f"{fleet.prefix}f/{spec.device}"
        # Made where a gap is seen and given up when it is closed: its random generator takes nearly
        # as much memory as everything else of an idle device.
        self._pacer: HelloPacer | None = None
        self._hello_at = 0.0  # loop time of a hello that no frame has followed yet; 0: none
        self._gap = False
        self._profile_id = 0
        self._profile_heard: Callable[[], None] | None = None
        self._frames = 0

    # ---- What it is

    @property
    def window(self) -> tuple[FeedItem, ...]:
        """What the device shows, best first."""
        return self.replica.window

    # ---- Its connection

    def tick(self, now: float) -> None:
        """What time alone makes necessary: pings, a hello that was not answered, sleep. Loop time."""
        if self.state is not State.UP:
            self.wake_up()
            return
        if self.stalled:
            self.wait_out(now)
        self.keep_alive(now)
        if self._gap and self.subscribed:
            self._ask(now)
        self.nod_off(now)
        idle = not (self._gap or self.stalled or self.spec.sleep is not None)
        self.due = self.calm_until() if idle and self.open else 0.0

    def introduction(self) -> Connect:
        """Beside an outside broker its will says bye."""
        if not self._fleet.outside:
            return self._connect
        self._c = self._fleet.rng.getrandbits(32)
        return with_will(self._connect, f"{self._fleet.prefix}u/{self.client_id}", self._c)

    def connected(self) -> None:
        """Profile and hello go before SUBSCRIBE, so that the first snapshot is the right one.

        An outside broker would deliver the answer to nobody before SUBACK: there the hello waits for that.
        """
        self.tally.connects += 1
        self.due = 0.0
        if self.state is not State.UP:
            self.close()
            return
        profile = self.spec.profile()
        if profile is not None and not self.following:
            observer = self._fleet.observer
            if observer is not None and self.spec.follow is not None:
                self._profile_heard = observer.profile(
                    self.client_id, profile.follow, profile.attrs
                )
            self._profile_id = self.send_up(encode_up(profile))
        self._pacer = None
        if not self._fleet.outside:
            self._hello()
        self.send(encode(Subscribe(self.next_packet_id(), ((self._topic, self.spec.max_qos),))))

    def forget(self) -> None:
        """Loses what it holds."""
        self.replica = self._blank()
        self._gap = False

    def dial(self) -> None:
        """Wants a connection."""
        self._fleet.dial(self)

    def lost(self, why: Exception) -> None:
        """Comes back after a while, unless the server said that it never may."""
        self.subscribed = False
        self.due = 0.0
        self._fleet.lost(self, why)

    def stall(self, seconds: float = inf) -> None:
        """Reads nothing for a while."""
        super().stall(seconds)
        self.due = 0.0

    def dawdling(self) -> float:
        """A slow device is slow once it is subscribed."""
        return self.spec.stall if self.subscribed else 0.0

    # ---- What it hears

    def received(self, packet: Packet, size: int) -> None:
        """Takes frames and acknowledgements."""
        match packet:
            case Publish():
                self.tally.messages_down += 1
                self.tally.resent += packet.dup
                if self._frame(packet, size):
                    self._confirm(packet)
                    self.spend()
            case Pubrel(packet_id):
                self.send(pubcomp(packet_id))
            case Puback(packet_id) if packet_id == self._profile_id:
                self._profile_known()
            case Suback(_, codes):
                self._subscribed(codes)
            case _:
                pass

    def _confirm(self, packet: Publish) -> None:
        if packet.qos == 1:
            self.send(puback(packet.packet_id))
        elif packet.qos == 2:
            # Its id need not be remembered (MQTT 3.1.1, 4.3.3): a frame that comes twice is stale.
            self.send(pubrec(packet.packet_id))

    def _profile_known(self) -> None:
        self._profile_id = 0
        self.following = True
        heard, self._profile_heard = self._profile_heard, None
        if heard is not None:
            heard()
        self._fleet.changed()

    def _subscribed(self, codes: tuple[int, ...]) -> None:
        if REFUSED in codes:
            self.state = State.REFUSED
            self._fleet.refused(f"{self.client_id}: it may not read {self._topic}")
            self.close()
            return
        self.subscribed = True
        self._attempts = 0
        if self._fleet.outside:
            self._hello()
        if not self.spec.reads:
            self.stall()
        elif self.stalled:
            self.stop_reading()
        self.say_unsaid()
        self._fleet.changed()

    def _frame(self, packet: Publish, size: int) -> bool:
        """Takes a frame; whether it lives to confirm it."""
        if packet.topic != self._topic:
            self.tally.foreign += 1
            self._observed(packet, None)
            return True
        if self._fleet.poison and self._crashes(packet.payload):
            self._observed(packet, None)
            self.tally.crashes += 1
            self.abort(ConnectionError(f"{self.client_id}: an item crashed it"))
            return False
        if size > self.spec.budget:
            self._oversize(size)
        result = self.replica.receive(packet.payload)
        self._observed(packet, result)
        if self._fleet.outside and result in {Received.APPLIED, Received.STALE}:
            self._fleet.owed.owe(self)
        if result is Received.APPLIED:
            self._gap, self._pacer, self._hello_at = False, None, 0.0
            self._applied(packet, size)
            return True
        self.tally.ignored[result] += 1
        if result in {Received.GAP, Received.IMPOSSIBLE}:
            self._gap = True
            self.due = 0.0
            if self.subscribed:
                self._ask(asyncio.get_running_loop().time())
        return True

    def _crashes(self, data: bytes) -> bool:
        try:
            frame = decode_frame(data)
        except BadFrame:
            return False
        items = () if frame is None else items_of(frame)
        return any(self._fleet.poisons(self.client_id, item.payload) for item in items)

    def _oversize(self, size: int) -> None:
        self.tally.oversize += 1
        if self._fleet.observer is not None:
            sentence = f"{self.client_id} got {size} bytes, its budget is {self.spec.budget}"
            self._fleet.observer.report(Finding("wire", sentence))

    def _observed(self, packet: Publish, result: Received | None) -> None:
        observer = self._fleet.observer
        if observer is not None:
            topic = packet.topic.removeprefix(self._fleet.prefix)
            observer.frame(self.client_id, topic, packet.payload, result, late=packet.dup)

    def _applied(self, packet: Publish, size: int) -> None:
        fleet = self._fleet
        # Decoded once more for the counters: the replica keeps what frames do, not what they were.
        frame = decode_frame(packet.payload)
        assert frame is not None
        self.tally.applied(frame, size, packet.qos)
        self.changed = fleet.last_frame = time.perf_counter()
        self._frames += 1
        if isinstance(frame, Delta) and self._frames % _SAMPLE == 0:
            whole = Snapshot(frame.epoch, frame.seq, self.replica.k, self.window)
            self.tally.sample_whole(frame, whole, size)
        self.timing.applied(frame, self.window, self.changed, fleet.arrivals, self.tally)

    # ---- What it says

    def acknowledge(self) -> None:
        """Says what is applied, beside an outside broker."""
        if self.subscribed and self.state is State.UP:
            self.send_up(self.replica.ack())

    def _hello(self) -> None:
        self.asked = time.perf_counter()
        self._hello_at = asyncio.get_running_loop().time()
        if self._pacer is not None:
            self._pacer.sent(self._hello_at)
        self.send_up(self.replica.hello(self._c if self._fleet.outside else None))

    def _ask(self, now: float) -> None:
        """A hello because of a gap, if it is time for one."""
        if self._pacer is None:
            self._pacer = HelloPacer(self.seed)
            if self._hello_at:
                self._pacer.sent(self._hello_at)
        if self._pacer.wants(now):
            self.tally.hellos += 1
            self._hello()

    def _blank(self) -> Replica:
        spec = self.spec
        return Replica(
            k=spec.k,
            budget=spec.budget,
            max_qos=spec.max_qos,
            agent="fleetfeed simulator",
            clock=spec.clock,
        )
