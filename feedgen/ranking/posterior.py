"""Gaussian posteriors, learned in steps: hashed weights one by one, trusts and slopes together.

Within a step gradients and curvatures add up, taken at the means of its beginning; the mean is then one
Newton step away from there (Chapelle & Li, NIPS 2011, algorithm 3). So it makes no difference how the
impressions of a step are divided into calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_STEP = ("start", "gradient", "curvature")
"""What a step keeps beside what was learned before it."""
_COLUMNS = ("mean", "precision", *_STEP)


class Joint:
    """Trusts and slopes: a few coordinates that every impression has, with their full covariance.

    Taken one by one, as the weights are, each would answer for what all of them got wrong together.

    Attributes:
        mean: what predictions use.
        start: the mean when the step began, where gradients are taken.
        precision: float64 [n, n], without the prior's.
        prior: precision of the prior.
    """

    __slots__ = ("curvature", "gradient", "mean", "precision", "prior", "start")

    def __init__(self) -> None:
        self.mean: Floats = np.zeros(0)
        self.start: Floats = np.zeros(0)
        self.prior: Floats = np.zeros(0)
        self.gradient: Floats = np.zeros(0)
        self.precision: Floats = np.zeros((0, 0))
        self.curvature: Floats = np.zeros((0, 0))

    def grow(self, mean: Sequence[float], prior: float) -> None:
        """Append coordinates."""
        more = len(mean)
        self.mean = np.append(self.mean, mean)
        self.start = np.append(self.start, mean)
        self.prior = np.append(self.prior, np.full(more, prior))
        self.gradient = np.append(self.gradient, np.zeros(more))
        self.precision = np.pad(self.precision, (0, more))
        self.curvature = np.pad(self.curvature, (0, more))

    def add(self, design: Floats, gradient: Floats, curvature: Floats) -> None:
        """Learn impressions.

        Args:
            design: float64 [impressions, n].
            gradient: float64 [impressions], of the log-likelihood by the logit.
            curvature: float64 [impressions].
        """
        self.gradient += gradient @ design
        more = design.T @ (design * curvature[:, None])
        if (curvature < 0).any() and not _definite(self._steepness() + more):
            # More is taken back than was learned of it: what is known is not known any less.
            more = design.T @ (design * np.maximum(curvature, 0)[:, None])
        self.curvature += more
        self.mean = self.start + np.linalg.solve(self._steepness(), self.gradient)

    def _steepness(self) -> Floats:
        steepness = self.precision + self.curvature
        steepness[np.diag_indices_from(steepness)] += self.prior
        return steepness

    def settle(self) -> None:
        """End a step."""
        self.start = self.mean.copy()
        self.precision += self.curvature
        self.gradient[:] = 0
        self.curvature[:] = 0

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes; a step that has begun goes on after it."""
        return {name: getattr(self, name).copy() for name in (*_COLUMNS, "prior")}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        for name in (*_COLUMNS, "prior"):
            setattr(self, name, np.array(state[name], np.float64))


class Table:
    """Hashed weights, each with a Gaussian posterior of its own, learned in steps.

    Attributes:
        mean: what predictions use.
        start: the mean when the step began, where gradients are taken.
        precision: without the prior's.
        gradient: of the step.
        curvature: of the step.
    """

    __slots__ = (*_COLUMNS, "_touched")

    def __init__(self, bits: int) -> None:
        self.mean: Floats = np.zeros(1 << bits)
        self.start: Floats = np.zeros(1 << bits)
        self.precision: Floats = np.zeros(1 << bits)
        self.gradient: Floats = np.zeros(1 << bits)
        self.curvature: Floats = np.zeros(1 << bits)
        self._touched: list[NDArray[np.int64]] = []

    def add_at(
        self, places: NDArray[np.int64], gradient: Floats, curvature: Floats, prior: Floats
    ) -> None:
        """Learn weights.

        Args:
            places: int64 [impressions, features], may repeat.
            gradient: float64, of the same shape.
            curvature: float64, of the same shape.
            prior: float64 [features], precision of their priors.
        """
        flat = places.ravel()
        np.add.at(self.gradient, flat, gradient.ravel())
        np.add.at(self.curvature, flat, curvature.ravel())
        steepness = np.maximum(self.precision[places] + self.curvature[places], 0) + prior
        self.mean[places] = self.start[places] + self.gradient[places] / steepness
        self._touched.append(flat)

    def settle(self) -> None:
        """End a step."""
        for at in self._touched:
            self.start[at] = self.mean[at]
            self.precision[at] = np.maximum(self.precision[at] + self.curvature[at], 0)
            self.curvature[at] = 0  # before the next part: places may stand in both
            self.gradient[at] = 0
        self._touched.clear()

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes: the weights that are in use, and the step that has begun."""
        used = np.flatnonzero((self.mean != 0) | (self.start != 0) | (self.precision != 0))
        touched = np.unique(np.concatenate([np.empty(0, np.int64), *self._touched]))
        state = {name: getattr(self, name)[used] for name in ("mean", "precision")}
        state |= {f"step_{name}": getattr(self, name)[touched] for name in _STEP}
        places = {"places": used, "step_places": touched}
        return {**state, **{name: at.astype(np.int32) for name, at in places.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        for name in _COLUMNS:
            getattr(self, name)[:] = 0
        used, touched = (np.array(state[name], np.int64) for name in ("places", "step_places"))
        self.mean[used] = self.start[used] = state["mean"]
        self.precision[used] = state["precision"]
        for name in _STEP:
            getattr(self, name)[touched] = state[f"step_{name}"]
        self._touched = [touched]


def _definite(matrix: Floats) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True
