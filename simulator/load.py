"""What a server says of its own load, and what that means: what it gave up for how long, and when it was itself again.

A server under too much gives up something rather than break: the levels below (docs/operations.md, *When too much comes*). It tells its
level and what waits under `$SYS`; nothing here knows how it decides. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Level:
    """A level of overload, in words.

    Attributes:
        name: One or two words.
        gives_up: What the server does no more, or does later, beside what the levels before it give up.
    """

    name: str
    gives_up: str


LEVELS = (
    Level("normal", "nothing"),
    Level("coalescing", "the immediacy of single changes: those that come close together are one frame"),
    Level("plain", "variety within windows, and trying out new items"),
    Level("topic only", "personal ranks: items rank the same for every device"),
    Level("holding", "immediacy of items of low and normal priority: they wait, stored and acknowledged"),
    Level("choking", "reading from the publishers that send most"),
)  # fmt: skip
"""By number."""

STEADY = 3.0
"""Seconds without anything given up after which a server counts as recovered: a level may rise again at once."""


@dataclass(frozen=True, slots=True)
class Load:
    """What servers said of themselves at a moment; of several, the highest level and delays, and sums.

    Attributes:
        level: Of overload, the highest since it was last asked for; an index of `LEVELS`.
        lag: How late the event loop was, seconds.
        oldest: How long the oldest item has been on its way to windows, seconds.
        items: Items that are held for better times.
        clients: Connections that wait to be let in.
        publishers: Publishers that are not read.
    """

    level: int
    lag: float = 0.0
    oldest: float = 0.0
    items: int = 0
    clients: int = 0
    publishers: int = 0

    @property
    def held(self) -> dict[str, int]:
        """What waits, by the words of this class."""
        return {"items": self.items, "clients": self.clients, "publishers": self.publishers}

    @property
    def easy(self) -> bool:
        """Whether nothing is given up."""
        return not self.level and not any(self.held.values())

    def __or__(self, other: Load) -> Load:
        """Both as one."""
        return Load(
            max(self.level, other.level),
            max(self.lag, other.lag),
            max(self.oldest, other.oldest),
            self.items + other.items,
            self.clients + other.clients,
            self.publishers + other.publishers,
        )


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time that a server spent at one level.

    Attributes:
        level: An index of `LEVELS`.
        start, end: Seconds from the start of the run.
    """

    level: int
    start: float
    end: float


def stretches(at: Sequence[float], levels: Sequence[float]) -> list[Stretch]:
    """The levels of a run one after the other, without the times at which nobody knew.

    Args:
        at: Times of the samples.
        levels: The level at each; NaN where it is not known. It counts until the next sample; that of the last one
            does not.
    """
    found: list[Stretch] = []
    for (start, end), value in zip(pairwise(at), levels, strict=False):
        if not isfinite(value):
            continue
        level = int(value)
        if found and found[-1].level == level and found[-1].end == start:
            found[-1] = Stretch(level, found[-1].start, end)
        else:
            found.append(Stretch(level, start, end))
    return found


def recovered_after(
    at: Sequence[float], given_up: Sequence[float], since: float, steady: float = STEADY
) -> float | None:
    """Seconds from `since` until nothing was given up for `steady` seconds; None if that never came.

    Args:
        at: Times of the samples.
        given_up: What was given up at each: 0 is nothing, NaN unknown, which proves nothing.
        since: When the trouble was over.
        steady: Seconds that it must stay so; it counts from the first sample of them.
    """
    calm: float | None = None
    for time, value in zip(at, given_up, strict=True):
        if time < since:
            continue
        if value != 0:  # NaN differs from it, too
            calm = None
            continue
        calm = time if calm is None else calm
        if time - calm >= steady:
            return calm - since
    return None


def back_after(
    at: Sequence[float], there: Sequence[float], since: float, wanted: float
) -> float | None:
    """Seconds from `since` until so many were there; None if they never were."""
    return next(
        (
            time - since
            for time, many in zip(at, there, strict=True)
            if time >= since and many >= wanted
        ),
        None,
    )
