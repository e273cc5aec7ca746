"""The baseline: how much an item is worth to a follower, as ticks of publication time.

The key of an item in a window is `t_published + tau * ln(value) + offset(priority)`, the forward
decay of Cormode et al. (ICDE 2009) written as an equivalent publication time: an item worth twice
as much ranks like one published `tau * ln 2` later, and no order ever changes because time passes.

Here value = the weight of the best matching filter times the item's popularity. All parts are
rounded to ticks on their own, so that a key is a sum of integers and does not depend on the order
in which its parts were computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

TICKS_PER_SECOND = 100
"""A tick is 10 ms: int32 ticks reach 248 days to either side of the landmark."""

_HOUR = 3600.0
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class Settings:
    """What the baseline ranking may be told.

    Attributes:
        tau: seconds; how much later an item counts as published when its value is e times as high.
            One for all: items with different ones would change places as time passes.
        offsets: seconds added per priority, 0 low to 3 urgent. Urgent stands above everything else
            for two weeks.
        per_level: weight that each literal level of a filter adds to 1: who follows
            `alerts/weather/ca` wants it more than who follows `#`.
        levels: literal levels beyond this add nothing.
        prior_rate: share of shown items that are opened, as long as nothing is known of an item.
        prior_shown: how many times shown the prior counts for.
        dismissal: opened counts this much less per dismissal.
        bound: popularity stays within 1/bound to bound.
        rekey: log value by which popularity must move before the item is ranked anew: half an hour of
            age with the default `tau`. Each time costs the item's whole audience; with these bounds 33 times one way at most.
    """

    tau: float = 6 * _HOUR
    offsets: tuple[float, float, float, float] = (-6 * _HOUR, 0.0, 12 * _HOUR, 14 * _DAY)
    per_level: float = 0.25
    levels: int = 8
    prior_rate: float = 0.1
    prior_shown: float = 50.0
    dismissal: float = 1.0
    bound: float = 4.0
    rekey: float = 1 / 12


class Baseline:
    """Ticks that filters, priorities and popularity add to the publication time."""

    __slots__ = ("_settings", "by_level", "by_priority", "rekey")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.by_priority = tuple(_ticks(offset) for offset in settings.offsets)
        self.by_level = tuple(
            _ticks(settings.tau * log(1 + settings.per_level * level))
            for level in range(settings.levels + 1)
        )
        """Ticks per number of literal levels in the best matching filter."""
        self.rekey = _ticks(settings.tau * settings.rekey)
        """Ticks of popularity that are worth ranking an item anew."""

    def popularity(
        self, shown: int, opened: int, dismissed: int, *, rate: float | None = None
    ) -> int:
        """Return the ticks that an item's counters add: 0 for one of which nothing is known.

        The rate of opening is smoothed towards that of all items, so that a single early opening is
        no proof, and compared with it.

        Args:
            shown: how often the item was shown.
            opened: how often it was opened.
            dismissed: how often it was dismissed.
            rate: of all items, above 0; None: `prior_rate`, as nobody counts it.
        """
        settings = self._settings
        usual = settings.prior_rate if rate is None else rate
        prior = usual * settings.prior_shown
        liked = max(prior + opened - settings.dismissal * dismissed, 0.0)
        # Openings may be reported without the showing before them.
        smoothed = liked / (settings.prior_shown + max(shown, opened + dismissed))
        relative = max(smoothed / usual, 1 / settings.bound)
        return _ticks(settings.tau * log(min(relative, settings.bound)))


def _ticks(seconds: float) -> int:
    return round(seconds * TICKS_PER_SECOND)
