"""The few ops that change one window into another.

Windows are sequences of slots, best first: ints that name an item and its content (see `slots`).
`difference` finds the ops, `apply` does what a device does with them. Both know only slots: the ledger
turns ops into bytes.

How few: an item held with the same content is never put again. Items that stay keep their places as
far as a longest increasing subsequence of their old ranks allows, so that no smaller number of moves
would do (patience sorting; Fredman, Discrete Mathematics 11, 1975). One item entering is one put, one
leaving is one remove, one changing place is one move, one changing content is one put.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from devices.slots import number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class PutOp(NamedTuple):
    """Drop the slot of the same number if it is held, insert `slot` at `rank`, cut to k."""

    kind: Literal["put"]
    rank: int
    slot: int


class RemoveOp(NamedTuple):
    """Drop the slot at `rank`."""

    kind: Literal["remove"]
    rank: int


class MoveOp(NamedTuple):
    """Take out the slot at `source`, insert it at `target`, counted after taking out."""

    kind: Literal["move"]
    source: int
    target: int


SlotOp: TypeAlias = PutOp | RemoveOp | MoveOp


def apply(old: Sequence[int], ops: Iterable[SlotOp], k: int) -> list[int]:
    """What a device with window length `k` holds after `ops`, in order.

    Raises:
        IndexError: an op removes or moves at a rank that the window does not have by then.
    """
    window = list(old)
    for op in ops:
        _do(window, op, k)
    return window


def difference(old: Sequence[int], new: Sequence[int], k: int) -> list[SlotOp]:
    """Ops that change window `old` into window `new` on a device with window length `k`.

    Neither window may hold a number twice or more than `k` slots. Moves come first, then puts and the
    removes that they need, from the best rank to the worst, then removes of what is left at the end. So
    the best items lead when the ops do not fit one frame, and any number of the first ops is itself
    a valid change.
    """
    window, target = list(old), list(new)
    if window == target:
        return []
    entry = _single_entry(window, target, k)
    if entry is not None:
        return [entry]
    ops: list[SlotOp] = []
    _order_what_stays(window, target, k, ops)
    _fill(window, target, k, ops)
    return ops


def _do(window: list[int], op: SlotOp, k: int) -> SlotOp:
    """Apply one op to `window` in place; returns it."""
    if op.kind == "put":
        held = number(op.slot)
        for rank, slot in enumerate(window):
            if number(slot) == held:
                del window[rank]
                break
        window.insert(op.rank, op.slot)
        del window[k:]
    elif op.kind == "remove":
        del window[op.rank]
    else:
        slot = window.pop(op.source)
        if op.target > len(window):
            raise IndexError(f"a move to rank {op.target} of a window of {len(window) + 1}")
        window.insert(op.target, slot)
    return op


def _single_entry(old: list[int], new: list[int], k: int) -> PutOp | None:
    """The put of one item that enters and pushes at most the last one out: nearly every change."""
    if len(new) != min(len(old) + 1, k):
        return None
    rank = 0
    for mine, theirs in zip(old, new, strict=False):
        if mine != theirs:
            break
        rank += 1
    if rank == len(new) or new[rank + 1 :] != old[rank : len(new) - 1]:
        return None
    # The last one going to a better rank looks the same and is a move. Only the last can be it, or can
    # have the number of the one entering, which is fine: every other slot of `old` is in `new` too.
    return None if new[rank] in old else PutOp("put", rank, new[rank])


def _order_what_stays(window: list[int], new: list[int], k: int, ops: list[SlotOp]) -> None:
    """Move the slots that `window` shares with `new` into the order of `new`.

    Each goes to just after the one before it, so that what has to leave gathers behind, where puts
    push it out for nothing.
    """
    rank = {slot: place for place, slot in enumerate(window)}
    shared = [slot for slot in new if slot in rank]
    staying = _longest_increasing([rank[slot] for slot in shared])
    if len(staying) == len(shared):
        return
    before = -1
    for index, slot in enumerate(shared):
        source = window.index(slot)
        if index in staying:
            before = source
            continue
        if source > before:
            before += 1
        ops.append(_do(window, MoveOp("move", source, before), k))


def _longest_increasing(values: Sequence[int]) -> set[int]:
    """The indices of a longest increasing subsequence of distinct `values`."""
    lows: list[int] = []  # by length - 1: the lowest value that ends a run of that length
    ends: list[int] = []  # its index
    before: list[int] = []  # by index: the index before it in its run, -1 at the start
    for index, value in enumerate(values):
        at = bisect_left(lows, value)
        lows[at : at + 1] = [value]
        ends[at : at + 1] = [index]
        before.append(ends[at - 1] if at else -1)
    run: set[int] = set()
    index = ends[-1] if ends else -1
    while index >= 0:
        run.add(index)
        index = before[index]
    return run


def _fill(window: list[int], new: list[int], k: int, ops: list[SlotOp]) -> None:
    """Put what is new and drop what is gone; the shared slots are in order already."""
    rank_of = {slot: rank for rank, slot in enumerate(new)}
    rank_of_number = {number(slot): rank for rank, slot in enumerate(new)}
    held = set(window)
    for rank, slot in enumerate(new):
        # Invariant: window[:rank] == new[:rank], and the slots of `new` in `window` are in order.
        if slot not in held:
            if len(window) == k and window[-1] in rank_of:
                _make_room(window, number(slot), rank_of_number, k, ops)
            ops.append(_do(window, PutOp("put", rank, slot), k))
            continue
        while window[rank] != slot:
            in_the_way = rank_of_number.get(number(window[rank]))
            if in_the_way is None:
                ops.append(_do(window, RemoveOp("remove", rank), k))
                continue
            # Old content of an item that stays: its new content goes in now, at the place it will have
            # among those held, because removing the old one first would cost an op more.
            later = new[in_the_way]
            behind = (i for i, s in enumerate(window) if rank_of.get(s, -1) > in_the_way)
            ops.append(_do(window, PutOp("put", next(behind, len(window)) - 1, later), k))
            held.add(later)
    while len(window) > len(new):
        ops.append(_do(window, RemoveOp("remove", len(window) - 1), k))


def _make_room(
    window: list[int], entering: int, staying: dict[int, int], k: int, ops: list[SlotOp]
) -> None:
    """Before a put into a full window whose last slot stays: drop the worst that does not.

    There is one unless the put replaces old content, as `new` would be longer than `k` otherwise.
    """
    numbers = [number(slot) for slot in window]
    if entering not in numbers:
        gone = max(rank for rank, held in enumerate(numbers) if held not in staying)
        ops.append(_do(window, RemoveOp("remove", gone), k))
