"""Many frames that differ only in a few integers, laid out as one byte matrix.

A new item makes nearly the same frame for every device: one put, with the device's own packet
identifier, epoch, sequence number and rank. All such frames of one length are rows of one array: the
constant bytes are broadcast, the integers are columns, and the whole is cut into `bytes` once. Building
each packet in a Python loop costs about four times as much per device.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

_DELTA = b"\x94\x01"  # an array of four, the frame type of a delta
_ONE_PUT = b"\x91\x92"  # an array of one op, an array of two: rank and item

UINT_SIZES = (1, 2, 3, 5)
"""Bytes of a msgpack unsigned integer of each class: fixint, uint8, uint16, uint32."""

_UINT_LIMITS = np.array((0x80, 0x100, 0x10000))
_UINT_HEADS = (b"", b"\xcc", b"\xcd", b"\xce")


def uint_class(values: NDArray[np.integer]) -> NDArray[np.int8]:
    """The class (index into `UINT_SIZES`) of the shortest msgpack form of each value."""
    return np.searchsorted(_UINT_LIMITS, values, side="right").astype(np.int8)


def put_length(epoch_class: int, seq_class: int, item: int, *, packet_id: bool) -> int:
    """Bytes of what `put_deltas` makes for an item of so many bytes, the lead left out."""
    heads = 2 * packet_id + len(_DELTA) + len(_ONE_PUT) + 1
    return heads + UINT_SIZES[epoch_class] + UINT_SIZES[seq_class] + item


def _class_of(value: int) -> int:
    return 0 if value < 0x80 else 1 if value < 0x100 else 2 if value < 0x10000 else 3


def _put_uint(
    matrix: NDArray[np.uint8], at: int, values: NDArray[np.integer], size_class: int
) -> int:
    """Writes one column of integers at byte `at`; returns the byte behind it."""
    head = _UINT_HEADS[size_class]
    width = UINT_SIZES[size_class] - len(head)
    if head:
        matrix[:, at] = head[0]
        at += 1
    for shift in range(8 * (width - 1), -8, -8):
        matrix[:, at] = (values >> shift) & 0xFF
        at += 1
    return at


def put_deltas(
    epoch: NDArray[np.uint32],
    seq: NDArray[np.uint32],
    rank: NDArray[np.integer],
    item: bytes,
    packet_id: NDArray[np.integer] | None,
    lead: NDArray[np.uint8] | None = None,
) -> list[bytes]:
    """One delta with a single put per row: `[1, epoch, seq, [[rank, item]]]`.

    Args:
        epoch: The epochs, all of one size class.
        seq: The sequence numbers, all of one size class.
        rank: The ranks, 0 to 63.
        item: The encoded item, shared by all rows.
        packet_id: MQTT packet identifiers to stand in front of each frame (QoS 1 and 2), or None.
        lead: What stands before that, a matrix of as many rows, or None.

    Returns:
        What follows the topic name of each row's PUBLISH packet, all of one length; with a `lead` that
        is fixed header and topic name, the whole packets.
    """
    epoch_class = _class_of(int(epoch[0]))
    seq_class = _class_of(int(seq[0]))
    at = 0 if packet_id is None else 2
    head_length = (
        at + len(_DELTA) + UINT_SIZES[epoch_class] + UINT_SIZES[seq_class] + len(_ONE_PUT) + 1
    )
    # The columns are written into a narrow matrix first: a stride of a whole frame costs a cache miss
    # for each byte.
    head = np.empty((len(epoch), head_length), np.uint8)
    if packet_id is not None:
        head[:, 0] = packet_id >> 8
        head[:, 1] = packet_id & 0xFF
    head[:, at : at + len(_DELTA)] = np.frombuffer(_DELTA, np.uint8)
    at = _put_uint(head, at + len(_DELTA), epoch, epoch_class)
    at = _put_uint(head, at, seq, seq_class)
    head[:, at : at + len(_ONE_PUT)] = np.frombuffer(_ONE_PUT, np.uint8)
    head[:, -1] = rank
    start = 0 if lead is None else lead.shape[1]
    frames = np.empty((len(epoch), start + head_length + len(item)), np.uint8)
    if lead is not None:
        frames[:, :start] = lead
    frames[:, start : start + head_length] = head
    frames[:, start + head_length :] = np.frombuffer(item, np.uint8)
    tails = frames.view(np.dtype((np.void, frames.shape[1]))).ravel().tolist()
    return cast("list[bytes]", tails)
