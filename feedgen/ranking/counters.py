"""Online counters: how often a feature was shown, how often it came to an opening.

The logarithm of a feature's smoothed rate against the rate of all impressions is itself a feature, and
the most telling one (He et al., ADKDD 2014). Counts fade with time by forward decay (Cormode et al.,
ICDE 2009): what is added grows instead of what is there shrinking, so that fading costs nothing.

Learning a batch reads, for each of its impressions, the counts as the impressions before it left them:
the same as learning one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LIMIT = 60.0
"""Exponent of the growth beyond which all counts are brought back to the present."""
_FARTHEST = 500.0
"""Largest exponent within one batch, for growth to stay a number; older counts are nothing then."""
_SPAN = 1e3
"""Growth within one batch beyond which it is counted in two: sums would lose the oldest."""
_PLACE_BITS = 32
_EDGE = 1e-4
"""Rates are taken as no closer to 0 and 1 than this."""


@dataclass(frozen=True, slots=True)
class CounterSettings:
    """How rates are smoothed.

    Attributes:
        prior: impressions at the rate of all that every feature starts with.
        half_life: seconds in which counts fade by half.
    """

    prior: float = 5.0
    half_life: float = 60 * 86_400.0


class Counters:
    """Counts at the places of features.

    Args:
        bits: there are 2^bits places.
        settings: how to smooth.
    """

    __slots__ = ("_growth", "_now", "opened", "settings", "shown")

    def __init__(self, bits: int, settings: CounterSettings) -> None:
        self.settings = settings
        self.shown: NDArray[np.float64] = np.zeros(1 << bits)
        self.opened: NDArray[np.float64] = np.zeros(1 << bits)
        self._now: float | None = None
        self._growth = 1.0

    def _advance(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Let time pass; return what one impression counts at each of `times`.

        A clock that goes back is held still, and so is one that is no number.
        """
        times = np.where(np.isfinite(times), times, -np.inf)
        if self._now is None:
            self._now = max(0.0, float(times[0]))
        latest = np.maximum(np.maximum.accumulate(times), self._now)
        exponents = (latest - self._now) * (np.log(2) / self.settings.half_life)
        self._now = float(latest[-1])
        behind = np.log(self._growth) + exponents[0]
        if behind > _LIMIT:
            self.shown *= np.exp(-behind)
            self.opened *= np.exp(-behind)
            self._growth = 1.0
            exponents -= exponents[0]
        growths = self._growth * np.exp(np.minimum(exponents, _FARTHEST))
        self._growth = float(growths[-1])
        return np.asarray(growths)

    def rates(self, places: NDArray[np.int64], rate: float) -> NDArray[np.float64]:
        """Return the logits of smoothed rates less that of `rate`, in the shape of `places`."""
        return self._smoothed(self.shown[places], self.opened[places], rate, self._growth)

    def all_rates(self, rate: float) -> NDArray[np.float32]:
        """Return what `rates` does for every place, as single floats: a quarter of the time."""
        prior = self.settings.prior
        grown = np.float32(1 / self._growth)
        shown = self.shown.astype(np.float32)
        shown *= grown
        np.maximum(shown, 0, out=shown)
        shown += np.float32(prior)
        smoothed = self.opened.astype(np.float32)
        smoothed *= grown
        smoothed += np.float32(prior * rate)
        smoothed /= shown
        np.clip(smoothed, _EDGE, 1 - _EDGE, out=smoothed)
        np.subtract(1, smoothed, out=shown)
        smoothed /= shown
        np.log(smoothed, out=smoothed)
        smoothed -= np.float32(np.log(rate / (1 - rate)))
        return smoothed

    def seen(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how many impressions were counted, faded, in the shape of `places`."""
        return np.asarray(self.shown[places] / self._growth)

    def _smoothed(
        self,
        shown: NDArray[np.float64],
        opened: NDArray[np.float64],
        rate: float,
        growth: float | NDArray[np.float64],
    ) -> NDArray[np.float64]:
        prior = self.settings.prior * growth
        np.maximum(shown, 0, out=shown)  # more may be taken back than there is left after fading
        smoothed = (opened + prior * rate) / (shown + prior)
        np.clip(smoothed, _EDGE, 1 - _EDGE, out=smoothed)
        smoothed /= 1 - smoothed
        np.log(smoothed, out=smoothed)
        smoothed -= np.log(rate / (1 - rate))
        return smoothed

    def learn(
        self,
        places: NDArray[np.int64],
        labels: NDArray[np.float64],
        weights: NDArray[np.float64],
        rate: float,
        times: NDArray[np.float64],
        present: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Count impressions, and return `rates` as each of them found them.

        Args:
            places: int64 [impressions, features]; no two columns share a place but by collision.
            labels: float64 [impressions], 1 where opened.
            weights: float64 [impressions]; negative to take back.
            rate: of all impressions.
            times: float64 [impressions], Unix seconds.
            present: float64 [impressions, features], 0 where a feature is absent and not counted;
                None if all are there.
        """
        return self._count(places, labels, weights, rate, self._advance(times), present)

    def _count(
        self,
        places: NDArray[np.int64],
        labels: NDArray[np.float64],
        weights: NDArray[np.float64],
        rate: float,
        growth: NDArray[np.float64],
        present: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        rows, columns = places.shape
        if rows > 1 and growth[-1] > _SPAN * growth[0]:
            halves = [
                self._count(
                    places[part],
                    labels[part],
                    weights[part],
                    rate,
                    growth[part],
                    None if present is None else present[part],
                )
                for part in (slice(0, rows // 2), slice(rows // 2, rows))
            ]
            return np.concatenate(halves)
        keys = places.ravel()
        grown = weights * growth
        more = np.repeat(grown, columns)
        liked = np.repeat(grown * labels, columns)
        if present is not None:
            more *= present.ravel()
            liked *= present.ravel()
        # One sort of key and place together: a stable argsort takes five times as long.
        both = (keys << _PLACE_BITS) + np.arange(len(keys))
        both.sort()
        order = both & ((1 << _PLACE_BITS) - 1)
        ordered = both >> _PLACE_BITS
        first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        lengths = np.diff(first, append=len(ordered))
        last = first + lengths - 1
        distinct = ordered[first]
        shown, opened = np.empty(len(keys)), np.empty(len(keys))
        for table, added, found in ((self.shown, more, shown), (self.opened, liked, opened)):
            step = added[order]
            total = np.cumsum(step)
            held = table[distinct]
            before = total - step
            offset = held - before[first]
            table[distinct] = total[last] + offset
            before += np.repeat(offset, lengths)
            found[order] = before
        return self._smoothed(
            shown.reshape(rows, columns), opened.reshape(rows, columns), rate, growth[:, None]
        )

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        used = np.flatnonzero((self.shown != 0) | (self.opened != 0)).astype(np.int32)
        return {
            "places": used,
            "shown": self.shown[used],
            "opened": self.opened[used],
            "now": self._now,
            "growth": self._growth,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.shown[:] = self.opened[:] = 0
        self.shown[state["places"]] = state["shown"]
        self.opened[state["places"]] = state["opened"]
        self._now = state["now"]
        self._growth = state["growth"]
