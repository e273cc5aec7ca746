"""Who takes part in a scenario: classes of devices and publishers, with what their tables have in common.

Durations are seconds, as numbers or as texts such as "90s", "15m", "4h", "1d".
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from devices.mqtt_types import valid_filter
from devices.packets import valid_topic
from simulator.links.profiles import PROFILES, Profile, custom
from simulator.scenario.words import near

_NAME = r"^[a-z0-9][a-z0-9-]{0,31}$"
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_RANGE = re.compile(r"\{(\d{1,5})\.\.(\d{1,5})\}")
_MOST_CHANNELS = 10_000
DAY = 86_400
LONGEST_TTL = 30 * DAY


def _seconds(value: Any) -> Any:
    """A duration as a number; what is none is left for validation to refuse."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return float(match[1]) * _UNITS[match[2]]
    return value


def expanded(text: str) -> list[str]:
    """The texts that one with a range stands for: `site/{1..3}` for three, one without for itself.

    Raises:
        ValueError: There are two ranges, or one is empty or too long.
    """
    ranges = _RANGE.findall(text)
    if not ranges:
        return [text]
    first, last = map(int, ranges[0])
    if len(ranges) > 1 or not first <= last < first + _MOST_CHANNELS:
        raise ValueError(
            f"{text!r} must have one range, the smaller number first, of {_MOST_CHANNELS} numbers at most"
        )
    return [_RANGE.sub(str(number), text) for number in range(first, last + 1)]


Seconds: TypeAlias = Annotated[float, BeforeValidator(_seconds)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Name: TypeAlias = Annotated[str, Field(pattern=_NAME)]
Weight: TypeAlias = Annotated[float, Field(ge=0, le=1_000)]


class Table(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SleepSchedule(Table):
    """Sleep in order, and wake up by oneself."""

    period: Seconds = Field(
        ge=1, le=7 * DAY, description="Simulated seconds from one waking to the next."
    )
    awake: Seconds = Field(
        ge=0.1, le=7 * DAY, description="Simulated seconds of it that the device is awake."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.awake >= self.period:
            raise ValueError(
                f"awake ({self.awake:g} s) must be shorter than period ({self.period:g} s)"
            )
        return self


class DeviceClass(Table):
    """Devices that are alike."""

    name: Name = Field(description="Of the class; devices are called `<name>-<number>`.")
    count: int | None = Field(
        default=None, ge=1, le=50_000, description="How many. Without it `share` decides."
    )
    share: Weight = Field(
        default=1.0, description="How many, relative to the shares of the other classes."
    )
    k: int = Field(default=8, ge=1, le=64, description="Items in the window.")
    budget: int = Field(
        default=256, ge=96, le=65_536, description="Bytes of the longest packet that it takes."
    )
    qos: Literal[0, 1] = Field(default=1, description="The highest QoS that it takes.")
    link: str | dict[str, Any] = Field(
        default="none",
        description="Link profile by name, or a table with `base` and what differs from it.",
    )
    sleep: SleepSchedule | None = Field(
        default=None, description="Its sleep schedule; none: always awake."
    )
    messages: int | None = Field(
        default=None,
        ge=1,
        description="PUBLISH packets, either way, that its battery lasts for; then it is dark.",
    )
    attrs: dict[str, str | int] = Field(
        default={}, max_length=16, description="Attributes that it tells the server."
    )
    follow: tuple[str, ...] | None = Field(
        default=None,
        max_length=32,
        description="Filters over channels; unset: the server's default. Of `site/{1..9}` each device "
        "follows one, in turn.",
    )
    people: bool = Field(default=False, description="Whether a person is in front of each.")
    stall: Seconds = Field(
        default=0.0,
        ge=0,
        le=600,
        description="Seconds that it takes before it reads what has come.",
    )
    clean: bool = Field(
        default=False, description="Clean sessions in the place of persistent ones."
    )
    clock: bool = Field(
        default=False, description="Whether it has a clock, and hides what expired."
    )
    fragile: bool = Field(
        default=False,
        description="Whether its firmware crashes on items that are poison, before it acknowledges.",
    )

    @field_validator("link")
    @classmethod
    def _check_link(cls, value: str | dict[str, Any]) -> str | dict[str, Any]:
        profile(value)
        return value

    @field_validator("follow")
    @classmethod
    def _check_follow(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for each in (one for text in value or () for one in expanded(text)):
            if not valid_filter(each):
                raise ValueError(f"{each!r} is no filter over channels, such as alerts/+/ca or #")
        return value


def profile(link: str | dict[str, Any]) -> Profile:
    """The link profile that a class or a fault names.

    Raises:
        ValueError: There is no such profile, or nothing of that name in it.
    """
    base, changes = (link, {}) if isinstance(link, str) else (link.get("base", "none"), dict(link))
    changes.pop("base", None)
    if base not in PROFILES:
        raise ValueError(
            f"there is no link profile {base!r}{near(str(base), PROFILES)}; there are {', '.join(PROFILES)}"
        )
    if not changes:
        return PROFILES[base]
    return custom(PROFILES[base], **changes)


class Publisher(Table):
    """Who publishes items: a real stream, or a generator."""

    name: Name = Field(description="Its client id.")
    stream: str | None = Field(
        default=None,
        description='Real items: "week", "earthquakes", "alerts", or a file as for fleetfeed replay. '
        "They are spread over all phases.",
    )
    rate: float | None = Field(
        default=None,
        gt=0,
        le=5_000,
        description="Items per second: of the generator, or at most of the stream, which is thinned.",
    )
    channels: tuple[str, ...] = Field(
        default=("news",),
        min_length=1,
        max_length=64,
        description="Where the generator publishes; `site/{1..9}` are nine.",
    )
    sizes: tuple[int, int] = Field(default=(24, 120), description="Bytes of payload, from and to.")
    priorities: tuple[Weight, Weight, Weight, Weight] = Field(
        default=(2, 6, 2, 0),
        description="How often low, normal, high, urgent, relative to each other.",
    )
    ttl: Seconds = Field(default=600.0, ge=1, le=LONGEST_TTL, description="Lifetime of its items.")
    brief: bool = Field(
        default=True, description="Whether long payloads have a brief for small devices."
    )
    updates: Share = Field(
        default=0.1, description="Share that are new contents of an earlier item."
    )
    retracts: Share = Field(default=0.0, description="Share that take an earlier item back.")
    poison: Share = Field(default=0.0, description="Share that fragile devices crash on.")
    late: Seconds | None = Field(
        default=None,
        gt=0,
        description="Seconds after which an item that could not be sent is left out, as sensors do that have a newer "
        "value by then; unset: all are sent, however late.",
    )
    people: bool = Field(
        default=False,
        description="Whether its items are of the kind that people have true interests in.",
    )

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        channels = tuple(one for text in value for one in expanded(text))
        for each in channels:
            if not each or not valid_topic(f"items/{each}"):
                raise ValueError(f"{each!r} is no channel: topic levels without + and #")
        return channels

    @field_validator("sizes")
    @classmethod
    def _check_sizes(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 16 <= value[0] <= value[1] <= 32_768:
            raise ValueError("sizes are two numbers of bytes from 16 to 32768, the smaller first")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stream is None and self.rate is None:
            raise ValueError("a publisher needs a `stream`, or a `rate` for its generator")
        if self.stream is not None and self.people:
            raise ValueError(
                "`people` is for generators: nobody knows what people feel about real items"
            )
        if not any(self.priorities):
            raise ValueError("one of the four `priorities` must be above 0")
        return self
