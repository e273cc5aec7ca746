"""Are these the pauses of a client that a fleet can live with? Pure: seconds in, a word out.

Told apart as AWS IoT Device Advisor does it: constant and linear pauses fail, exponential ones without jitter are a
warning, as devices that lost the same server then return in step. Marc Brooker's *Exponential Backoff And
Jitter* (AWS Architecture Blog, 2015) shows why.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FEWEST = 3
"""Pauses without which nothing is said."""

_SHARE = 0.04
"""Pauses that differ by less than this share, or than the noise of the clock, are the same."""
_SPREAD = 0.15
"""Pauses within so much of their mean are constant with a little jitter, which spreads nobody."""

_GROWTH = 1.3
"""By so much the later pauses have to be longer than the earlier ones."""


class Shape(StrEnum):
    """How the pauses go on."""

    JITTERED = "jittered"
    CONSTANT = "constant"
    LINEAR = "linear"
    EXPONENTIAL = "exponential without jitter"
    LEVEL = "random, but not growing"
    FEW = "too few"


def shape(pauses: Sequence[float], noise: float = 0.05) -> Shape:
    """How these pauses, in seconds and in order, go on.

    Args:
        pauses: From the end of one try to the beginning of the next.
        noise: By how many seconds a pause may be mismeasured.
    """
    if len(pauses) < FEWEST:
        return Shape.FEW
    if _constant(pauses, noise) or (len(pauses) > FEWEST and _constant(pauses[1:], noise)):
        return (
            Shape.CONSTANT
        )  # the first one may be another: it follows a connection that was accepted
    if not _grows(pauses):
        return Shape.LEVEL
    if _linear(pauses, noise):
        return Shape.LINEAR
    if _exponential(pauses, noise):
        return Shape.EXPONENTIAL
    return Shape.JITTERED


def _grows(pauses: Sequence[float]) -> bool:
    half = len(pauses) // 2
    return max(pauses[half:]) >= _GROWTH * max(pauses[:half])


def _same(one: float, other: float, noise: float) -> bool:
    return abs(one - other) <= max(2 * noise, _SHARE * max(one, other))


def _constant(pauses: Sequence[float], noise: float) -> bool:
    mean = sum(pauses) / len(pauses)
    return max(pauses) - min(pauses) <= max(2 * noise, _SPREAD * mean)


def _linear(pauses: Sequence[float], noise: float) -> bool:
    steps = [after - before for before, after in pairwise(pauses)]
    return all(_same(one, other, noise) for one, other in pairwise(steps)) and steps[0] > 0


def _exponential(pauses: Sequence[float], noise: float) -> bool:
    """Whether each pause is the one before times one and the same factor, up to a longest pause."""
    factor = pauses[1] / pauses[0] if pauses[0] else 0.0
    # A longest pause shows only where it comes twice: else the last one would explain itself.
    longest = max(pauses)
    if not _same(pauses[-1], pauses[-2], noise):
        longest = float("inf")
    if factor <= 1.0:
        return False
    return all(
        _same(after, min(before * factor, longest), noise) for before, after in pairwise(pauses)
    )
