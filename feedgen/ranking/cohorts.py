"""Kinds of devices whose predictions are watched apart.

A model may be right on average and wrong for those of whom it knows little. Every device is in one
cohort: *new* while few of its events were learned, *sleepy* when it has not been heard of for long,
else its class. The first that applies wins, so that cohorts add up to the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEW, SLEEPY, OTHER = 0, 1, 2
"""Numbers that every registry has; classes follow."""

_DAY = 86400.0


class Cohorts:
    """Names of cohorts as small numbers.

    Attributes:
        names: by number.
        limit: how many cohorts there may be; classes beyond it share `OTHER`. Whoever names the
            classes, a hundred of them would leave none with enough events to be judged.
    """

    __slots__ = ("_numbers", "limit", "names")

    def __init__(self, classes: Sequence[str] = (), *, limit: int = 16) -> None:
        if not OTHER < limit <= np.iinfo(np.int8).max:
            raise ValueError(f"limit {limit}: must be between 3 and 127, a cohort is an int8")
        self.limit = limit
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        for name in ("new", "sleepy", "other"):
            self._add(name)
        for name in classes:
            self.number(name)

    def number(self, device_class: str) -> int:
        """Return the number of a device class, a new one if there is room, else `OTHER`."""
        name = f"class {device_class}"
        known = self._numbers.get(name)
        if known is not None:
            return known
        return self._add(name) if len(self.names) < self.limit else OTHER

    def _add(self, name: str) -> int:
        self._numbers[name] = len(self.names)
        self.names.append(name)
        return self._numbers[name]

    def restore(self, names: Sequence[str]) -> None:
        """Take over the names of an earlier run, by number.

        Raises:
            ValueError: There are more of them than there may be.
        """
        if len(names) > self.limit:
            raise ValueError(f"{len(names)} cohorts, at most {self.limit}")
        self.names = list(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}


def assign(
    seen: ArrayLike,
    idle: ArrayLike,
    device_class: ArrayLike,
    *,
    new_below: int = 20,
    sleepy_after: float = 7 * _DAY,
) -> NDArray[np.int8]:
    """Return the cohort of each event's device, [n].

    Args:
        seen: events of the device that were learned before this one.
        idle: seconds between its last event and this one; infinite if there is none.
        device_class: what `Cohorts.number` says of its class.
        new_below: events that make a device known. A smoothed rate leans on its prior below that.
        sleepy_after: seconds after which what is known of a device may be out of date.
    """
    seen, idle = np.asarray(seen), np.asarray(idle)
    which = np.where(idle >= sleepy_after, SLEEPY, np.asarray(device_class))
    return np.where(seen < new_below, NEW, which).astype(np.int8)
