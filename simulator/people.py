"""People with known tastes: who opens what, when, and why. The truth that a ranking is to find out.

The chance that person i opens item j, once it is looked at, is

    sigmoid(base_i + quality_j + interest_i(channel_j) + interest_i(publisher_j) + interest_i(tags_j)
            + daytime_i(hour) - tired) * exp(-age_j / fades) * (1 - drop)

and an item that was shown at rank r is looked at with the chance (1 + r)^-position, whatever it is: the examination
hypothesis (Craswell et al., WSDM 2008). `interests` says where interests come from: there is something to learn from
others, from the class of the device, and from each one alone.

Everything random is drawn by name (`simulator.draws`): the same person, item and seed give the same answer whatever
was asked before. What does depend on the past is explicit: `Fatigue` is state that its owner keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator import draws
from simulator.draws import Floats, Ints
from simulator.drift import Drift, Kind
from simulator.interests import Interests, Strengths

if TYPE_CHECKING:
    from simulator.offerings import Items, Market

_HOUR = 3600.0

(_CLASS, _BASE, _ZONE, _PEAK, _BUSY, _LOOK, _SCROLL, _EXAMINE, _OPEN, _DISMISS, _DWELL,
 _DELAY) = range(1, 13)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """A kind of device.

    Attributes:
        name: As in the device's fields.
        weight: How many there are, relative to the others.
        screen: Items that are on the screen without scrolling.
    """

    name: str
    weight: float
    screen: int


CLASSES = (
    DeviceClass("phone", 0.5, 4),
    DeviceClass("watch", 0.2, 2),
    DeviceClass("panel", 0.3, 8),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a population may be told. Strengths are standard deviations in logits.

    Attributes:
        base: Logit of the chance that an item without any appeal of its own is opened.
        spread: Strength of what makes some people open more of everything than others.
        interests: Of the interests in channels, publishers and tags.
        daytime: Logits between a person's mean hour and the best one.
        looks: How often a person looks at the feed in a day, in the median.
        busy: Standard deviation of the logarithm of that: some look twenty times, others once.
        position: Exponent of the examination by rank.
        scroll: Chance to scroll on, at each place beyond the screen.
        fades: Seconds after which an item is opened e times less.
        tires: Logits that one exposure to the same channel or publisher takes away.
        rests: Seconds after which e times less of that is felt.
        most_tired: Logits that fatigue takes away at most.
        dismissal: Logit of the chance that an item that is looked at but not opened is dismissed, at a logit of 0.
        dwell: Seconds that an opened item holds its reader, in the median, at a logit of 0.
        delay: Seconds until an item is opened or dismissed after it was shown, in the median; some take ten times as
            long.
    """

    base: float = -1.8
    spread: float = 0.4
    interests: Strengths = field(default_factory=Strengths)
    daytime: float = 0.2
    looks: float = 6.0
    busy: float = 0.6
    position: float = 0.5
    scroll: float = 0.8
    fades: float = 6 * _HOUR
    tires: float = 0.06
    rests: float = 3 * _HOUR
    most_tired: float = 1.0
    dismissal: float = -3.5
    dwell: float = 12.0
    delay: float = 40.0


@dataclass(frozen=True, slots=True)
class Responses:
    """What became of impressions, as columns of one shape.

    Attributes:
        shown: The item came onto the screen; otherwise nothing else happened.
        opened: It was opened.
        dismissed: It was dismissed; never what was opened.
        dwell: Seconds that it was read; 0 if not opened.
        delay: Seconds from shown to opened or dismissed; inf if neither.
    """

    shown: NDArray[np.bool_]
    opened: NDArray[np.bool_]
    dismissed: NDArray[np.bool_]
    dwell: Floats
    delay: Floats


class People:
    """A population. `who` is always an array of people's numbers that broadcasts with the items.

    One person per device: person i has device `d<i>`. Pairs are `who` [n] with n items; everybody with everything is
    `who[:, None]` with m items, and gives [n, m].

    Attributes:
        size: How many people there are.
        market: What they may like.
        settings: As given.
        kind: int64 [size], places in `CLASSES`.
        zone: int64 [size], hours that the local time is ahead of UTC.
    """

    __slots__ = ("_base", "_interests", "_peak", "_rates", "_seed",
                 "kind", "market", "settings", "size", "zone")  # fmt: skip

    def __init__(
        self, seed: int, size: int, market: Market, settings: Settings | None = None
    ) -> None:
        self._seed = seed
        self.size = size
        self.market = market
        self.settings = settings or Settings()
        everyone = np.arange(size)
        weights = np.cumsum([each.weight for each in CLASSES])
        self.kind = np.searchsorted(weights, self._uniform(_CLASS, everyone) * weights[-1])
        self.zone = np.asarray(self._uniform(_ZONE, everyone) * 24, np.int64) - 11
        self._base = self.settings.base + self.settings.spread * self._normal(_BASE, everyone)
        self._peak = 19.0 + 3.0 * self._normal(_PEAK, everyone)
        self._rates = self.settings.looks * np.exp(
            self.settings.busy * self._normal(_BUSY, everyone)
        )
        self._interests = Interests(seed, self.kind, market, self.settings.interests)

    def fields(self, person: int) -> dict[str, str]:
        """Returns what a server may know of one device: strings by name."""
        return {"class": CLASSES[self.kind[person]].name, "zone": f"{self.zone[person]:+d}"}

    def hour(self, who: ArrayLike, now: float) -> Floats:
        """Returns people's local time in hours, 0 to 24."""
        return np.asarray((now / _HOUR + self.zone[np.asarray(who)]) % 24.0)

    def interests(self, now: float) -> NDArray[np.float32]:
        """Returns logits, float32 [size, groups]: channels, publishers and tags (see `Market.groups`)."""
        return self._interests.matrix(now)

    def drift(self, kind: Kind, share: float, at: float, **more: float) -> Drift:
        """Changes what a share of the people wants, or how much, from `at` on.

        Interests change by a permutation of channels, of publishers and of tags, the same one for all who are
        concerned. A later drift starts from where those before it led.

        Args:
            kind: The shape of the change.
            share: Of the people, 0 to 1.
            at: Unix seconds.
            more: Further fields of `Drift`.

        Returns:
            The drift as it was noted.
        """
        drift = Drift(kind, share, at, **more)
        self._interests.change(drift)
        return drift

    def looking(self, now: float, seconds: float) -> Ints:
        """Returns who looks at the feed between `now` and `seconds` later, in rising order."""
        everyone = np.arange(self.size)
        # At the worst hour a tenth of the mean, not nothing.
        chance = self._rates * (1.0 + 0.9 * self._daytime(everyone, now)) * seconds / 86_400.0
        return np.flatnonzero(self._uniform(_LOOK, int(now / seconds), everyone) < chance)

    def probability(
        self,
        who: ArrayLike,
        items: Items,
        now: float,
        rank: ArrayLike | None = None,
        tired: Floats | float = 0.0,
    ) -> Floats:
        """Returns the chance that people open items.

        Args:
            who: People, broadcast with the items.
            items: Items.
            now: Unix seconds.
            rank: The place where the item is shown, 0 the topmost; None: of an item that is looked at for certain.
            tired: Logits, from `Fatigue.level`.
        """
        who = np.asarray(who)
        chance = self._chance(self._appeal(who, items, now) - tired, who, items, now)
        return chance if rank is None else chance * self.examination(rank)

    def examination(self, rank: ArrayLike) -> Floats:
        """Returns the chance that what is on the screen at a rank is looked at."""
        return np.asarray((1.0 + np.asarray(rank)) ** -self.settings.position)

    def on_screen(self, who: ArrayLike, rank: ArrayLike) -> Floats:
        """Returns the chance that a rank comes onto the screen of somebody who looks at the feed."""
        screens = np.array([each.screen for each in CLASSES])[self.kind[np.asarray(who)]]
        return np.asarray(self.settings.scroll ** np.maximum(np.asarray(rank) + 1.0 - screens, 0.0))

    def oracle(
        self, who: ArrayLike, items: Items, now: float, k: int, tired: Floats | float = 0.0
    ) -> Ints:
        """Returns the k items that each would most probably open, best first, int64 [people, ≤ k]."""
        return best(self.probability(np.asarray(who)[:, None], items, now, tired=tired), k)

    def respond(
        self, who: ArrayLike, items: Items, now: float, rank: ArrayLike, tired: Floats | float = 0.0
    ) -> Responses:
        """Returns what people do with items that stand in their feeds as they look at them.

        Args:
            who: People, broadcast with the items.
            items: Items.
            now: Unix seconds; of one look, the same for all that it comes upon.
            rank: Places, 0 the topmost.
            tired: Logits, from `Fatigue.level`.
        """
        who, rank = np.asarray(who), np.asarray(rank)
        pair = (who, items.number)
        # One scroll per look: who sees a rank has seen all above it.
        scrolled = self._uniform(_SCROLL, who, int(now))
        shown = scrolled < self.on_screen(who, rank)
        examined = shown & (self._uniform(_EXAMINE, *pair) < self.examination(rank))
        appeal = self._appeal(who, items, now) - tired
        wanted = self._uniform(_OPEN, *pair) < self._chance(appeal, who, items, now)
        unwanted = self._uniform(_DISMISS, *pair) < _sigmoid(self.settings.dismissal - appeal)
        opened, dismissed = examined & wanted, examined & ~wanted & unwanted
        dwell = self.settings.dwell * np.exp(0.4 * appeal + 0.6 * self._normal(_DWELL, *pair))
        delay = self.settings.delay * np.exp(self._normal(_DELAY, *pair))
        return Responses(
            shown, opened, dismissed,
            np.where(opened, dwell, 0.0), np.where(opened | dismissed, delay, np.inf),
        )  # fmt: skip

    def _chance(self, appeal: Floats, who: Ints, items: Items, now: float) -> Floats:
        fading = np.exp(-np.maximum(now - items.published, 0.0) / self.settings.fades)
        return np.asarray(_sigmoid(appeal) * fading * self._interests.held(who, now))

    def _appeal(self, who: Ints, items: Items, now: float) -> Floats:
        liked = self._interests.of(who, items, now)
        return (
            self._base[who]
            + items.quality
            + liked
            + self.settings.daytime * self._daytime(who, now)
        )

    def _daytime(self, who: Ints, now: float) -> Floats:
        """1 at people's best hour, -1 twelve hours from it."""
        return np.asarray(np.cos((self.hour(who, now) - self._peak[who]) * (np.pi / 12)))

    def _uniform(self, purpose: int, *counters: ArrayLike) -> Floats:
        return draws.uniform(self._seed, purpose, *counters)

    def _normal(self, purpose: int, *counters: ArrayLike) -> Floats:
        return draws.normal(self._seed, purpose, *counters)


class Fatigue:
    """What people have seen lately of each channel and publisher: a count that fades."""

    __slots__ = ("_at", "_channels", "_counts", "_settings")

    def __init__(self, people: People) -> None:
        self._settings = people.settings
        self._channels = people.market.channels
        self._counts = np.zeros((people.size, self._channels + people.market.publishers))
        self._at = np.zeros(people.size)

    def level(self, who: ArrayLike, items: Items, now: float) -> Floats:
        """Returns logits that people's chance to open is lower by; shapes broadcast as everywhere."""
        who = np.asarray(who)
        seen = (
            self._counts[who, items.channel] + self._counts[who, self._channels + items.publisher]
        )
        felt = self._settings.tires * seen * np.exp((self._at[who] - now) / self._settings.rests)
        return np.asarray(np.minimum(felt, self._settings.most_tired))

    def exposed(self, who: Ints, items: Items, now: float) -> None:
        """Notes that items were shown: `who` [n] to n items."""
        people = np.unique(who)
        self._counts[people] *= np.exp((self._at[people] - now) / self._settings.rests)[:, None]
        self._at[people] = now
        np.add.at(self._counts, (who, items.channel), 1.0)
        np.add.at(self._counts, (who, self._channels + items.publisher), 1.0)


def best(values: Floats, k: int) -> Ints:
    """Returns the places of the k largest in each row, largest first, int64 [rows, ≤ k]; ties by place."""
    return np.argsort(-values, axis=-1, kind="stable")[..., :k]


def _sigmoid(logit: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))
