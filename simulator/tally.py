"""What a fleet counts: frames by kind, bytes, faults, and how long an item takes to its devices."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from devices.frames import Delta, Frame, Move, Put, Remove, Snapshot, encode_frame

_STEP = math.log(1.05)


class Histogram:
    """Durations in buckets 5 % wide: any number of them in a few hundred integers."""

    __slots__ = ("_buckets", "count")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self._buckets[math.ceil(math.log(max(seconds, 1e-6)) / _STEP)] += 1
        self.count += 1

    def quantile(self, q: float) -> float | None:
        """The duration that a share `q` of all does not exceed, at most 5 % too long; None without any."""
        left = q * self.count
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return math.exp(bucket * _STEP)
        return None


@dataclass(slots=True)
class Tally:
    """Counters of a fleet; the frames are those that a device applied.

    Attributes:
        connects: CONNACKs with code 0.
        losses: Connections that ended without our doing.
        hellos: Hellos that a gap made necessary.
        snapshots: Frames by kind.
        deltas: Frames by kind.
        puts: Operations in deltas.
        removes: Operations in deltas.
        moves: Operations in deltas.
        bytes: Bytes of applied frames as PUBLISH packets: header, topic and all.
        delta_bytes: Those of the deltas among them.
        acknowledged: Frames at QoS 1.
        ignored: Frames that changed nothing, by the replica's word: stale, gap, impossible, unknown, bad.
        oversize: Frames longer than the device's budget: a server's fault.
        foreign: Publishes on a topic that is not the device's: a server's fault.
        feedback: Feedback events sent.
        latency: From publish to the frame that put the item into a window, over all devices.
    """

    connects: int = 0
    losses: int = 0
    hellos: int = 0
    snapshots: int = 0
    deltas: int = 0
    puts: int = 0
    removes: int = 0
    moves: int = 0
    bytes: int = 0
    delta_bytes: int = 0
    acknowledged: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    oversize: int = 0
    foreign: int = 0
    feedback: int = 0
    latency: Histogram = field(default_factory=Histogram)
    _whole: int = 0
    _sampled: int = 0

    @property
    def frames(self) -> int:
        """Frames applied."""
        return self.snapshots + self.deltas

    def applied(self, frame: Frame, size: int, qos: int) -> None:
        """Counts a frame of `size` bytes that changed a window."""
        self.bytes += size
        self.acknowledged += qos > 0
        if isinstance(frame, Snapshot):
            self.snapshots += 1
            return
        self.deltas += 1
        self.delta_bytes += size
        for op in frame.ops:
            match op:
                case Put():
                    self.puts += 1
                case Remove():
                    self.removes += 1
                case Move():
                    self.moves += 1

    def sample_whole(self, frame: Delta, window: Snapshot, size: int) -> None:
        """Notes what sending the whole window instead of this delta of `size` bytes would have taken."""
        self._whole += size + len(encode_frame(window)) - len(encode_frame(frame))
        self._sampled += 1

    @property
    def whole_window(self) -> float | None:
        """Mean bytes of a packet with the whole window in place of a delta; None before the first sample."""
        return self._whole / self._sampled if self._sampled else None


class Arrivals:
    """When each text was published, to be asked by the devices that receive it.

    A device knows an item by the server's number, a publisher by its own id; the text is what both see. A text that
    was published twice tells nothing and is not timed.
    """

    __slots__ = ("_published",)

    def __init__(self) -> None:
        self._published: dict[str | bytes, float | None] = {}

    def publish(self, *texts: str | bytes, now: float) -> None:
        """Notes that an item with these texts (payload, brief) is sent now."""
        for text in set(texts):
            self._published[text] = None if text in self._published else now

    def published(self, text: str | bytes) -> float | None:
        """When the one item with this text was sent; None if there is no such, or more than one."""
        return self._published.get(text)
