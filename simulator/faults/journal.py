"""What a device notes of itself, as evidence: what it did, and the frames that it got, each with a bound of its own.

One bound for both would leave nothing but frames: a busy device gets dozens in a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from heapq import merge
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEDS = 40
"""How many of its own deeds a device remembers."""

FRAMES = 16
"""How many of the frames that it got."""


class Journal(Collection[str]):
    """The last lines of both kinds, in the order in which they were noted."""

    def __init__(self) -> None:
        self._noted = 0
        self._deeds: deque[tuple[int, str]] = deque(maxlen=DEEDS)
        self._frames: deque[tuple[int, str]] = deque(maxlen=FRAMES)

    def deed(self, now: float, words: str) -> None:
        """Something that the device did or that was done to it; Unix seconds."""
        self._deeds.append(self._line(now, words))

    def frame(self, now: float, words: str) -> None:
        """A frame that it got; Unix seconds."""
        self._frames.append(self._line(now, words))

    def _line(self, now: float, words: str) -> tuple[int, str]:
        self._noted += 1
        return self._noted, f"{now % 1000:7.3f} {words}"

    def __iter__(self) -> Iterator[str]:
        return (line for _, line in merge(self._deeds, self._frames))

    def __len__(self) -> int:
        return len(self._deeds) + len(self._frames)

    def __contains__(self, line: object) -> bool:
        return any(line == kept for kept in self)
