"""Variety within a window: what repeats a channel, publisher or tag counts for less.

An item whose group stands `k` times above it has its value multiplied by
`(1 - floor) * decay^k + floor`, the repeat-author factor of X's published ranking (xai-org/x-algorithm,
home-mixer/scorers/ranking_scorer.rs), here for several kinds of groups at once. Keys are
tau * ln(value), so each factor is a number of ticks taken off the key, looked up by `k`.

The k of an item is that in the plain order, as in X's: counting in the order that results would
place one item after the other, a loop over places instead of sorts, and an item that repeats two
groups could then be punished for those that it itself had pushed up. The plain keys stay what the
windows are kept by, bars included: variety decides what a device sees of its window, never which
items are in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from feedgen.windows import EMPTY, Ids, Keys, Mask

Places: TypeAlias = NDArray[np.int64]

_PLACE_BITS = 7
"""A window has at most 128 places."""
_PLACE = (1 << _PLACE_BITS) - 1
_BLOCK_CELLS = 1 << 15
"""Cells laid out at a time, so that the arrays in between stay in the processor's cache."""
_MOST = 1 << 32
"""Ticks that put any key below any other; more is never taken off."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """How much one kind of repetition tires.

    Attributes:
        decay: 0 to 1; each further item of a group counts for this much of the one before. 1:
            repetition does not matter.
        floor: 0 to 1; no item counts for less than this.
    """

    decay: float
    floor: float


DEFAULTS = (Repeat(0.9, 0.5), Repeat(0.7, 0.3), Repeat(0.9, 0.5), Repeat(0.9, 0.5))
"""Channel, publisher, first tag, second tag. A device chose its channels, but not who speaks there:
with tau at 6 hours the second item of one publisher stands as if it were 85 minutes older, the
sixth five hours, and none more than 7.2."""


def diversify(
    keys: Keys,
    groups: Sequence[Ids],
    repeats: Sequence[Repeat],
    tau: float,
    exempt: Mask | None = None,
) -> Places:
    """Order windows by value and variety.

    Args:
        keys: int32 [rows, width], falling within each row, `EMPTY` after the last item; at most
            128 wide.
        groups: one int32 [rows, width] for each kind: the group of each item, 0 for none.
        repeats: one for each kind.
        tau: ticks by which a key is higher when the value is e times as high.
        exempt: bool [rows, width], items from which nothing is taken off, such as urgent ones:
            they never move down. They count as repeated for those below them.

    Returns:
        int64 [rows, width], the places in `keys` in the order in which they are to stand. Equals
        keep the plain order; empty places stay last.

    Raises:
        ValueError: the windows are too wide, or there are more or fewer kinds in `groups` than in
            `repeats`.
    """
    rows, width = keys.shape
    if width > _PLACE + 1:
        raise ValueError(f"windows are {width} places wide; at most {_PLACE + 1} can be ordered")
    kinds = [
        (group, ticks)
        for group, repeat in zip(groups, repeats, strict=True)
        if (ticks := penalties(repeat, tau, width)).any()
    ]
    order = np.empty((rows, width), np.int64)
    order[:] = np.arange(width)
    step = max(_BLOCK_CELLS // max(width, 1), 1)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        some = np.flatnonzero(_repetitive([group[part] for group, _ in kinds], len(order[part])))
        if some.size:
            at = some + start
            order[at] = _reordered(
                keys[at],
                [(group[at], ticks) for group, ticks in kinds],
                None if exempt is None else exempt[at],
            )
    return order


@lru_cache(maxsize=64)
def penalties(repeat: Repeat, tau: float, width: int) -> NDArray[np.int64]:
    """Return int64 [width], the ticks taken off an item whose group stands k times above it."""
    factor = (1 - repeat.floor) * repeat.decay ** np.arange(width) + repeat.floor
    with np.errstate(divide="ignore"):  # a factor of 0 takes off as much as any may
        ticks = np.minimum(np.rint(-tau * np.log(factor)), _MOST)
    table: NDArray[np.int64] = ticks.astype(np.int64)
    table.flags.writeable = False  # everybody gets the same one from the cache
    return table


def _repetitive(groups: Sequence[Ids], rows: int) -> Mask:
    """Tell which rows hold two items of one group; one short sort, as most of the time is here."""
    found = np.zeros(rows, np.bool_)
    for group in groups:
        falling = np.sort(group, axis=1)
        equal = falling[:, 1:] == falling[:, :-1]
        equal &= falling[:, 1:] != 0
        found |= equal.any(axis=1)
    return found


def _reordered(
    keys: Keys, kinds: Sequence[tuple[Ids, NDArray[np.int64]]], exempt: Mask | None
) -> Places:
    off = np.zeros(keys.shape, np.int64)
    for group, ticks in kinds:
        off += ticks[_occurrences(group)]
    if exempt is not None:
        off[exempt] = 0
    rising = off - keys
    rising[keys == EMPTY] = 2 * len(kinds) * _MOST
    # The place in the lowest bits: one sort of numbers, in which equals keep their order.
    rising <<= _PLACE_BITS
    rising += np.arange(keys.shape[1])
    rising.sort(axis=1)
    rising &= _PLACE
    return rising


def _occurrences(group: Ids) -> NDArray[np.int32]:
    """Return how many places before each one have the same group; 0 for those of none.

    Sorting brings equals together in the order of their places, counting from the start of each
    run numbers them, and a second sort, by place, brings them back. (Comparing each place with all
    before it is as fast for 16 places and many rows, but slower by far elsewhere.)
    """
    rows, width = group.shape
    together = group.astype(np.int64)
    together <<= _PLACE_BITS
    together += np.arange(width)
    together.sort(axis=1)
    sorted_group = (together >> _PLACE_BITS).ravel()
    first = sorted_group == 0
    first[1:] |= sorted_group[1:] != sorted_group[:-1]
    first[::width] = True
    nth = np.arange(rows * width, dtype=np.int32)
    nth -= np.maximum.accumulate(nth * first)
    together &= _PLACE
    back = together.astype(np.int32)
    back <<= _PLACE_BITS
    back += nth.reshape(rows, width)
    back.sort(axis=1)
    back &= _PLACE
    return back
