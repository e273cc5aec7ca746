"""One frame, planned: what brings a window nearer to a feed within a device's budget.

A plan has everything of a frame but its position, so that devices in the same state share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from devices import slots
from devices.difference import MoveOp, PutOp, RemoveOp, SlotOp, apply, difference
from devices.frames import move_bytes, put_bytes, remove_bytes


class ItemForms(Protocol):
    """One item's content in the encodings that devices need."""

    full_size: int
    """Bytes of the full payload's content."""

    def encoded(self, *, clock: bool, brief: bool) -> bytes:
        """The encoded item: with its expiry if the device has a clock, full or brief."""


class ItemSource(Protocol):
    """Where the ledger gets the content of a slot from."""

    def __getitem__(self, slot: int, /) -> ItemForms:
        """The content of a slot that stands in a feed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A frame without its position.

    Attributes:
        snapshot: Whether it is a snapshot; else a delta.
        body: The encoded items of a snapshot, or ops of a delta.
        tip: The window that the device has after it.
        priority: The highest priority among what is put or removed; it chooses the QoS.
        put_numbers: The items put.
        removes: Remove ops.
        moves: Move ops.
    """

    snapshot: bool
    body: tuple[bytes, ...]
    tip: tuple[int, ...]
    priority: int
    put_numbers: tuple[int, ...]
    removes: int
    moves: int


def plan_frame(
    fresh: bool,
    tip: tuple[int, ...],
    goal: tuple[int, ...],
    k: int,
    frame_max: int,
    payload_max: int,
    clock: bool,
    items: ItemSource,
) -> Plan | None:
    """The next frame from `tip` towards `goal`: the smaller of delta and snapshot, within the budget."""

    def encoded(slot: int) -> bytes:
        forms = items[slot]
        return forms.encoded(clock=clock, brief=payload_max < forms.full_size)

    if fresh:
        return _snapshot(goal, frame_max, encoded)
    ops = difference(tip, goal, k)
    if not ops:
        return None
    delta = _delta(tip, ops, k, frame_max, encoded)
    if delta is not None and len(ops) == 1:
        return delta
    snapshot = _snapshot(goal, frame_max, encoded)
    if snapshot.tip != goal:
        return delta
    if delta is None or delta.tip != goal or _size(snapshot) < _size(delta):
        return snapshot
    return delta


# The longest heads: array, type, 5-byte epoch and seq, then k or a 5-byte base, and the inner array's
# head. An item that fits once always fits, however the numbers grow.
_SNAPSHOT_HEAD = 1 + 1 + 5 + 5 + 1 + 3
_DELTA_HEAD = 1 + 1 + 5 + 5 + 3 + 5


def _size(plan: Plan) -> int:
    return sum(map(len, plan.body))


def _snapshot(goal: tuple[int, ...], frame_max: int, encoded: Callable[[int], bytes]) -> Plan:
    """The best items of the goal that fit one frame."""
    body = []
    room = frame_max - _SNAPSHOT_HEAD
    for slot in goal:
        item = encoded(slot)
        room -= len(item)
        if room < 0:
            break
        body.append(item)
    tip = goal[: len(body)]
    return Plan(
        snapshot=True,
        body=tuple(body),
        tip=tip,
        priority=max(map(slots.priority, tip), default=0),
        put_numbers=tuple(map(slots.number, tip)),
        removes=0,
        moves=0,
    )


def _delta(
    tip: tuple[int, ...],
    ops: Sequence[SlotOp],
    k: int,
    frame_max: int,
    encoded: Callable[[int], bytes],
) -> Plan | None:
    """The first of the ops, as many as fit one frame; None if not even one does."""
    body: list[bytes] = []
    room = frame_max - _DELTA_HEAD
    for op in ops:
        match op:
            case PutOp():
                encoded_op = put_bytes(op.rank, encoded(op.slot))
            case RemoveOp():
                encoded_op = remove_bytes(op.rank)
            case MoveOp():
                encoded_op = move_bytes(op.source, op.target)
        room -= len(encoded_op)
        if room < 0:
            break
        body.append(encoded_op)
    if not body:
        return None
    sent = ops[: len(body)]
    after = tuple(apply(tip, sent, k))
    put = [op.slot for op in sent if isinstance(op, PutOp)]
    gone = {slots.number(slot): slot for slot in tip}
    for slot in after:
        gone.pop(slots.number(slot), None)
    return Plan(
        snapshot=False,
        body=tuple(body),
        tip=after,
        priority=max(map(slots.priority, (*put, *gone.values())), default=0),
        put_numbers=tuple(map(slots.number, put)),
        removes=sum(isinstance(op, RemoveOp) for op in sent),
        moves=sum(isinstance(op, MoveOp) for op in sent),
    )
