"""A sample of impressions, where more come in than one trainer can learn from.

An impression (a device and an item) is in the sample or not by a hash of both, so all that is heard of
it stays together. One kept with probability p stands for 1/p in all sums that are learned: a
Horvitz-Thompson estimate (JASA 1952), right on average and noisier the smaller p is. The posterior of
a weight then is as narrow as if all had been seen, so less is tried out than the sample alone would
ask for. p is a power of 1/2, so that counts stay whole numbers, and smaller samples are parts of larger
ones.

When p changes, an impression may have begun under the old one. What is known already goes on being heard
of. What is not, and does not begin with having been shown, may have been left out before: it must be in
the smallest sample of late, and stands for as many as that.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from feedgen.ranking.tokens import cross

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from feedgen.ranking.tokens import Tokens

MOST_HALVINGS = 10
"""Below a thousandth of all impressions, nothing is learned from single devices any more."""


class Sample:
    """Which impressions are learned from.

    Args:
        window: seconds in which something may be heard of an impression after it began.

    Attributes:
        halvings: p is 2^-halvings.
    """

    __slots__ = ("_past", "_window", "halvings")

    def __init__(self, window: float) -> None:
        self._window = window
        self._past: deque[tuple[float, int]] = deque()  # until when, and how many halvings
        self.halvings = 0

    @property
    def share(self) -> float:
        """p, the share of impressions that is kept."""
        return 0.5**self.halvings

    def change(self, halvings: int, now: float) -> None:
        """Keep more or less from now on.

        Raises:
            ValueError: it is below 0 or above `MOST_HALVINGS`.
        """
        if not 0 <= halvings <= MOST_HALVINGS:
            raise ValueError(f"{halvings} halvings where 0 to {MOST_HALVINGS} are possible")
        if halvings != self.halvings:
            self._past.append((now, self.halvings))
            self.halvings = halvings

    def scales(
        self,
        device: Tokens,
        n: NDArray[np.int64],
        begins: NDArray[np.bool_],
        knows: Callable[[int, int], bool],
        now: float,
    ) -> NDArray[np.float32]:
        """Return how many impressions the one of each event stands for; 0 where it is left out.

        Args:
            device: uint64 [events].
            n: int64 [events].
            begins: bool [events], whether this is how an impression begins: with being shown.
            knows: whether an impression, by device and item, was heard of before; asked only for
                those that another p may have let in.
            now: Unix seconds.
        """
        while self._past and self._past[0][0] < now - self._window:
            self._past.popleft()
        past = [halvings for _, halvings in self._past]
        least, most = min([*past, self.halvings]), max([*past, self.halvings])
        if not most:
            return np.ones(len(n), np.float32)
        drawn = cross(device, n.astype(np.uint64))
        of_now, of_smallest = (_within(drawn, each) for each in (self.halvings, most))
        scale = np.where(
            begins, of_now * np.float32(1 << self.halvings), of_smallest * np.float32(1 << most)
        )
        if least != most:
            unsure = np.flatnonzero(_within(drawn, least) & (scale == 0))
            for place in unsure.tolist():
                scale[place] = knows(int(device[place]), int(n[place]))
        return np.asarray(scale, np.float32)


def _within(drawn: Tokens, halvings: int) -> NDArray[np.bool_]:
    """Return which numbers begin with so many zeros."""
    if not halvings:
        return np.ones(len(drawn), np.bool_)
    return np.asarray(drawn >> np.uint64(64 - halvings) == 0)


class Pace:
    """How large the sample may be, from the time that learning takes and from what waits.

    Halved when the trainer was behind for two readings, doubled only after it would have kept pace with
    twice as much for a longer while: so it does not swing. A burst is met by waiting first.

    Args:
        budget: share of one core that learning may take.
        backlog: waiting batches from which the trainer is behind.
    """

    __slots__ = ("_backlog", "_budget", "_calm", "_crowded", "load")

    BEHIND = 2
    """Readings behind before the sample is halved."""
    AHEAD = 6
    """Readings well ahead before it is doubled."""
    ROOM = 0.4
    """Share of the budget below which twice as much would still fit."""
    OVER = 1.25
    """Times the budget from which it is exceeded: whoever works off what waits takes all of it."""

    def __init__(self, budget: float, backlog: int) -> None:
        self._budget = budget
        self._backlog = backlog
        self._crowded = self._calm = 0
        self.load = 0.0

    def read(self, busy: float, elapsed: float, waiting: int, halvings: int) -> int:
        """Take a reading; return how many halvings there should be.

        Args:
            busy: seconds of processor time that learning took.
            elapsed: seconds since the reading before, above 0.
            waiting: batches that nobody has read.
            halvings: as of now.
        """
        self.load = busy / elapsed
        behind = waiting > self._backlog or self.load > self.OVER * self._budget
        ahead = waiting <= self._backlog // 4 and self.load < self.ROOM * self._budget
        self._crowded = self._crowded + 1 if behind else 0
        self._calm = self._calm + 1 if ahead else 0
        if self._crowded >= self.BEHIND and halvings < MOST_HALVINGS:
            self._crowded = 0
            return halvings + 1
        if self._calm >= self.AHEAD and halvings:
            self._calm = 0
            return halvings - 1
        return halvings
