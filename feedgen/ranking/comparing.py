"""What the correction of exposure costs: windows as they stand, and as they would be without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from feedgen.ranking.balance import both_ways
from feedgen.windows import EMPTY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feedgen.items import Record
    from feedgen.ranking.serving import Serving
    from feedgen.windows import Held, Rows


def worth_both_ways(
    serving: Serving,
    held: Held,
    records: Mapping[int, Record],
    shelf: int,
    rows: Rows,
    now: float,
) -> tuple[float, float] | None:
    """Return the openings that windows promise as they stand, and without any correction.

    Args:
        serving: whose predictions and corrections they are.
        held: the windows of `rows`.
        records: the items in them; those that are missing count as empty places.
        shelf: of the rows.
        rows: a sample; a handful each minute is enough.
        now: Unix seconds.

    Returns:
        What `Balance.compared` takes; None where no model serves, or there is nothing to compare.
    """
    served = serving.served
    if served is None or not records:
        return None
    numbers = np.array(sorted(records))
    known = [records[n] for n in numbers.tolist()]
    at = np.minimum(np.searchsorted(numbers, held.numbers), len(numbers) - 1)
    there = numbers[at] == held.numbers
    there &= ~serving.people.holdout(shelf, rows)[:, None]
    row, place = np.nonzero(there)
    if not row.size:
        return None
    worth = np.zeros(held.keys.shape, np.float32)
    impressions = serving.pairs(at[row, place], known, shelf, rows[row], now)
    worth[row, place] = served.each(impressions).opened
    corrections = np.array([serving.correction(record) for record in known])
    ticks = np.where(there, corrections[at], 0)
    keys = np.where(there, held.keys, EMPTY).astype(np.int32)
    attention = (np.arange(keys.shape[1]) < held.visible[:, None]).astype(np.float32)
    return both_ways(keys, ticks, worth, attention)
