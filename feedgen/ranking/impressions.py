"""What is known of impressions, in columns: a place each, a few dozen bytes.

What one event says joins what is known already: times by the earliest, rank by the best, dwell by
the longest. Each of these is commutative, associative and idempotent (a join semilattice, as in the
state-based types of Shapiro et al., SSS 2011), so that order and repetition of events cannot matter;
what an impression is labelled is a function of nothing else.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from feedgen.ranking.chains import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Mapping

Places: TypeAlias = NDArray[np.int64]

NEVER = float("inf")
NO_RANK = 255
NO_REF = -1

TOLD, OPENED, DISMISSED, QUEUED, EARLY = 1, 2, 4, 8, 16
"""Flags: an outcome was given out; it said opened; it said dismissed; more was heard since.
`EARLY`: none was given out, but the next is, before the window ends."""

_COLUMNS = {
    "device": "u8",
    "n": "i8",
    "ref": "i8",
    "rank": "u1",
    "begun": "f8",
    "opened": "f8",
    "dismissed": "f8",
    "dwell": "f4",
    "flags": "u1",
    "told_dwell": "f4",
    "weight": "f4",
    "told_at": "f8",
    "scale": "f4",
}


class Impressions:
    """Columns over places; a place that was left is used again.

    Attributes:
        device: `tokens.device_token` of the device.
        n: number of the item.
        ref: where the caller keeps what was true then, or `NO_REF`.
        rank: the best at which it was shown, or `NO_RANK`.
        begun: Unix seconds of the earliest that is known of it.
        opened: Unix seconds of the first opening, or `NEVER`.
        dismissed: the same of the first dismissal.
        dwell: seconds, the longest; -1 if unknown.
        flags: see above.
        told_dwell: the dwell that the last outcome named.
        weight: that of the first outcome.
        told_at: Unix seconds of the first outcome; before that, the time for which it is in line.
        scale: impressions that it stands for, where only a sample of all is heard of.
        next: the place that follows in the chain that this one is in, or `NOWHERE`. A place is in
            exactly one: those that wait, those that were told, or those that are free.
    """

    # array.array, because numpy takes three times as long for one element; it lends its memory
    # to numpy when many are read at once.
    __slots__ = ("_free", "_places", "next", *_COLUMNS)

    def __init__(self) -> None:
        self.device: array[int] = array("Q")
        self.n: array[int] = array("q")
        self.ref: array[int] = array("q")
        self.rank: array[int] = array("B")
        self.begun: array[float] = array("d")
        self.opened: array[float] = array("d")
        self.dismissed: array[float] = array("d")
        self.dwell: array[float] = array("f")
        self.flags: array[int] = array("B")
        self.told_dwell: array[float] = array("f")
        self.weight: array[float] = array("f")
        self.told_at: array[float] = array("d")
        self.scale: array[float] = array("f")
        self.next: array[int] = array("i")
        self._places: dict[int, int] = {}
        self._free = NOWHERE

    def __len__(self) -> int:
        return len(self._places)

    def find(self, device: int, n: int) -> int:
        """Return the place of an impression, or `NOWHERE`."""
        return self._places.get(_key(device, n), NOWHERE)

    def add(self, device: int, n: int, at: float, scale: float = 1.0) -> int:
        """Make a place for an impression that has none; nothing but its beginning is known."""
        place = self._free
        if place == NOWHERE:
            place = self._grow()
        else:
            self._free = self.next[place]
        self._places[_key(device, n)] = place
        self.device[place] = device
        self.n[place] = n
        self.ref[place] = NO_REF
        self.rank[place] = NO_RANK
        self.begun[place] = at
        self.opened[place] = self.dismissed[place] = NEVER
        self.dwell[place] = self.told_dwell[place] = -1.0
        self.flags[place] = 0
        self.weight[place] = self.told_at[place] = 0.0
        self.scale[place] = scale
        return place

    def remove(self, place: int) -> None:
        """Forget an impression, which is in no chain any more."""
        del self._places[_key(self.device[place], self.n[place])]
        self.next[place] = self._free
        self._free = place

    def column(self, name: str, places: Places) -> NDArray[Any]:
        """Return a column's values at some places, as a copy."""
        column: array[Any] = getattr(self, name)
        # The view must not outlive this call: an array that lends its memory cannot grow.
        return np.frombuffer(column, _COLUMNS[name])[places]

    def update(self, name: str, places: Places, values: NDArray[Any]) -> None:
        """Set a column's values at some places."""
        np.frombuffer(getattr(self, name), _COLUMNS[name])[places] = values

    def pack(self, places: Places) -> dict[str, bytes]:
        """Return all that is known of the impressions at `places`: columns, little endian."""
        return {
            name: self.column(name, places).astype(f"<{kind}").tobytes()
            for name, kind in _COLUMNS.items()
        }

    def restore(self, columns: Mapping[str, bytes]) -> None:
        """Take what `pack` returned into an empty table, at the places 0, 1, … and in no chain.

        Raises:
            ValueError: a column is missing or has another length, or an impression comes twice.
        """
        if columns.keys() != _COLUMNS.keys():
            raise ValueError(f"columns {sorted(columns)} where {sorted(_COLUMNS)} belong")
        for name, kind in _COLUMNS.items():
            values = np.frombuffer(columns[name], f"<{kind}").astype(kind)
            getattr(self, name).frombytes(values.tobytes())
        self._places = {key: place for place, key in enumerate(map(_key, self.device, self.n))}
        lengths = {name: len(getattr(self, name)) for name in _COLUMNS}
        if set(lengths.values()) != {len(self)}:
            raise ValueError(f"{len(self)} impressions, but columns of lengths {lengths}")
        self.next.extend([NOWHERE] * len(self))

    def _grow(self) -> int:
        """Make some more places; return one, the others are free."""
        first = len(self.next)
        more = first // 8 + 16
        for name in _COLUMNS:
            column = getattr(self, name)
            column.frombytes(bytes(more * column.itemsize))
        self.next.extend([NOWHERE, *range(first + 2, first + more), NOWHERE])
        self._free = first + 1
        return first


def _key(device: int, n: int) -> int:
    # One integer takes half the memory of a tuple of two.
    return n << 64 | device
