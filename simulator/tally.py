"""What a fleet counts: frames by kind, bytes, faults, and how long an item takes to its devices."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Self

from devices.frames import Delta, Frame, Move, Put, Remove, Snapshot, encode_frame
from simulator.results import Distribution

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_STEP = math.log(1.05)


class Histogram:
    """Durations in buckets 5 % wide: any number of them in a few hundred integers.

    Attributes:
        count: How many there are.
        total: Their sum, seconds.
        largest: The longest; 0 without any.
    """

    __slots__ = ("_buckets", "count", "largest", "total")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.total = 0.0
        self.largest = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        self._buckets[math.ceil(math.log(max(seconds, 1e-6)) / _STEP)] += 1
        self.count += 1
        self.total += seconds
        self.largest = max(self.largest, seconds)

    def merge(self, other: Histogram) -> None:
        """Counts all durations of another histogram too."""
        self._buckets.update(other._buckets)
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    def distribution(self) -> Distribution:
        """The same as a value to be written down."""
        places = sorted(self._buckets)
        return Distribution(
            bounds=tuple(math.exp(place * _STEP) for place in places),
            counts=tuple(self._buckets[place] for place in places),
            count=self.count,
            total=self.total,
            largest=self.largest,
        )

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
    """Counters of a fleet, or of one class of its devices; the frames are those that a device applied.

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
        feedback_lost: Feedback events that found no room to wait for a connection.
        messages_down: PUBLISH packets received, applied or not.
        messages_up: PUBLISH packets sent.
        octets_down: Bytes read from connections, MQTT only: no TLS, TCP or IP.
        octets_up: Bytes written to connections, likewise.
        plain_down: Those of them that no link counted as a modem would.
        plain_up: Likewise.
        resent: Frames with DUP.
        sleeps: Times that a device went to sleep.
        exhausted: Devices whose battery of messages is used up.
        crashes: Times that an item crashed a device.
        latency: From publish to the frame that put the item into the window of a device that was there when it was
            published; over all devices.
        wake_up: From a connection's start to the first frame of what the device had missed. A device that had missed
            nothing is not counted.
        freshness: Age of the newest item in a window, by `Fleet.sample`.
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
    feedback_lost: int = 0
    messages_down: int = 0
    messages_up: int = 0
    octets_down: int = 0
    octets_up: int = 0
    plain_down: int = 0
    plain_up: int = 0
    resent: int = 0
    sleeps: int = 0
    exhausted: int = 0
    crashes: int = 0
    latency: Histogram = field(default_factory=Histogram)
    wake_up: Histogram = field(default_factory=Histogram)
    freshness: Histogram = field(default_factory=Histogram)
    _whole: int = 0
    _sampled: int = 0

    @classmethod
    def of_all(cls, tallies: Iterable[Tally]) -> Self:
        """The sum of several."""
        whole = cls()
        for tally in tallies:
            for each in fields(cls):
                value, more = getattr(whole, each.name), getattr(tally, each.name)
                if isinstance(value, Histogram):
                    value.merge(more)
                elif isinstance(value, Counter):
                    value.update(more)
                else:
                    setattr(whole, each.name, value + more)
        return whole

    def counts(self) -> Mapping[str, int]:
        """All that are plain counts, by name; of `ignored` each reason."""
        plain = {
            each.name: value
            for each in fields(self)
            if not each.name.startswith("_") and isinstance(value := getattr(self, each.name), int)
        }
        return plain | {f"ignored {word}": number for word, number in self.ignored.items()}

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
