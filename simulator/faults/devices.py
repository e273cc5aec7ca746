"""Devices that live through faults: they follow the protocol, but their links, memory and patience fail."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from devices.frames import BadFrame, Delta, Event, Feedback, Profile, decode_frame, encode_up
from devices.packets import (
    REFUSED,
    Connack,
    Connect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsubscribe,
    encode,
)
from devices.replica import Received
from simulator.checker import items_of
from simulator.facts import Finding
from simulator.faults.firmware import DEFAULT_BUDGET, Flash, Habits
from simulator.faults.journal import Journal
from simulator.faults.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random
    from typing import Any

    from devices.frames import FeedItem, Frame
    from devices.packets import Packet
    from simulator.checker import Checker
    from simulator.facts import Window
    from simulator.faults.firmware import Firmware, Tally

Spawn: TypeAlias = "Callable[[Coroutine[Any, Any, object]], object]"

FOLLOWS = (("a",), ("a/#",), ("b", "+/x"), ("#",), ("a", "b", "c/#"))
"""What devices follow; over the channels of `publishers.CHANNELS`."""

_EVERY_FILTER = tuple(sorted({name for names in FOLLOWS for name in names}))
_HELLO_PAUSE = (0.5, 4.0)
"""Seconds after a hello before the next; the protocol's 30 would be longer than a round."""
_SECOND_THOUGHT = 0.05
_FURTHER_ON = 1_000
"""Epochs: more than a server here ever gets through by itself, so that the position is surely none of its own."""
_ZOMBIES = 8


class FaultyDevice:
    """One device over all its connections.

    Args:
        name: Its id.
        firmware: At first.
        rng: What it draws from.
        checker: Told of everything that happens here.
        tally: Shared by all devices.
        route: The address that it connects to, asked each time.
        spawn: Runs what it does in the background.
        hello_wait: The server's `feed.hello_wait`.
        hellos_unheard: How many of its hellos in a row the server may have lost.

    Attributes:
        habits: What it does wrong at the moment.
        withheld: Whether it owes an acknowledgement on this connection, which it will never give.
        on_item: Called with every item that a frame brought, once the frame is applied.
        log: What happened last, as evidence.
    """

    def __init__(
        self,
        name: str,
        firmware: Firmware,
        rng: Random,
        checker: Checker,
        tally: Tally,
        route: Callable[[], tuple[str, int]],
        spawn: Spawn,
        *,
        hello_wait: float,
        hellos_unheard: int = 4,
    ) -> None:
        self.name = name
        self.firmware = firmware
        self.habits = Habits()
        self.withheld = False
        self.on_item: Callable[[FeedItem], None] | None = None
        self.log = Journal()
        self._rng = rng
        self._checker = checker
        checker.watch(name, self.log)
        self._tally = tally
        self._route = route
        self._spawn = spawn
        self._hello_wait = hello_wait
        self._replica = firmware.replica(Flash(k=firmware.k))
        self._backup = Flash(k=firmware.k)
        self._link: Link | None = None
        self._connecting = False
        self._zombies: deque[Link] = deque(maxlen=_ZOMBIES)
        # SUBACK has come, on this connection or to the session that it resumed.
        self._subscribed = False
        self._subscribing = 0
        self._resumable = False  # whether the last connection asked for a session that stays
        self._said: dict[str, bytes] = {}
        self._unreleased: set[int] = set()
        self._packet_id = 0
        self._unacknowledged: dict[int, Callable[[], None]] = {}
        self._pause, self._quiet_until = _HELLO_PAUSE[0], 0.0
        self._ahead = False
        # Frames may be as long as any of these: said on this connection, and just before it.
        self._budgets = {DEFAULT_BUDGET}
        self._budgets_before: deque[int] = deque((DEFAULT_BUDGET,), maxlen=hellos_unheard)
        self._asked = 0.0
        self._changed = 0.0

    # ---- What it is

    @property
    def connected(self) -> bool:
        """Whether it has a connection, or is making one."""
        return self._connecting or (self._link is not None and self._link.alive)

    @property
    def items(self) -> tuple[FeedItem, ...]:
        """The items in its window, best first."""
        return self._replica.window

    @property
    def shown(self) -> Window:
        """What it shows, best first."""
        return tuple((item.n, item.payload) for item in self._replica.window)

    @property
    def needs_connection(self) -> bool:
        """Whether it has to connect anew in order to get what it lacks."""
        return not self.connected or self.withheld or not self._subscribed

    def settled_after(self, rest: float) -> float:
        """Seconds from its last request, or from `rest` if that was later, to its last change."""
        return max(0.0, self._changed - max(self._asked, rest))

    # ---- Connections

    async def connect(self) -> bool:
        """Makes a new connection and greets in a style drawn from what devices do; whether it was accepted."""
        if self._connecting:
            return False
        self._leave()
        self._subscribed &= (
            self._resumable
        )  # a clean session's subscription ended with its connection
        self._resumable = self.firmware.persistent
        if self._rng.random() < self.habits.forget:
            self._forget()
        self._connecting = True
        try:
            link = self._link = Link(self)
            address = self._route()
            self._note("connects to {}:{}".format(*address), self.firmware)
            connect = Connect(self.name, not self.firmware.persistent, keep_alive=60)
            return await link.open(address, connect)
        finally:
            self._connecting = False

    def connect_soon(self) -> None:
        """Makes a new connection in the background."""
        if not self._connecting:
            self._spawn(self.connect())

    def drop(self) -> None:
        """Loses its connection."""
        link, self._link = self._link, None
        if link is not None:
            self._note("drops its connection")
            (link.abort if self._rng.random() < 0.7 else link.close)()

    def close(self) -> None:
        """Ends everything."""
        self.drop()
        for zombie in self._zombies:
            zombie.abort()

    def _leave(self) -> None:
        """The old connection is cut, closed, or left to the server to end."""
        if self._link is not None and self._rng.random() < self.habits.takeover:
            if len(self._zombies) == _ZOMBIES:
                self._zombies[0].abort()
            self._zombies.append(self._link)
            self._note("leaves its connection open")
            self._link = None
        self.drop()

    def _greeted(self, link: Link, connack: Connack) -> None:
        self._tally.connects += 1
        self._budgets = set(self._budgets_before)
        self.withheld = False
        self._pause, self._quiet_until = _HELLO_PAUSE[0], 0.0
        if not connack.session_present:
            self._unreleased.clear()
            self._subscribed = False
        self._note("session present" if connack.session_present else "new session")
        style, resumed = self._rng.random(), self._subscribed
        if self._ahead:
            style = 0.0  # frames of an earlier epoch mean nothing to it: it has to say where it is
        self._asked = time.time()
        if style < 0.5:
            link.write(self._hello() + self._subscribe())
        elif style < 0.65:
            link.write(self._hello())
            loop = asyncio.get_running_loop()
            loop.call_later(self._rng.random() * _SECOND_THOUGHT, self.subscribe, link)
        elif style < 0.8 or not resumed:
            link.write(self._subscribe())
        elif style < 0.9:
            link.write(self._hello())
        else:
            self._note("says nothing")
            self._asked += self._hello_wait

    # ---- What Link reports

    def received(self, link: Link, packet: Packet, size: int) -> None:
        """Frames, acknowledgements, CONNACK."""
        late = link is not self._link
        match packet:
            case Connack(_, 0) if not late:
                self._greeted(link, packet)
            case Publish():
                self._publish(link, packet, size, late=late)
            case Pubrel(packet_id):
                self._unreleased.discard(packet_id)
                link.send(Pubcomp(packet_id))
            case Puback(packet_id) if not late:
                self._unacknowledged.pop(packet_id, _nothing)()
            case Pubrec(packet_id):
                link.send(Pubrel(packet_id))
            case Suback(packet_id, codes) if packet_id == self._subscribing:
                self._subscribed = codes != (REFUSED,)
            case _:
                pass

    def lost(self, link: Link, malformed: str | None) -> None:
        """A connection ended."""
        if malformed is not None:
            self._checker.report(Finding("wire", f"{self.name} was sent broken MQTT: {malformed}"))
        if link is self._link:
            self._note("connection lost")
            self._link = None
            self._unacknowledged.clear()

    def _publish(self, link: Link, packet: Publish, size: int, *, late: bool) -> None:
        """A frame. What comes on a connection that was replaced is judged, but neither applied nor acknowledged."""
        self._tally.frames += 1
        self._tally.resent += packet.dup
        kept = not (packet.qos and self._rng.random() < self.habits.withhold)
        again = late or (packet.qos == 2 and packet.packet_id in self._unreleased)
        received = None if again else self._replica.receive(packet.payload)
        self._note_frame(packet, received)
        self._checker.frame(
            self.name, packet.topic, packet.payload, received, late=again or packet.dup
        )
        if not packet.dup and size > max(self._budgets):
            self._checker.report(
                Finding("wire", f"{self.name} got {size} bytes, its budgets were {self._budgets}")
            )
        if late:
            return
        if received is not None:
            self._act_on(received, packet)
        if not kept:
            self.withheld = True
        elif packet.qos == 1:
            link.send(Puback(packet.packet_id))
        elif packet.qos == 2:
            self._unreleased.add(packet.packet_id)
            link.send(Pubrec(packet.packet_id))

    def _act_on(self, received: Received, packet: Publish) -> None:
        if received is Received.APPLIED:
            self._changed = time.time()
            self._ahead = False
            self._pause, self._quiet_until = _HELLO_PAUSE[0], 0.0
            frame = _decoded(packet.payload)
            if self.on_item is not None and frame is not None:
                for item in items_of(frame):
                    self.on_item(item)
        elif received in {Received.GAP, Received.IMPOSSIBLE}:
            self.say_hello(patiently=True)

    # ---- What it says

    def say_hello(self, *, patiently: bool = False) -> None:
        """Says where it is; `patiently`: unless it did so a moment ago."""
        now = time.time()
        if patiently and now < self._quiet_until:
            return
        self._quiet_until = now + self._pause
        self._pause = min(2 * self._pause, _HELLO_PAUSE[1])
        if self._link is not None and self._link.alive:
            self._asked = now
            self._link.write(self._hello())

    def say_profile(self, follow: tuple[str, ...], attributes: dict[str, str | int]) -> None:
        """Says all that it follows and is, at QoS 1."""
        if self._link is None or not self._link.alive:
            return
        others = tuple(name for name in _EVERY_FILTER if name not in follow)
        message = self._said["profile"] = encode_up(Profile(follow, others, attributes))
        packet_id = self._next_packet_id()
        durable = self._checker.profile(self.name, follow, attributes)

        def acknowledged() -> None:
            self._note("has the acknowledgement of profile", packet_id)
            durable()

        self._unacknowledged[packet_id] = acknowledged
        self._note("profile", packet_id, follow, attributes)
        self._link.send(Publish(f"u/{self.name}", message, 1, packet_id))

    def say_feedback(self, *events: Event) -> None:
        """Says what happened to items."""
        if events and self._link is not None and self._link.alive:
            message = self._said["feedback"] = encode_up(Feedback(events))
            self._note("feedback", *(f"{event.kind.name} {event.n}" for event in events[:3]))
            self._link.write(self._up(message))

    def say_again(self) -> None:
        """Repeats its last profile and feedback, and says where it is."""
        if self._link is not None and self._link.alive:
            for message in self._said.values():
                self._link.write(self._up(message))
            self._link.write(self._hello())

    def subscribe(self, link: Link | None = None) -> None:
        """Subscribes, perhaps again; not if `link` was replaced meanwhile."""
        if self._link is not None and link in {None, self._link}:
            self._asked = time.time()
            self._link.write(self._subscribe())

    def unsubscribe(self) -> None:
        """Wants no more frames."""
        if self._link is not None:
            self._note("unsubscribes")
            self._link.send(Unsubscribe(self._next_packet_id(), (f"f/{self.name}",)))
            self._subscribed, self._subscribing = False, 0

    def lose_inside_a_packet(self) -> None:
        """Loses its connection in the middle of what it says."""
        if self._link is not None:
            packet = self._hello()
            self._link.write(packet[: self._rng.randrange(1, len(packet))])
            self.drop()

    def stop_reading(self) -> None:
        """Reads no more."""
        if self._link is not None:
            self._note("stops reading")
            self._link.stop_reading()

    def read_on(self) -> None:
        """Reads again."""
        if self._link is not None:
            self._link.read_on()

    def update(self, firmware: Firmware) -> None:
        """Has another firmware, and says so with its next hello."""
        self.firmware = firmware
        self._replica = firmware.replica(self._flash())
        self._note("is now", firmware)

    def back_up(self) -> None:
        """Somebody makes a backup of its flash, to be restored one day."""
        self._backup = self._flash()

    # ---- Inside

    def _flash(self) -> Flash:
        held = self._replica
        return Flash(held.epoch, held.seq, held.k, held.window)

    def _forget(self) -> None:
        """Lost its flash, was restored from a backup, or comes from a server that was further on."""
        now, draw = self._flash(), self._rng.random()
        ahead = replace(now, epoch=now.epoch + _FURTHER_ON)
        self._ahead |= draw >= 0.8
        flash = Flash(k=now.k) if draw < 0.4 else self._backup if draw < 0.8 else ahead
        self._replica = self.firmware.replica(flash)
        self._note("remembers {}.{}".format(*self._replica.position))

    def _hello(self) -> bytes:
        self._tally.hellos += 1
        self._budgets.add(self.firmware.budget)
        self._budgets_before.append(self.firmware.budget)
        self._note("hello {}.{}".format(*self._replica.position))
        return self._up(self._replica.hello())

    def _subscribe(self) -> bytes:
        self._subscribing = self._next_packet_id()
        self._note("subscribes", self.firmware.qos)
        return encode(Subscribe(self._subscribing, ((f"f/{self.name}", self.firmware.qos),)))

    def _up(self, message: bytes) -> bytes:
        qos = self._rng.choice((0, 0, 1, 2))
        packet_id = self._next_packet_id() if qos else 0
        return encode(Publish(f"u/{self.name}", message, qos, packet_id))

    def _next_packet_id(self) -> int:
        self._packet_id = self._packet_id % 0xFFFF + 1
        return self._packet_id

    def _note_frame(self, packet: Publish, received: Received | None) -> None:
        frame = _decoded(packet.payload)
        place = "no frame" if frame is None else f"{type(frame).__name__} {frame.epoch}.{frame.seq}"
        base = f" from {frame.start}" if isinstance(frame, Delta) else ""
        dup = " dup" if packet.dup else ""
        word = received or "not applied"
        line = f"{place}{base} qos {packet.qos} id {packet.packet_id}{dup}: {word}"
        self.log.frame(time.time(), line)

    def _note(self, *words: object) -> None:
        self.log.deed(time.time(), " ".join(map(str, words)))


def _nothing() -> None:
    """An acknowledgement that nobody waits for."""


def _decoded(data: bytes) -> Frame | None:
    with contextlib.suppress(BadFrame):
        return decode_frame(data)
    return None
