"""Feed frames: what travels to one device on ``f/<device>``, as values and as msgpack.

Frames are positional arrays of integers of at most 32 bits, strings and byte strings. Nothing here
keeps state: what a frame does to a device is in `replica`, which frame a device needs is in `ledger`.

`decode_frame` either returns a value that keeps every bound of the protocol or raises `BadFrame`: no
other exception leaves it, whatever the bytes. Elements after those that this version knows are
ignored, so that the protocol can grow.

The ``*_bytes`` functions build the same frames from parts that are already encoded: the server
encodes an item once and shares its bytes between all devices that receive it.

The up messages of `up_messages`, the other half of the wire, can be had from here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import msgpack

from devices.up_messages import (
    MAX_BUDGET,
    MAX_UP,
    MIN_BUDGET,
    Ack,
    BadUp,
    Bye,
    Event,
    Feedback,
    Hello,
    HelloOptions,
    Kind,
    Profile,
    Up,
    UpError,
    decode_up,
    encode_up,
)
from devices.wire import MAX_K, MAX_UINT, UNPACK_ERRORS, array_head, uint_bytes, unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_BUDGET",
    "MAX_K",
    "MAX_PRIORITY",
    "MAX_UINT",
    "MAX_UP",
    "MIN_BUDGET",
    "MIN_PAYLOAD",
    "Ack",
    "BadFrame",
    "BadUp",
    "Bye",
    "Delta",
    "Event",
    "FeedItem",
    "Feedback",
    "Frame",
    "Hello",
    "HelloOptions",
    "Kind",
    "Move",
    "Op",
    "Profile",
    "Put",
    "Remove",
    "Snapshot",
    "Up",
    "UpError",
    "array_head",
    "decode_frame",
    "decode_up",
    "delta_bytes",
    "encode_frame",
    "encode_up",
    "item_bytes",
    "longest_overhead",
    "move_bytes",
    "payload_capacity",
    "put_bytes",
    "remove_bytes",
    "snapshot_bytes",
    "uint_bytes",
]

MAX_PRIORITY = 3
"""Urgent."""
MIN_PAYLOAD = 32
"""A frame budget that leaves fewer payload bytes than this (`payload_capacity`) is refused."""


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One item as a device holds it.

    Attributes:
        n: the server's item number, 1 to 2³² - 1; an update of the item keeps it.
        expires: Unix seconds, or 0 for a device without a clock.
        priority: 0 low, 1 normal, 2 high, 3 urgent.
        payload: what the device shows; opaque to the feed.
    """

    n: int
    expires: int
    priority: int
    payload: str | bytes


@dataclass(frozen=True, slots=True)
class Put:
    """Drop the item of this number if it is held, insert `item` at `rank`, drop what is past k."""

    rank: int
    item: FeedItem


@dataclass(frozen=True, slots=True)
class Remove:
    """Drop the item at `rank`."""

    rank: int


@dataclass(frozen=True, slots=True)
class Move:
    """Take out the item at `source` and insert it at `target`, counted after taking out."""

    source: int
    target: int


Op: TypeAlias = Put | Remove | Move


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole window, best first: at most `k` items, no number twice."""

    epoch: int
    seq: int
    k: int
    items: tuple[FeedItem, ...]


@dataclass(frozen=True, slots=True)
class Delta:
    """What changes a window at (`epoch`, `start`) into the window at (`epoch`, `seq`).

    `base` is None where it is `seq` - 1, as on the wire; `start` is the same in full.
    """

    epoch: int
    seq: int
    ops: tuple[Op, ...]
    base: int | None = None

    @property
    def start(self) -> int:
        """The sequence number that a device must hold for this delta to apply."""
        return self.seq - 1 if self.base is None else self.base


Frame: TypeAlias = Snapshot | Delta


class BadFrame(ValueError):  # noqa: N818 (said of the bytes, not of this program)
    """The bytes are no frame of this protocol; a device ignores them."""


_SNAPSHOT, _DELTA = 0, 1


def item_bytes(n: int, expires: int, priority: int, payload: str | bytes) -> bytes:
    """One item, to be shared by the frames of all devices that receive it."""
    head = b"\x94" + uint_bytes(n) + uint_bytes(expires) + uint_bytes(priority)
    packed: bytes = msgpack.packb(payload)
    return head + packed


def put_bytes(rank: int, item: bytes) -> bytes:
    """The op that puts an item (see `item_bytes`) at `rank`."""
    return b"\x92" + uint_bytes(rank) + item


def remove_bytes(rank: int) -> bytes:
    """The op that removes what is at `rank`."""
    return uint_bytes(rank)


def move_bytes(source: int, target: int) -> bytes:
    """The op that moves an item from `source` to `target`."""
    return b"\x92" + uint_bytes(source) + uint_bytes(target)


def snapshot_bytes(epoch: int, seq: int, k: int, items: Sequence[bytes]) -> bytes:
    """A snapshot frame of encoded items, best first."""
    head = b"\x95\x00" + uint_bytes(epoch) + uint_bytes(seq) + uint_bytes(k)
    return b"".join((head, array_head(len(items)), *items))


def delta_bytes(epoch: int, seq: int, ops: Sequence[bytes], base: int | None = None) -> bytes:
    """A delta frame of encoded ops; a `base` of `seq` - 1 is left out."""
    position = uint_bytes(epoch) + uint_bytes(seq) + array_head(len(ops))
    if base is None or base == seq - 1:
        return b"".join((b"\x94\x01", position, *ops))
    return b"".join((b"\x95\x01", position, *ops, uint_bytes(base)))


def longest_overhead(topic_len: int) -> int:
    """Bytes of a PUBLISH with one put besides its payload, every integer at its longest.

    Counted so that an item which once fitted a device's budget always fits: QoS ≥ 1 (a packet id), a
    remaining length of 3 bytes (enough for the largest budget), 5-byte epoch, seq, base, n and
    expires, and a 3-byte payload header. A snapshot of one item is shorter: it has k where a delta
    has base and the head and rank of a put.

    Args:
        topic_len: length of the frame's topic in bytes, without its length field.
    """
    packet = 1 + 3 + 2 + topic_len + 2
    item = 1 + 5 + 5 + 1 + 3
    snapshot = 1 + 1 + 5 + 5 + 1 + 1 + item
    delta = 1 + 1 + 5 + 5 + 1 + (1 + 1 + item) + 5
    return packet + max(snapshot, delta)


def payload_capacity(budget: int, device_id: str, prefix: str = "") -> int:
    """How many payload bytes surely fit a device's frame budget; may be negative.

    The budget counts the whole packet, MQTT header and topic included.
    """
    return budget - longest_overhead(len(prefix.encode()) + 2 + len(device_id))


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame, in their shortest form.

    Raises:
        ValueError: a number that is no 32-bit unsigned integer.
    """
    if isinstance(frame, Snapshot):
        items = [_encode_item(item) for item in frame.items]
        return snapshot_bytes(frame.epoch, frame.seq, frame.k, items)
    return delta_bytes(frame.epoch, frame.seq, [_encode_op(op) for op in frame.ops], frame.base)


def _encode_item(item: FeedItem) -> bytes:
    return item_bytes(item.n, item.expires, item.priority, item.payload)


def _encode_op(op: Op) -> bytes:
    match op:
        case Put(rank, item):
            return put_bytes(rank, _encode_item(item))
        case Remove(rank):
            return remove_bytes(rank)
        case Move(source, target):
            return move_bytes(source, target)


def decode_frame(data: bytes) -> Frame | None:
    """The frame in `data`, or None for a frame type that this version does not know.

    Raises:
        BadFrame: anything that is no frame. A snapshot with a number twice or more than k items, and
            a delta that does not lead forward, are none.
    """
    try:
        array = unpack(data)
    except UNPACK_ERRORS as error:
        raise BadFrame(f"no msgpack: {error!r}") from None
    if type(array) is not list or not array:
        raise BadFrame("a frame is an array that starts with its type")
    kind = array[0]
    if kind == _DELTA and type(kind) is int:
        return _delta(array)
    if kind == _SNAPSHOT and type(kind) is int:
        return _snapshot(array)
    if type(kind) is int and kind > 0:
        return None
    raise BadFrame(f"a frame type is an unsigned integer, not {kind!r}")


def _snapshot(array: list[Any]) -> Snapshot:
    if len(array) < 5:
        raise BadFrame(f"a snapshot has 5 elements, not {len(array)}")
    _, epoch, seq, k, items = array[:5]
    _check_uint(epoch, 1, MAX_UINT)
    _check_uint(seq, 0, MAX_UINT)
    _check_uint(k, 1, MAX_K)
    if type(items) is not list or len(items) > k:
        raise BadFrame(f"the items of a snapshot are an array of at most k = {k}")
    window = tuple([_item(item) for item in items])
    if len({item.n for item in window}) != len(window):
        raise BadFrame("a snapshot with the same item number twice")
    return Snapshot(epoch, seq, k, window)


def _delta(array: list[Any]) -> Delta:
    if len(array) < 4:
        raise BadFrame(f"a delta has at least 4 elements, not {len(array)}")
    _, epoch, seq, ops = array[:4]
    _check_uint(epoch, 1, MAX_UINT)
    _check_uint(seq, 1, MAX_UINT)
    if type(ops) is not list:
        raise BadFrame("the ops of a delta are an array")
    base = None
    if len(array) > 4:
        _check_uint(array[4], 0, seq - 1)
        base = None if array[4] == seq - 1 else array[4]
    return Delta(epoch, seq, tuple([_op(op) for op in ops]), base)


def _op(op: Any) -> Op:
    if type(op) is int:
        _check_uint(op, 0, MAX_UINT)
        return Remove(op)
    if type(op) is not list or len(op) < 2:
        raise BadFrame(f"an op is a rank or an array of two, not {op!r}")
    rank, what = op[:2]
    _check_uint(rank, 0, MAX_UINT)
    if type(what) is list:
        return Put(rank, _item(what))
    _check_uint(what, 0, MAX_UINT)
    return Move(rank, what)


def _item(item: Any) -> FeedItem:
    if type(item) is not list or len(item) < 4:
        raise BadFrame(f"an item is an array of 4, not {item!r}")
    n, expires, priority, payload = item[:4]
    _check_uint(n, 1, MAX_UINT)
    _check_uint(expires, 0, MAX_UINT)
    _check_uint(priority, 0, MAX_PRIORITY)
    if type(payload) is not str and type(payload) is not bytes:
        raise BadFrame(f"a payload is a string or bytes, not {type(payload).__name__}")
    return FeedItem(n, expires, priority, payload)


def _check_uint(value: Any, low: int, high: int) -> None:
    # type(...) is, not isinstance: true and false are ints in Python and are none on the wire.
    if type(value) is not int or not low <= value <= high:
        raise BadFrame(f"an integer from {low} to {high} belongs here, not {value!r}")
