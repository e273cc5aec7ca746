"""What a node tells the trainer: events with all that is true of the devices, as bytes and back.

msgpack of a map. Devices come once each, events are columns, little endian, that point to them. Field
values are text under the names of the fields, so nodes and trainer need not number them alike. A batch
also brings what only the nodes know of windows: what was eligible in them, and what the correction of
exposure cost there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from feedgen.attributes import Value

VERSION = 1
"""Of the layout. Nodes of one fleet may be of two versions while it is upgraded: raise it only when a
reader would take bytes for something else; what is new goes under a new name."""
KINDS = ("shown", "opened", "dismissed", "dwell")
MAX_EVENTS = 500
"""Events of a batch; a reader takes more."""
MAX_BYTES = 1 << 22
"""Longer ones are refused."""

_EVENTS = {"who": "<u2", "n": "<i8", "kind": "|u1", "value": "<f4", "at": "<f8", "heard": "<f8"}
_ZONE = "tz"


class BadBatch(ValueError):  # noqa: N818 - named for what it is
    """These bytes are no batch."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """A device that reported something.

    Attributes:
        device: its token.
        attrs: device fields that it has, and its time zone as `tz`.
        held_out: whether it stays on newest first.
    """

    device: int
    attrs: dict[str, str]
    held_out: bool


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one node tells.

    Attributes:
        node: its name.
        reporters: the devices.
        who: uint16 [events], place in `reporters`.
        n: int64 [events], the items.
        kind: uint8 [events], place in `KINDS`.
        value: float32 [events], rank for shown (-1 unknown), seconds for dwell.
        at: float64 [events], Unix seconds at which it happened.
        heard: float64 [events], Unix seconds at which the node heard of it.
        groups: int64 [m, 2], publishers and channels that were eligible; empty if it tells nothing
            of it this time.
        worth: float64 [m], openings that their live items may expect at this node.
        compared: openings that windows promise corrected and uncorrected; zeros if it tells nothing.
    """

    node: str
    reporters: tuple[Reporter, ...]
    who: NDArray[np.uint16]
    n: NDArray[np.int64]
    kind: NDArray[np.uint8]
    value: NDArray[np.float32]
    at: NDArray[np.float64]
    heard: NDArray[np.float64]
    groups: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    worth: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    compared: tuple[float, float] = (0.0, 0.0)

    def __len__(self) -> int:
        return len(self.n)


class Batching:
    """Events of a node until they are sent.

    Args:
        node: its name.
        fields: attributes of devices that are told.
    """

    def __init__(self, node: str, fields: Sequence[str]) -> None:
        self._node = node
        self._fields = (*fields, _ZONE)
        self._places: dict[int, int] = {}
        self._reporters: list[tuple[int, bool, list[str | None]]] = []
        self._events: list[tuple[int, int, int, float, float, float]] = []
        self._eligible: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
        self._compared = (0.0, 0.0)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not self._events and self._eligible is None and self._compared == (0.0, 0.0)

    def heard(
        self,
        kind: str,
        n: int,
        value: float,
        at: float,
        now: float,
        device: int,
        attrs: Callable[[], Mapping[str, Value]],
        *,
        held_out: bool,
    ) -> None:
        """Note what somebody did with an item; the caller sends when there are `MAX_EVENTS`.

        Args:
            kind: one of `KINDS`.
            n: the item.
            value: a rank for shown (-1 unknown), seconds for dwell.
            at: Unix seconds at which it happened.
            now: Unix seconds.
            device: its token.
            attrs: asked what the device is, once in a batch.
            held_out: whether it stays on newest first.
        """
        who = self._places.get(device)
        if who is None:
            known = attrs()
            values = (known.get(name) for name in self._fields)
            told = [None if value is None else str(value) for value in values]
            who = self._places[device] = len(self._reporters)
            self._reporters.append((device, held_out, told))
        self._events.append((who, n, KINDS.index(kind), value, at, now))

    def eligible(self, groups: NDArray[np.int64], worth: NDArray[np.float64]) -> None:
        """Note what live items may expect at this node, in place of what was noted before."""
        distinct, at = np.unique(groups, axis=0, return_inverse=True)
        sums = np.zeros(len(distinct))
        np.add.at(sums, at.ravel(), worth)
        self._eligible = distinct.astype(np.int64), sums

    def compared(self, corrected: float, uncorrected: float) -> None:
        """Add what windows promise."""
        self._compared = self._compared[0] + corrected, self._compared[1] + uncorrected

    def take(self) -> bytes:
        """Return the batch as bytes, and begin another."""
        columns = zip(*self._events, strict=True) if self._events else ([] for _ in _EVENTS)
        groups, worth = self._eligible or (np.zeros((0, 2), np.int64), np.zeros(0))
        told: dict[str, Any] = {
            "version": VERSION,
            "node": self._node,
            "fields": self._fields,
            "reporters": self._reporters,
            **{
                name: np.array(column, dtype).tobytes()
                for (name, dtype), column in zip(_EVENTS.items(), columns, strict=True)
            },
            "groups": groups.astype("<i8").tobytes(),
            "worth": worth.astype("<f8").tobytes(),
            "compared": self._compared,
        }
        self._places, self._reporters, self._events = {}, [], []
        self._eligible, self._compared = None, (0.0, 0.0)
        packed: bytes = msgpack.packb(told, unicode_errors="surrogatepass")
        return packed


def decode(data: bytes) -> Batch:
    """Return the batch that `Batching.take` made bytes of.

    Raises:
        BadBatch: it did not make these.
    """
    if len(data) > MAX_BYTES:
        raise BadBatch(f"{len(data)} bytes, and {MAX_BYTES} are the most")
    try:
        told = _of_version(msgpack.unpackb(data, unicode_errors="surrogatepass"))
        batch = Batch(
            node=_text(told["node"]),
            reporters=_reporters([_text(name) for name in told["fields"]], told["reporters"]),
            groups=np.frombuffer(told["groups"], "<i8").astype(np.int64).reshape(-1, 2),
            worth=np.frombuffer(told["worth"], "<f8").astype(np.float64),
            compared=_pair(told["compared"]),
            **{
                name: np.frombuffer(told[name], dtype).astype(dtype[1:])
                for name, dtype in _EVENTS.items()
            },
        )
    except BadBatch:
        raise
    except (ValueError, TypeError, KeyError, OverflowError, msgpack.UnpackException) as error:
        raise BadBatch(f"damaged: {error!r:.80}") from error
    _check(batch)
    return batch


def _of_version(told: Any) -> dict[str, Any]:
    if not isinstance(told, dict) or told.get("version") != VERSION:
        raise BadBatch("no batch of this version")
    return told


def _check(batch: Batch) -> None:
    events = len(batch)
    if {len(getattr(batch, name)) for name in _EVENTS} != {events}:
        raise BadBatch("columns of different lengths")
    if events and (batch.who.max() >= len(batch.reporters) or batch.kind.max() >= len(KINDS)):
        raise BadBatch("an event of nobody, or of no kind")
    if len(batch.groups) != len(batch.worth) or (batch.groups < 0).any():
        raise BadBatch("groups that are none")
    numbers = (batch.value, batch.at, batch.heard, batch.worth, np.array(batch.compared))
    if not all(np.isfinite(each).all() for each in numbers) or (batch.worth < 0).any():
        raise BadBatch("numbers that are none")


def _reporters(fields: list[str], told: Any) -> tuple[Reporter, ...]:
    found = []
    for device, held_out, values in told:
        if not isinstance(device, int) or not 0 <= device < 1 << 64:
            raise BadBatch("a device that is none")
        attrs = {
            name: _text(value)
            for name, value in zip(fields, values, strict=True)
            if value is not None
        }
        found.append(Reporter(device, attrs, bool(held_out)))
    return tuple(found)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise BadBatch("a name that is no text")
    return value


def _pair(value: Any) -> tuple[float, float]:
    one, other = value
    return float(one), float(other)
