"""How long a client waits before it tries to connect again."""

from __future__ import annotations

from random import SystemRandom

_MAX_DOUBLINGS = 30
"""More than any two pauses are apart, and less than a float can hold."""


class Pauses:
    """Seconds between tries to connect: doubling, and random, so that a fleet does not come in step.

    Args:
        first: The first pause after a connection that lasted.
        longest: The longest one. Each is shortened at random by up to half.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._next = first
        self._brief = 0
        self._random = SystemRandom()

    def next(self) -> float:
        """The seconds to wait now."""
        pause = self._next * self._random.uniform(0.5, 1.0)
        self._next = min(2 * self._next, self._longest)
        return pause

    def refused(self) -> None:
        """The broker will not change its mind soon: the next pause is the longest."""
        self._next = self._longest

    def lost(self, lasted: float) -> int:
        """An accepted connection has ended; returns how many in a row did not last.

        Pauses begin anew after one that lasted as long as the longest pause. Of two clients with one id,
        each lets the other live for less than that, so neither takes the other's absence for peace.
        """
        self._brief = 0 if lasted >= self._longest else self._brief + 1
        doublings = min(max(self._brief - 1, 0), _MAX_DOUBLINGS)
        self._next = min(self._first * 2**doublings, self._longest)
        return self._brief
