"""The last frames of single devices, decoded, kept while somebody looks at them.

While nobody looks, `Sending.tap` is None and this costs the data path one truth test for each batch. While
somebody does, each batch is searched for the rows of the devices that are looked at, never of others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from broker.roster import publish_header
from broker.web.pages.payloads import readable
from devices import slots
from devices.frames import BadFrame, Delta, Move, Put, Snapshot, decode_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from broker.roster import Live
    from broker.service import Service
    from devices.frames import FeedItem, Frame, Remove
    from devices.inflight import Unacknowledged
    from devices.ledger import Batch, Ledger
    from devices.ledger_rows import Rows

KEPT = 40
"""Frames of each device that is looked at."""

_SHORT = 90
"""Characters that are shown of an item in a list of changes."""

_NAMES = 256
"""Items of a look whose texts are remembered: what a frame removes is often over already."""


@dataclass(slots=True)
class SeenFrame:
    """One frame.

    Attributes:
        id: Counts the frames of a look.
        at: Unix seconds when it was written; None if that was before anybody looked.
        qos: Of its packet.
        size: Bytes of the whole packet.
        packet_id: Its packet identifier, 0 at QoS 0.
        frame: What it says; None if this version cannot read it.
        changes: The same op by op, as JSON with the items' texts.
        again: How often it was repeated.
        acked_at: Unix seconds when the device acknowledged it.
        changed: The look's `changed` when this changed last.
    """

    id: int
    at: float | None
    qos: int
    size: int
    packet_id: int
    frame: Frame | None
    changes: list[dict[str, Any]]
    again: int = 0
    acked_at: float | None = None
    changed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        frame = self.frame
        found = {
            "id": self.id,
            "at": self.at,
            "qos": self.qos,
            "bytes": self.size,
            "again": self.again,
            "acked_at": self.acked_at,
            "changes": self.changes,
        }
        if frame is None:
            return {**found, "kind": "unknown", "epoch": 0, "seq": 0}
        position = {"epoch": frame.epoch, "seq": frame.seq}
        if isinstance(frame, Snapshot):
            return {**found, **position, "kind": "snapshot", "k": frame.k}
        return {**found, **position, "kind": "delta", "base": frame.base}


@dataclass(slots=True, eq=False)
class Look:
    """One device that is looked at.

    Attributes:
        device: Which.
        frames: Its last frames, oldest first.
        changed: Grows with every change of `frames`.
        wake: Is set at every change.
        names: What items say, by number, of those that the device was sent last.
    """

    device: str
    frames: deque[SeenFrame] = field(default_factory=lambda: deque(maxlen=KEPT))
    changed: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    names: dict[int, dict[str, Any]] = field(default_factory=dict)
    _count: int = 0

    def add(self, frame: SeenFrame) -> None:
        """A frame more."""
        self._count += 1
        frame.id = self._count
        self.frames.append(frame)
        self.touch(frame)

    def touch(self, frame: SeenFrame) -> None:
        """A frame is new or has changed."""
        self.changed += 1
        frame.changed = self.changed
        self.wake.set()

    def name(self, n: int, payload: str | bytes) -> dict[str, Any]:
        """Remembers what an item says; the same as JSON."""
        self.names.pop(n, None)
        said = self.names[n] = readable(payload, _SHORT)
        if len(self.names) > _NAMES:
            del self.names[next(iter(self.names))]
        return said

    def since(self, changed: int) -> list[dict[str, Any]]:
        """Frames that changed since then, oldest first, as JSON."""
        return [frame.as_dict() for frame in self.frames if frame.changed > changed]


class FramesSeen:
    """What `Sending.tap` is set to while anybody looks.

    Args:
        service: Whose devices.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._looks: dict[str, Look] = {}

    def begin(self, device: str) -> Look:
        """Gathers the frames of a device from now on; those in flight that are kept are there already."""
        look = self._looks[device] = Look(device)
        self._service.sending.tap = self
        live = self._service.roster.get(device)
        if live is not None:
            for n in self._service.engine.window(live.seat):
                if (record := self._service.engine.item(n)) is not None:
                    look.name(n, record.item.payload)
            for frame in self._service.roster.ledger(live).unacknowledged(live.seat.row):
                self._add(look, live, frame.qos, frame.tail, at=None)
        return look

    def end(self, look: Look) -> None:
        """Nobody looks at it any more."""
        self._looks.pop(look.device, None)
        if not self._looks:
            self._service.sending.tap = None

    def frames(self, device: str) -> list[dict[str, Any]]:
        """The last frames of a device that is looked at, oldest first, as JSON; none of another."""
        look = self._looks.get(device)
        return [] if look is None else look.since(0)

    # ---- The tap

    def wrote(self, shelf: int, batch: Batch) -> None:
        """These frames were written."""
        for look, live in self._of(shelf):
            for at in np.flatnonzero(batch.rows == live.seat.row).tolist():
                tail = batch.tails[at]
                if batch.whole:
                    tail = _behind_topic(tail, live)
                self._add(look, live, batch.qos, tail, at=self._service.now())

    def repeated(self, live: Live, frame: Unacknowledged) -> None:
        """A frame was written once more, with DUP."""
        look = self._looks.get(live.profile.device)
        if look is None:
            return
        seen = next((each for each in look.frames if _awaits(each, frame.packet_id)), None)
        if seen is None:
            seen = self._add(look, live, frame.qos, frame.tail, at=self._service.now())
        seen.again += 1
        look.touch(seen)

    def acknowledged(self, shelf: int, rows: Rows, packet_ids: NDArray[np.uint16]) -> None:
        """These rows acknowledge the frames of these packet identifiers, one each."""
        for look, live in self._of(shelf):
            for packet_id in packet_ids[rows == live.seat.row].tolist():
                self._arrived(look, [f for f in look.frames if _awaits(f, packet_id)])

    def confirmed(self, shelf: int, rows: Rows, seqs: NDArray[np.int64]) -> None:
        """These rows say that they have applied everything up to these frames of their epochs."""
        for look, live in self._of(shelf):
            epoch, _ = self._service.roster.ledger(live).position(live.seat.row)
            for seq in seqs[rows == live.seat.row].tolist():
                self._arrived(look, [f for f in look.frames if _is_up_to(f, epoch, seq)])

    def _of(self, shelf: int) -> Iterator[tuple[Look, Live]]:
        """Devices that are looked at and have a row of this shelf now."""
        for look in self._looks.values():
            live = self._service.roster.get(look.device)
            if live is not None and live.seat.shelf == shelf:
                yield look, live

    def _arrived(self, look: Look, frames: list[SeenFrame]) -> None:
        for frame in frames:
            frame.acked_at = self._service.now()
            look.touch(frame)

    def _add(self, look: Look, live: Live, qos: int, tail: bytes, *, at: float | None) -> SeenFrame:
        """A frame by what stands behind its topic name."""
        packet_id = int.from_bytes(tail[:2], "big") if qos else 0
        try:
            frame = decode_frame(tail[2:] if qos else tail)
        except BadFrame:
            frame = None
        ledger = self._service.roster.ledger(live)
        length = len(live.topic) + len(tail)
        seen = SeenFrame(
            id=0,
            at=at,
            qos=qos,
            size=len(publish_header(qos, length)) + length,
            packet_id=packet_id,
            frame=frame,
            changes=_changes(look, frame, _window_at(ledger, live.seat.row, frame)),
        )
        look.add(seen)
        return seen


# ---- What a frame does


def _changes(look: Look, frame: Frame | None, window: list[int] | None) -> list[dict[str, Any]]:
    """Op by op, places counted from 1; `window` is what it changes, by number, if that is known."""
    if isinstance(frame, Snapshot):
        return [_put(look, rank, item, None) for rank, item in enumerate(frame.items)]
    found = []
    for op in frame.ops if isinstance(frame, Delta) else ():
        if isinstance(op, Put):
            found.append(_put(look, op.rank, op.item, window))
        else:
            found.append(_taken(look, op, window))
    return found


def _put(look: Look, rank: int, item: FeedItem, window: list[int] | None) -> dict[str, Any]:
    before = None
    if window is not None:
        if item.n in window:
            before = window.index(item.n) + 1
            window.remove(item.n)
        window.insert(rank, item.n)
    return {
        "op": "put",
        "to": rank + 1,
        "from": before,
        "n": item.n,
        "priority": item.priority,
        "payload": look.name(item.n, item.payload),
    }


def _taken(look: Look, op: Remove | Move, window: list[int] | None) -> dict[str, Any]:
    source, target = (op.source, op.target) if isinstance(op, Move) else (op.rank, None)
    n = window.pop(source) if window is not None and source < len(window) else None
    if window is not None and n is not None and target is not None:
        window.insert(target, n)
    return {
        "op": "remove" if target is None else "move",
        "from": source + 1,
        "to": None if target is None else target + 1,
        "n": n,
        "payload": None if n is None else look.names.get(n),
    }


def _window_at(ledger: Ledger, row: int, frame: Frame | None) -> list[int] | None:
    """The numbers that a device shows before this frame; None if they are remembered no more."""
    if not isinstance(frame, Delta) or int(ledger.epoch[row]) != frame.epoch:
        return None
    ring = np.arange(row * ledger.ring, (row + 1) * ledger.ring)
    found = ring[ledger.held_seq[ring] == frame.start]
    if not len(found):
        return None
    return [slots.number(slot) for slot in ledger.held[int(found[0])].tolist() if slot]


def _behind_topic(packet: bytes, live: Live) -> bytes:
    """What stands behind the topic name of a whole PUBLISH (MQTT 3.1.1, 2.2.3 and 3.3)."""
    at = 1
    while packet[at] & 0x80:
        at += 1
    return packet[at + 1 + len(live.topic) :]


def _awaits(frame: SeenFrame, packet_id: int) -> bool:
    return frame.packet_id == packet_id and frame.acked_at is None


def _is_up_to(seen: SeenFrame, epoch: int, seq: int) -> bool:
    frame = seen.frame
    return seen.acked_at is None and frame is not None and frame.epoch == epoch and frame.seq <= seq
