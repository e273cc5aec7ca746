"""Exploration: what is uncertain is sometimes ranked higher than its mean, and it is known how often.

The personal part of a key has a posterior, in ticks: normal with a mean and a standard deviation.
Its *sample* is mean + sd * Φ⁻¹(u), u the draw of this device and item. Ranking by samples is Thompson
sampling (Thompson 1933; Chapelle & Li, NIPS 2011): an item is admitted as often as it is probable
that it deserves to be.

An item with mean key m passes a bar b with probability P = Φ((m - b) / sd). Off-policy estimates divide
by it, so no estimate is any good where it is almost 0 or 1 without being so. Hence *exploration
decides* where `NEVER` < P < `ALWAYS`, and there the admission is Bernoulli with P clipped to
[`LEAST`, `MOST`]; elsewhere the mean decides, and the propensity is exactly 1.

Nothing here draws: u comes from the caller, so that the same draw is the same decision.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from feedgen.ranking.scoring import Scores
    from feedgen.windows import Mask

LEAST, MOST = 0.02, 0.98
"""Bounds of an admission's probability where exploration decides."""
NEVER, ALWAYS = 0.005, 0.995
"""Beyond these the mean decides."""

_EDGE = 2.5758293
"""Φ⁻¹(ALWAYS): standard deviations from the bar up to which exploration decides."""

# M. B. Giles, "Approximating the erfinv function" (GPU Computing Gems, Jade Edition, 2011): made for
# single precision, in w = -log(1 - x²), highest power first. Acklam's rational approximation was
# rejected: near its tails it divides two small differences, in float32 a relative error of 1e-4.
_CENTRAL = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_TAIL = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)
_TAIL_FROM = np.float32(5.0)

# Abramowitz & Stegun, Handbook of Mathematical Functions, 26.2.17, highest power first.
_DISTRIBUTION = (1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530, 0.0)
_SLOPE = np.float32(0.2316419)


class Decisions(NamedTuple):
    """What became of candidates at their bars.

    Attributes:
        admitted: bool.
        propensity: float32, the probability of what happened to be an admission where exploration
            decided; 1 elsewhere.
        explored: bool, where it did.
    """

    admitted: Mask
    propensity: NDArray[np.float32]
    explored: Mask


def sampled(scores: Scores, bound: int) -> NDArray[np.float32]:
    """Return personal ticks: samples where something is explored, else the mean.

    Args:
        scores: of any shape.
        bound: samples are clipped to ± this.
    """
    if scores.sd is None or scores.uniform is None:
        return scores.mean
    ticks = inverse_normal(scores.uniform)
    ticks *= scores.sd
    ticks += scores.mean
    return np.clip(ticks, -bound, bound, out=ticks)


def decide(
    margin: NDArray[np.float32], sd: NDArray[np.float32], uniform: NDArray[np.float32]
) -> Decisions:
    """Decide about candidates at their bars.

    Args:
        margin: ticks from the bar to the candidate's mean key.
        sd: standard deviation of the key in ticks; 0 where nothing is explored.
        uniform: draws in (0, 1). A high one admits, as it makes a high sample.
    """
    admitted = margin > 0
    propensity = np.ones(margin.shape, np.float32)
    explored = np.abs(margin) < np.float32(_EDGE) * sd
    at = np.flatnonzero(explored)
    if at.size:
        p = normal(margin[at] / sd[at])
        propensity[at] = p = np.clip(p, np.float32(LEAST), np.float32(MOST), out=p)
        admitted[at] = uniform[at] > 1 - p
    return Decisions(admitted, propensity, explored)


def propensities(margin: NDArray[np.float32], sd: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities with which candidates that were taken by their samples are taken.

    Args:
        margin: ticks to the candidate's mean key from the best key that was not taken: with all
            other keys as they are, that is what it had to beat.
        sd: standard deviation of the key in ticks; 0 where nothing is explored.
    """
    propensity = np.ones(margin.shape, np.float32)
    # One that was taken from far below the bar has a propensity too: the least.
    at = np.nonzero((margin < np.float32(_EDGE) * sd) & (sd > 0))
    if at[0].size:
        p = normal(margin[at] / sd[at])
        propensity[at] = np.clip(p, np.float32(LEAST), np.float32(MOST), out=p)
    return propensity


def inverse_normal(u: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return Φ⁻¹ = √2 erf⁻¹(2u - 1) of each u in (0, 1), to a relative error of 1e-6."""
    u = np.asarray(u, np.float32)
    w = -np.log(4 * u * (1 - u))
    z = _polynomial(_CENTRAL, w - np.float32(2.5))
    at = np.nonzero(w >= _TAIL_FROM)
    if at[0].size:
        z[at] = _polynomial(_TAIL, np.sqrt(w[at]) - 3)
    z *= u - np.float32(0.5)
    z *= np.float32(2 * sqrt(2))
    return z


def normal(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return Φ of each x, to an absolute error of 3e-7 (the formula's is 7.5e-8)."""
    x = np.asarray(x, np.float32)
    distance = np.abs(x)
    t: NDArray[np.float32] = np.float32(1) / (1 + _SLOPE * distance)
    upper = _polynomial(_DISTRIBUTION, t)
    upper *= np.exp(distance * distance * np.float32(-0.5)) * np.float32(1 / sqrt(2 * pi))
    return np.where(x > 0, 1 - upper, upper)


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a polynomial's values, by Horner's rule; highest power first."""
    value = np.full(x.shape, coefficients[0], np.float32)
    for coefficient in coefficients[1:]:
        value *= x
        value += np.float32(coefficient)
    return value
