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


class Scores(NamedTuple):
    """One item for many rows.

    Attributes:
        mean: float32 [rows], personal ticks; within ±`Scoring.bound`.
        sd: float32 [rows], their standard deviation in ticks; 0 where nothing is explored. None:
            nothing is explored in any row.
        uniform: float32 [rows] in (0, 1), the draw of each (device, item): the same whenever it is
            asked for, so that a window built anew is the same window. None with `sd` None.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32] | None = None
    uniform: NDArray[np.float32] | None = None


class Scoring(Protocol):
    """A ranking as the engine sees it.

    Attributes:
        bound: ticks; no personal part is beyond ± this.
        version: of the model, as the decision log names it.
    """

    bound: int
    version: int

    def seat(self, shelf: int, row: int, device: str, attrs: Mapping[str, Value]) -> None:
        """Note who is in a row; also when the attributes change."""

    def unseat(self, shelf: int, row: int) -> None:
        """Note that a row is empty."""

    def term(self, record: Record) -> int:
        """Return the ticks that an item gets in every row, as of now."""

    def scores(self, record: Record, term: int, shelf: int, rows: Rows, now: float) -> Scores | None:
        """Return the personal parts for some rows.

        Args:
            record: the item.
            term: what `term` said when the item was last keyed; it is in the item's base.
            shelf: index of the shelf.
            rows: any, not empty.
            now: Unix seconds.

        Returns:
            None if the term is all there is, in every row.
        """

    def groups(self, record: Record) -> Sequence[int]:
        """Return up to four positive int32 numbers of groups whose repetition tires (channel,
        publisher, tags); what has the same number in the same place repeats."""
