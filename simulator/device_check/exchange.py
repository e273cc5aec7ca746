"""Packets noted with their times, and made readable: a line each, a sequence diagram for all. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from devices.frames import (
    Ack,
    BadFrame,
    BadUp,
    Bye,
    Delta,
    Feedback,
    FeedItem,
    Hello,
    Op,
    Put,
    Remove,
    Snapshot,
    Up,
    decode_frame,
    decode_up,
)
from devices.packets import (
    Connack,
    Connect,
    Packet,
    Publish,
    Suback,
    Subscribe,
    Unsubscribe,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_NOTED = 1_000
"""Packets kept for one case; of what comes beyond only the number is."""

_GREETING = 12
"""Entries that a connection's beginning has, at the most."""
_HEX_SHOWN = 48
"""Bytes of a packet in one line of hex."""


@dataclass(frozen=True, slots=True)
class Noted:
    """A packet, or something that happened to the connection.

    Attributes:
        at: Seconds since the case began.
        sender: "device", "server", or "" for what was no packet.
        text: The packet in words.
        data: Its bytes as they went over the wire.
    """

    at: float
    sender: str
    text: str
    data: bytes = b""


class Exchange:
    """Collects what happens during one case."""

    def __init__(self) -> None:
        self._noted: list[Noted] = []
        self._greeting: tuple[Noted, ...] = ()
        self._start = 0.0
        self._beyond = 0

    def begin(self, now: float) -> None:
        """Forget everything: a case begins."""
        self._noted.clear()
        self._start = now
        self._beyond = 0

    def note(self, now: float, sender: str, text: str, data: bytes = b"") -> None:
        """Add one entry."""
        if len(self._noted) == MAX_NOTED:
            self._beyond += 1
            return
        self._noted.append(Noted(now - self._start, sender, text, data))

    def remember(self) -> None:
        """What was noted by now is how the device introduced itself."""
        self._greeting = tuple(
            replace(noted, at=noted.at + self._start) for noted in self._noted[-_GREETING:]
        )

    def recall(self) -> None:
        """Show the introduction in this case too, at times before its beginning, unless it happened in it."""
        before = [replace(noted, at=noted.at - self._start) for noted in self._greeting]
        self._noted[:0] = [noted for noted in before if noted.at < 0]

    def taken(self) -> tuple[Noted, ...]:
        """All of it, in order."""
        if not self._beyond:
            return tuple(self._noted)
        last = Noted(self._noted[-1].at, "", f"and {self._beyond} more, not kept")
        return (*self._noted, last)


def diagram(noted: Iterable[Noted], *, with_bytes: bool = False) -> list[str]:
    """A sequence diagram: the device on the left, our server on the right, time downwards.

    Args:
        noted: What happened.
        with_bytes: Put the bytes of each packet below it, as hex.
    """
    return [line for each in noted for line in _lines(each, with_bytes=with_bytes)]


def _lines(noted: Noted, *, with_bytes: bool) -> Iterator[str]:
    arrow = {"device": "device ──▶       ", "server": "       ◀── server"}.get(noted.sender, "")
    yield f"{noted.at:8.3f}  {arrow or '·':17}  {noted.text}"
    if with_bytes:
        for at in range(0, len(noted.data), _HEX_SHOWN // 2):
            yield f"{'':29}{noted.data[at : at + _HEX_SHOWN // 2].hex(' ')}"


def describe(packet: Packet) -> str:
    """A packet in words; passwords are never among them."""
    match packet:
        case Connect():
            return _connect(packet)
        case Connack(present, code):
            answer = "accepted" if code == 0 else f"refused with code {code}"
            return f"CONNACK {answer}, session present {int(present)}"
        case Publish():
            return _publish(packet)
        case Subscribe(packet_id, filters):
            wanted = ", ".join(f"{name} at QoS {qos}" for name, qos in filters)
            return f"SUBSCRIBE {packet_id}: {wanted}"
        case Suback(packet_id, codes):
            return f"SUBACK {packet_id}: {' '.join(f'{code:#04x}' for code in codes)}"
        case Unsubscribe(packet_id, names):
            return f"UNSUBSCRIBE {packet_id}: {', '.join(names)}"
        case _:
            number = getattr(packet, "packet_id", None)
            return type(packet).__name__.upper() + (f" {number}" if number else "")


def _connect(packet: Connect) -> str:
    session = "clean session" if packet.clean_session else "persistent session"
    words = [f"CONNECT {packet.client_id!r}", session, f"keep-alive {packet.keep_alive} s"]
    if packet.username is not None:
        words.append(f"user {packet.username!r}")
    if packet.password is not None:
        words.append("a password")
    if packet.will is not None:
        will = packet.will
        words.append(
            f"will at QoS {will.qos} on {will.topic}: {_payload(will.topic, will.payload)}"
        )
    return ", ".join(words)


def _publish(packet: Publish) -> str:
    flags = ("DUP " if packet.dup else "") + ("RETAIN " if packet.retain else "")
    number = f" {packet.packet_id}" if packet.packet_id else ""
    return f"PUBLISH{number} {flags}QoS {packet.qos} on {packet.topic}: {_payload(packet.topic, packet.payload)}"


def _payload(topic: str, data: bytes) -> str:
    # By the topic: the bytes of some deltas would pass for an ack.
    _, _, kind = topic.rpartition("/")[0].rpartition("/")
    try:
        if kind == "u":
            return up_words(decode_up(data))
        frame = decode_frame(data)
    except (BadUp, BadFrame):
        frame = None
    return frame_words(frame) if frame is not None else _raw(data)


def _raw(data: bytes) -> str:
    more = " …" if len(data) > _HEX_SHOWN else ""
    return f"{len(data)} bytes {data[:_HEX_SHOWN].hex(' ')}{more}".strip()


def up_words(message: Up) -> str:
    """An up message in words."""
    match message:
        case Hello(epoch, seq, options):
            named = ("k", "budget", "max_qos", "agent", "c", "clock")
            said = [(name, getattr(options, name, None)) for name in named]
            rest = "".join(f", {name} {value!r}" for name, value in said if value is not None)
            return f"hello at {epoch}.{seq}{rest}"
        case Ack(epoch, seq):
            return f"ack {epoch}.{seq}"
        case Bye(c):
            return f"bye {c}"
        case Feedback(events):
            words = [f"{event.kind.name.lower()} {event.n}" for event in events]
            return f"feedback {', '.join(words)}"
        case _:
            return f"profile {message}"


def frame_words(frame: Snapshot | Delta) -> str:
    """A frame in words."""
    if isinstance(frame, Snapshot):
        items = " ".join(_item(item) for item in frame.items)
        return f"snapshot {frame.epoch}.{frame.seq}, k {frame.k}, [{items}]"
    ops = ", ".join(_op(op) for op in frame.ops)
    return f"delta {frame.epoch}.{frame.start} → {frame.epoch}.{frame.seq}: {ops or 'no ops'}"


def _op(op: Op) -> str:
    if isinstance(op, Put):
        return f"put {_item(op.item)} at {op.rank}"
    if isinstance(op, Remove):
        return f"remove {op.rank}"
    return f"move {op.source} to {op.target}"


def _item(item: FeedItem) -> str:
    return f"#{item.n}"
