"""Many seeds: what a comparison of policies is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

SEEDS = range(10)

_STUDENT = {5: 2.776, 10: 2.262, 20: 2.093, 30: 2.045}
"""The 97.5 % quantile of Student's t for the mean of n values."""


class Interval(NamedTuple):
    """A mean and where it is with a probability of 95 %."""

    mean: float
    low: float
    high: float


def interval(values: ArrayLike) -> Interval:
    """Return the interval of a mean; of paired differences, one per seed, it is a paired test.

    Raises:
        KeyError: there are not 5, 10, 20 or 30 values.
    """
    column = np.asarray(values, np.float64)
    mean = float(column.mean())
    half = _STUDENT[len(column)] * float(column.std(ddof=1)) / len(column) ** 0.5
    return Interval(mean, mean - half, mean + half)
