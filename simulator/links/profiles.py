"""Link profiles by name: what a network does to a connection.

Latency, bandwidth and loss of `2g-gprs`, `2g-edge` and `wifi` are those of the README of comcast
(https://github.com/tylertreat/comcast), those of the others from the table of cellular standards at
https://blog.mbedded.ninja/electronics/communication-protocols/cellular. A cited latency is taken as the round trip, so
each direction has half of it. Jitter, the loss of NB-IoT and LTE-M, resets, coverage holes and the time to attach are
our choice; whoever knows better writes `custom(PROFILES["ltem-m1"], latency=0.08)`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from math import inf, isfinite
from typing import TYPE_CHECKING

from simulator.links.energy import GSM, LTE_M, MAINS, NB_IOT, WIFI, Radio

if TYPE_CHECKING:
    from collections.abc import Mapping

_K = 1_000.0
_M = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What a link does; each direction alike, but for its bandwidth.

    Attributes:
        name: Of the profile.
        latency: The least seconds that a segment is on its way, in one direction.
        jitter: Mean of what comes on top, exponentially distributed: a link is sometimes much slower, never faster.
        down, up: Bits per second, headers of IP and TCP included; infinity = no limit.
        loss: Share of segments that are lost. TCP sends them again, so the loss shows as a pause of `rto`, doubling.
        reset_per_hour: How often a connection is reset.
        hole_per_hour, hole_seconds: How often a connected device is without coverage, and for how long on average.
        attach_seconds: From a sleeping radio to one that can send: random access, registration, address.
        radio: What it takes from a battery.
    """

    name: str
    latency: float = 0.0
    jitter: float = 0.0
    down: float = inf
    up: float = inf
    loss: float = 0.0
    reset_per_hour: float = 0.0
    hole_per_hour: float = 0.0
    hole_seconds: float = 0.0
    attach_seconds: float = 0.0
    radio: Radio = MAINS

    def __post_init__(self) -> None:
        """Checks the figures.

        Raises:
            ValueError: One of them is impossible; the sentence names it.
        """
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"link profile {self.name!r}: {name} is {value}, but must be 0 or more")  # fmt: skip
        for name in ("down", "up"):
            if not getattr(self, name) > 0:
                raise ValueError(f"link profile {self.name!r}: {name} is {getattr(self, name)}, but must be more than 0 bit/s")  # fmt: skip
        if not self.loss < 1:
            raise ValueError(f"link profile {self.name!r}: loss is {self.loss}, but must be less than 1")  # fmt: skip

    @property
    def rto(self) -> float:
        """Seconds after which TCP sends a lost segment again.

        RFC 6298, 2: the smoothed round trip and four times its variation, at least a second. The clock granularity
        and the first sample are left out: a link has the RTO of a connection that has been open for a while.
        """
        return max(1.0, self.round_trip + 4 * self.jitter)

    @property
    def round_trip(self) -> float:
        """Mean seconds to the other end and back, for an empty segment."""
        return 2 * (self.latency + self.jitter)

    @property
    def straight(self) -> bool:
        """Whether it does nothing to a connection."""
        return self.down == self.up == inf and not any(getattr(self, name) for name in _DOES)


_DOES = ("latency", "jitter", "loss", "reset_per_hour", "hole_per_hour", "attach_seconds")
_NOT_NEGATIVE = (*_DOES, "hole_seconds")


def custom(base: Profile, **changes: object) -> Profile:
    """A profile like another, with changes.

    Raises:
        ValueError: There is no such figure, or it is impossible.
    """
    known = [field.name for field in fields(Profile)]
    for name in changes:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
            raise ValueError(f"a link profile has no {name!r}{hint}")
    try:
        return replace(base, **changes)  # type: ignore[arg-type]  # checked by Profile
    except TypeError as error:
        raise ValueError(f"a link profile's figures are numbers: {error}") from None


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("none"),
        Profile(
            "2g-gprs", latency=0.25, jitter=0.05, down=50 * _K, up=50 * _K, loss=0.02,
            reset_per_hour=0.1, hole_per_hour=0.2, hole_seconds=20.0, attach_seconds=2.0, radio=GSM,
        ),
        Profile(
            "2g-edge", latency=0.15, jitter=0.03, down=250 * _K, up=250 * _K, loss=0.015,
            reset_per_hour=0.1, hole_per_hour=0.2, hole_seconds=20.0, attach_seconds=2.0, radio=GSM,
        ),
        Profile(
            "nbiot-nb1", latency=0.8, jitter=0.4, down=26 * _K, up=62 * _K, loss=0.01,
            reset_per_hour=0.1, hole_per_hour=0.2, hole_seconds=30.0, attach_seconds=2.0, radio=NB_IOT,
        ),
        Profile(
            "nbiot-nb2", latency=0.8, jitter=0.4, down=127 * _K, up=159 * _K, loss=0.01,
            reset_per_hour=0.1, hole_per_hour=0.2, hole_seconds=30.0, attach_seconds=2.0, radio=NB_IOT,
        ),
        Profile(
            "ltem-m1", latency=0.05, jitter=0.015, down=1 * _M, up=1 * _M, loss=0.005,
            reset_per_hour=0.05, hole_per_hour=0.1, hole_seconds=15.0, attach_seconds=1.0, radio=LTE_M,
        ),
        Profile(
            "wifi", latency=0.02, jitter=0.004, down=30 * _M, up=30 * _M, loss=0.002,
            reset_per_hour=0.02, attach_seconds=0.3, radio=WIFI,
        ),
    )
}  # fmt: skip
"""By name. Take one device's link and change it with `custom`."""
