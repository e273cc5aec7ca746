"""Devices that live through faults: they follow the protocol, but their links, memory and patience fail."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from devices.frames import Event, Feedback, HelloOptions, Kind, Profile, decode_frame, encode_up
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
from devices.replica import Received, Replica
from simulator.checker import items_of
from simulator.facts import Finding
from simulator.faults.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from devices.frames import FeedItem
    from devices.packets import Packet
    from simulator.checker import Checker

CHANNELS = ("a", "b", "a/x", "c/y/z")
"""Where the publishers of the suite publish."""

_FOLLOWS = (("a",), ("a/#",), ("b", "+/x"), ("#",), ("a", "b", "c/#"))
_EVERY_FILTER = tuple({name for names in _FOLLOWS for name in names})
_KS = (1, 3, 8, 9, 16, 20, 40, 64, 64)
_BUDGETS = (128, 256, 256, 600, 4_000)
_HELLO_PAUSE = (0.5, 4.0)
"""Seconds after a hello before the next; the protocol's 30 would be longer than a round."""
_LOG_LINES = 60
_ZOMBIES = 8
_SECOND_THOUGHT = 0.05


@dataclass(slots=True)
class Tally:
    """What all devices counted.

    Attributes:
        frames: PUBLISHes on feeds.
        resent: Those with DUP.
        hellos: Hellos sent.
        connects: CONNACKs.
    """

    frames: int = 0
    resent: int = 0
    hellos: int = 0
    connects: int = 0


@dataclass(slots=True)
class Habits:
    """What a device does wrong in this round; shares between 0 and 1.

    Attributes:
        takeover: Leaves the old connection open when it makes a new one.
        forget: Has lost its memory when it connects.
        withhold: Does not acknowledge a frame.
    """

    takeover: float = 0.3
    forget: float = 0.08
    withhold: float = 0.0


@dataclass(slots=True)
class _Memory:
    """What is in the flash of a device."""

    epoch: int = 0
    seq: int = 0
    k: int = 8
    window: tuple[FeedItem, ...] = field(default_factory=tuple)


class FaultyDevice:
    """One device over all its connections.

    Args:
        name: Its id.
        rng: What it draws from.
        checker: Told of everything that happens here.
        tally: Shared by all devices.
        route: The address that it connects to, asked each time.
        hello_wait: The server's `feed.hello_wait`.

    Attributes:
        habits: What it does wrong at the moment.
        withheld: Whether it owes an acknowledgement on this connection, which it will never give.
        log: What happened last, as evidence.
    """

    persistent_share: ClassVar[float] = 0.6

    def __init__(
        self,
        name: str,
        rng: Random,
        checker: Checker,
        tally: Tally,
        route: Callable[[], tuple[str, int]],
        *,
        hello_wait: float,
    ) -> None:
        self.name = name
        self.habits = Habits()
        self.withheld = False
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self._rng = rng
        self._checker = checker
        self._tally = tally
        self._route = route
        self._hello_wait = hello_wait
        self._persistent = rng.random() < self.persistent_share
        self._qos = rng.choice((0, 1, 1, 2))
        self._options = HelloOptions(
            rng.choice(_KS), rng.choice(_BUDGETS), rng.choice((0, 1, 1, 2)), None, None, rng.random() < 0.3
        )
        self._replica = self._replica_at(_Memory(k=self._options.k or 8))
        self._flash = _Memory()
        self._link: Link | None = None
        self._connecting = False
        self._zombies: deque[Link] = deque(maxlen=_ZOMBIES)
        self._subscribed = False  # SUBACK has come, on this connection or to the session that it resumed
        self._subscribing = 0
        self._said: dict[str, bytes] = {}
        self._unreleased: set[int] = set()
        self._packet_id = 0
        self._unacknowledged: dict[int, Callable[[], None]] = {}
        self._pause, self._quiet_until = _HELLO_PAUSE[0], 0.0
        self._budgets: deque[int] = deque((256,), maxlen=4)
        self._due = 0.0
        self._changed = 0.0
        self._on_item: Callable[[FeedItem], None] | None = None

    def behave(self) -> None:
        """Is a healthy device from now on, with nothing wrong and nothing special."""
        self.habits = Habits(takeover=0.0, forget=0.0)
        self._persistent, self._qos = True, 1
        self._options = HelloOptions(8, 256, 1, None, None, False)
        self._replica = self._replica_at(_Memory())

    # ---- What it is

    @property
    def connected(self) -> bool:
        """Whether it has a connection, or is making one."""
        return self._connecting or (self._link is not None and self._link.alive)

    @property
    def shown(self) -> tuple[tuple[int, str | bytes], ...]:
        """What it shows, best first."""
        return tuple((item.n, item.payload) for item in self._replica.window)

    def settled_after(self, rest: float) -> float:
        """Seconds from its last request, or from `rest` if that was later, to its last change."""
        return max(0.0, self._changed - max(self._due, rest))

    @property
    def needs_connection(self) -> bool:
        """Whether it has to connect anew in order to get what it lacks."""
        return not self.connected or self.withheld or not self._subscribed

    # ---- Connections

    async def connect(self) -> bool:
        """Makes a new connection and greets in a style drawn from what devices do; whether it was accepted."""
        if self._connecting:
            return False
        self._leave()
        if self._rng.random() < self.habits.forget:
            self._forget()
        self._connecting = True
        try:
            link = self._link = Link(self)
            self._note("connects", "persistent" if self._persistent else "clean")
            return await link.open(
                self._route(), Connect(self.name, not self._persistent, keep_alive=60)
            )
        finally:
            self._connecting = False

    def _leave(self) -> None:
        """The old connection is cut, closed, or left to the server to end."""
        link, self._link = self._link, None
        if link is None:
            return
        if self._rng.random() < self.habits.takeover:
            if len(self._zombies) == _ZOMBIES:
                self._zombies[0].abort()
            self._zombies.append(link)
            self._note("leaves its connection open")
        else:
            (link.abort if self._rng.random() < 0.7 else link.close)()

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

    def _greeted(self, link: Link, connack: Connack) -> None:
        self._tally.connects += 1
        self.withheld = False
        self._pause, self._quiet_until = _HELLO_PAUSE[0], 0.0
        if not connack.session_present:
            self._unreleased.clear()
            self._subscribed = False
        loop = asyncio.get_running_loop()
        style, resumed = self._rng.random(), self._subscribed
        self._due = time.time()
        if style < 0.5:
            how = "hello and subscribe"
            link.write(self._hello() + self._subscribe())
        elif style < 0.65:
            how = "hello, later subscribe"
            link.write(self._hello())
            loop.call_later(self._rng.random() * _SECOND_THOUGHT, self._resubscribe, link)
        elif style < 0.8 or not resumed:
            how = "subscribe"
            link.write(self._subscribe())
        elif style < 0.9:
            how = "hello"
            link.write(self._hello())
        else:
            how = "silence"
            self._due += self._hello_wait
        self._note("session present" if connack.session_present else "new session", how)

    # ---- What Link reports

    def received(self, link: Link, packet: Packet, size: int) -> None:
        """Frames, acknowledgements, CONNACK."""
        late = link is not self._link
        match packet:
            case Connack() if not late and packet.code == 0:
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
        """A frame. What comes on a connection that was replaced is judged, but not applied."""
        self._tally.frames += 1
        self._tally.resent += packet.dup
        kept = not (packet.qos and self._rng.random() < self.habits.withhold)
        repeated = packet.qos == 2 and packet.packet_id in self._unreleased
        received = None
        if not late and not repeated:
            received = self._replica.receive(packet.payload)
            self._note_frame(packet, received)
        self._checker.frame(
            self.name, packet.topic, packet.payload, received, kept=kept, late=late or repeated
        )
        if not packet.dup and size > max(self._budgets):
            self._checker.report(
                Finding("wire", f"{self.name} got {size} bytes, its budget is {self._budgets}")
            )
        if late:
            return
        self._act_on(received, packet)
        if not kept:
            self.withheld = True
        elif packet.qos == 1:
            link.send(Puback(packet.packet_id))
        elif packet.qos == 2:
            self._unreleased.add(packet.packet_id)
            link.send(Pubrec(packet.packet_id))

    def _act_on(self, received: Received | None, packet: Publish) -> None:
        if received is Received.APPLIED:
            self._changed = time.time()
            self._pause, self._quiet_until = _HELLO_PAUSE[0], 0.0
            frame = decode_frame(packet.payload)
            if self._on_item is not None and frame is not None:
                for item in items_of(frame):
                    self._on_item(item)
        elif received in {Received.GAP, Received.IMPOSSIBLE}:
            self.say_hello(patiently=True)

    def on_item(self, call: Callable[[FeedItem], None]) -> None:
        """Calls with every item that comes into the window or is put anew."""
        self._on_item = call

    # ---- What it says

    def say_hello(self, *, patiently: bool = False) -> None:
        """Says where it is; `patiently`: unless it did so a moment ago."""
        now = time.time()
        if patiently and now < self._quiet_until:
            return
        self._quiet_until = now + self._pause
        self._pause = min(2 * self._pause, _HELLO_PAUSE[1])
        if self._link is not None and self._link.alive:
            self._due = now
            self._link.write(self._hello())

    def say_profile(self, follow: tuple[str, ...], attributes: dict[str, str | int]) -> None:
        """Says all that it follows and is, at QoS 1."""
        if self._link is None or not self._link.alive:
            return
        others = tuple(name for name in _EVERY_FILTER if name not in follow)
        message = encode_up(Profile(follow, others, attributes))
        packet_id = self._next_packet_id()
        self._unacknowledged[packet_id] = self._checker.profile(self.name, follow, attributes)
        self._said["profile"] = message
        self._note("profile", follow, attributes)
        self._link.send(Publish(f"u/{self.name}", message, 1, packet_id))

    def say_again(self) -> None:
        """Sends its last feedback and profile again, and a hello: nothing may change."""
        if self._link is not None and self._link.alive:
            for message in self._said.values():
                self._link.write(self._up(message))
            self._link.write(self._hello())

    def act(self) -> None:
        """Something that devices do, drawn at random."""
        draw = self._rng.random()
        if not self.connected or draw < 0.25:
            self._be_another()
            self.connect_soon()
        elif draw < 0.4:
            self.drop()
        elif draw < 0.52:
            self._change_options()
            self.say_hello()
        elif draw < 0.6:
            self.say_hello()
        elif draw < 0.7:
            region: dict[str, str | int] = {"region": self._rng.choice("ns")}
            self.say_profile(self._rng.choice(_FOLLOWS), region)
        elif draw < 0.8:
            self._dismiss()
        elif draw < 0.85:
            self._resubscribe(self._link)
        elif draw < 0.88:
            self._unsubscribe()
        elif draw < 0.92:
            self._feed_back()
        elif draw < 0.96:
            self.lose_inside_a_packet()
        else:
            self._flash = self._memory()  # a backup, to be restored from one day

    def _be_another(self) -> None:
        """Now and then it comes back with another firmware."""
        if self._rng.random() < 0.2:
            self._persistent = self._rng.random() < self.persistent_share
        if self._rng.random() < 0.5:
            self._qos = self._rng.choice((0, 1, 1, 2))
        if self._rng.random() < 0.15:
            self._change_options()

    def _change_options(self) -> None:
        draw, was = self._rng.random(), self._options
        if draw < 0.6:
            self._options = replace(was, k=self._rng.choice(_KS))
        elif draw < 0.8:
            self._options = replace(was, budget=self._rng.choice(_BUDGETS))
        elif draw < 0.9:
            self._options = replace(was, max_qos=self._rng.choice((0, 1, 2)))
        else:
            self._options = replace(was, clock=not was.clock)
        self._replica = self._replica_at(self._memory())
        self._note("options", self._options)

    def _dismiss(self) -> None:
        if self._replica.window:
            n = self._rng.choice(self._replica.window).n
            self._checker.dismissed(self.name, n)
            self._note("dismisses", n)
            self._say_feedback(Event(n, Kind.DISMISSED))

    def _feed_back(self) -> None:
        kinds = (Kind.SHOWN, Kind.OPENED)
        events = [Event(item.n, self._rng.choice(kinds)) for item in self._replica.window[:20]]
        if events:
            self._say_feedback(*events)

    def _say_feedback(self, *events: Event) -> None:
        if self._link is not None and self._link.alive:
            self._said["feedback"] = encode_up(Feedback(events))
            self._link.write(self._up(self._said["feedback"]))

    def _resubscribe(self, link: Link | None) -> None:
        if link is not None and link is self._link:
            self._due = time.time()
            link.write(self._subscribe())

    def _unsubscribe(self) -> None:
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
        """Reads no more, but asks on."""
        if self._link is not None:
            self._note("stops reading")
            self._link.stop_reading()

    def read_on(self) -> None:
        """Reads again."""
        if self._link is not None:
            self._link.read_on()

    # ---- Inside

    def _forget(self) -> None:
        """Lost its flash, or was restored from an old backup."""
        memory = self._flash if self._rng.random() < 0.5 else _Memory(k=self._replica.k)
        self._replica = self._replica_at(memory)
        self._note("remembers", self._replica)

    def _memory(self) -> _Memory:
        held = self._replica
        return _Memory(held.epoch, held.seq, held.k, held.window)

    def _replica_at(self, memory: _Memory) -> Replica:
        asked = self._options
        assert asked.k and asked.budget and asked.max_qos is not None
        replica = Replica(
            asked.k, asked.budget, asked.max_qos, "", bool(asked.clock),
            memory.epoch, memory.seq, memory.window,
        )  # fmt: skip
        replica.k = memory.k
        return replica

    def _hello(self) -> bytes:
        self._tally.hellos += 1
        self._budgets.append(self._options.budget or 256)
        self._note("hello", self._replica)
        return self._up(self._replica.hello())

    def _subscribe(self) -> bytes:
        self._subscribing = self._next_packet_id()
        self._note("subscribes", self._qos)
        return encode(Subscribe(self._subscribing, ((f"f/{self.name}", self._qos),)))

    def _up(self, message: bytes) -> bytes:
        qos = self._rng.choice((0, 0, 1, 2))
        packet_id = self._next_packet_id() if qos else 0
        return encode(Publish(f"u/{self.name}", message, qos, packet_id))

    def connect_soon(self) -> None:
        """Makes a new connection in the background."""
        if not self._connecting:
            self._task = asyncio.ensure_future(self.connect())

    def _next_packet_id(self) -> int:
        self._packet_id = self._packet_id % 0xFFFF + 1
        return self._packet_id

    def _note_frame(self, packet: Publish, received: Received) -> None:
        frame = decode_frame(packet.payload) if received is not Received.BAD else None
        place = "" if frame is None else f"{type(frame).__name__} {frame.epoch}.{frame.seq}"
        base = f" from {frame.start}" if hasattr(frame, "start") else ""
        self._note(
            f"{place}{base} qos {packet.qos} id {packet.packet_id}{' dup' * packet.dup}: {received}"
        )

    def _note(self, *words: object) -> None:
        self.log.append(f"{time.time() % 1000:7.3f} {' '.join(map(str, words))}")


def _nothing() -> None:
    """An acknowledgement that nobody waits for."""
