"""What the engine asks of a ranking.

The key of an item in a row is `base + bonus + personal`: `base` holds publication time, priority and
the item's *term*, the part of its value that is the same for everybody; `bonus` is that of the best
matching filter; `personal` is what the ranking knows of this device and this item beyond the term.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from feedgen.attributes import Value
    from feedgen.items import Record
    from feedgen.windows import Rows

GROUPS = 4
"""Places for the numbers of groups whose repetition tires, per item."""


class Scores(NamedTuple):
    """One item for many rows, or, with a second axis, several items.

    Attributes:
        mean: float32 [rows] or [rows, items], personal ticks; within ±`Scoring.bound`.
        sd: float32 of the same shape, their standard deviation in ticks; 0 where nothing is
            explored. None: nothing is explored anywhere.
        uniform: float32 of the same shape, in (0, 1): the draw of each (device, item), the same
            whenever it is asked for, so that a window built anew is the same window. None with
            `sd` None.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32] | None = None
    uniform: NDArray[np.float32] | None = None


class Scoring(Protocol):
    """A ranking as the engine sees it.

    Attributes:
        bound: ticks; no personal part is beyond ± this, a sampled one neither.
        version: of the model, as the decision log names it.
    """

    bound: int
    version: int

    @property
    def rung(self) -> int:
        """The rung of the ladder that serves, as the decision log names it."""

    def seat(self, shelf: int, row: int, device: str, attrs: Mapping[str, Value]) -> None:
        """Note who is in a row."""

    def change(self, shelf: int, row: int, attrs: Mapping[str, Value]) -> None:
        """Note that the attributes of the device in a row changed."""

    def unseat(self, shelf: int, row: int) -> None:
        """Note that a row is empty."""

    def prepare(self, records: Sequence[Record]) -> None:
        """Compute the terms of items together, before `term` is asked for each."""

    def term(self, record: Record) -> int:
        """Return the ticks that an item gets in every row, as of now."""

    def scores(
        self, record: Record, term: int, shelf: int, rows: Rows, now: float
    ) -> Scores | None:
        """Return the personal parts of one item for some rows.

        Args:
            record: the item.
            term: what `term` said when the item was last keyed; it is in the item's base.
            shelf: index of the shelf.
            rows: any, not empty.
            now: Unix seconds.

        Returns:
            None if the term is all there is, in every row.
        """

    def table(
        self,
        records: Sequence[Record],
        terms: Sequence[int],
        shelf: int,
        rows: Rows,
        now: float,
    ) -> Scores | None:
        """Return the personal parts of several items for some rows, as [rows, items].

        The same numbers as those of `scores`, item by item. A window that is built anew needs
        hundreds of items for few rows, often for one, where the fixed cost of a call per item
        would be all there is.
        """

    def trial(self, record: Record, shelf: int, rows: Rows, now: float) -> NDArray[np.float32]:
        """Return what an item would get in some rows, term and personal part together, as of now.

        Nothing is explored, and no trace of the item is left: it may never be published.

        Args:
            record: an item that was not accepted.
            shelf: index of the shelf.
            rows: any, not empty.
            now: Unix seconds.

        Returns:
            float32 [rows], ticks.
        """

    def tokens(self, shelf: int, rows: Rows) -> NDArray[np.uint64]:
        """Return who is in some rows, as `tokens.device_token` of each."""

    def plain(self, shelf: int, rows: Rows) -> NDArray[np.bool_] | None:
        """Return which rows show their windows by key alone, whatever repeats; None if none do.

        Candidates for them are retrieved by keys without terms: their personal parts take these
        back.
        """

    def groups(self, record: Record) -> Sequence[int]:
        """Return the groups of an item whose repetition tires: channel, publisher, two tags.

        Up to `GROUPS` positive int32 numbers; what has the same number in the same place repeats,
        and 0 is no group.
        """
