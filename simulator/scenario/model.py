"""What a scenario file may say: the one validated model of it, each key with its default, bounds, unit and meaning.

`loading` makes it from TOML and says what is wrong; `timeline` puts it on a clock; `tables` has classes and publishers.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from devices.packets import valid_topic
from simulator.fleet.fleet import AT_ONCE_LINKED
from simulator.scenario.tables import (
    DAY,
    LONGEST_TTL,
    DeviceClass,
    Name,
    Publisher,
    Seconds,
    Share,
    Table,
    profile,
)
from simulator.scenario.words import near

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERYBODY = "*"
"""As `who`: all devices."""
FEEDBACK = "feedback"
"""As `who` of a spike: what devices say of items."""


class Head(Table):
    """What is tried, and how often the same."""

    name: Name = Field(description="Of the scenario, and of its report.")
    about: str = Field(max_length=600, description="What it is to show, in a sentence or two.")
    devices: int = Field(
        default=2_000, ge=1, le=50_000, description="How many there are; --devices overrides it."
    )
    seed: int = Field(
        default=1, ge=0, le=2**32 - 1, description="Of everything drawn; --seed overrides it."
    )
    seconds: Seconds | None = Field(
        default=None,
        ge=5,
        le=DAY,
        description="How long all phases take together: they and the faults are stretched to it, as "
        "by --seconds.",
    )
    speed: float = Field(
        default=1.0,
        ge=1,
        le=3_600,
        description="Simulated seconds per second, for sleep schedules, people and energy. Links "
        "and the server stay as they are.",
    )
    feedback: Share = Field(
        default=0.0,
        description="Reactions per device and second, to items that it shows, where nobody is in front of any device.",
    )
    at_once: int = Field(
        default=AT_ONCE_LINKED,
        ge=1,
        le=50_000,
        description="Connections that the fleet makes at a time; a storm in earnest needs as many as there are devices.",
    )


class Server(Table):
    """What the devices connect to, unless --target names something that runs already."""

    nodes: int = Field(
        default=1, ge=1, le=5, description="So many nodes over one Redis Cluster; 1: one server."
    )
    settings: dict[str, Any] = Field(
        default={},
        description="Settings of fleetfeed, as in its own file: [server.settings.feed] …",
    )


class Phase(Table):
    """A part of the run."""

    name: Annotated[str, Field(min_length=1, max_length=40)] = Field(description="For people.")
    seconds: Seconds = Field(gt=0, le=DAY, description="How long it takes.")
    ramp: Seconds | None = Field(
        default=None,
        ge=0,
        description="At its start all devices that are away come back, spread over so many seconds. "
        "The first phase has one of 10 s if it does not say.",
    )
    rates: dict[str, Annotated[float, Field(ge=0, le=1_000)]] = Field(
        default={},
        description="Publisher to a factor on its rate: 0 is silent, 10 ten times as much.",
    )


Happening: TypeAlias = Literal[
    "kill", "restart", "stop-start", "outage", "sleep", "power-loss", "hole", "reset", "storm",
    "relink", "stall", "spike", "burst", "poison",
]  # fmt: skip

TO_SERVER = frozenset({"kill", "restart", "stop-start"})
TO_DEVICES = frozenset(
    {"outage", "sleep", "power-loss", "hole", "reset", "storm", "relink", "stall"}
)
TO_PUBLISHERS = frozenset({"spike"})


class Fault(Table):
    """Something that goes wrong, or happens, at a moment."""

    do: Happening = Field(description="What happens; see the list below.")
    at: Seconds = Field(
        ge=0,
        le=DAY,
        description="Seconds from the start of the run, or of the phase that is named.",
    )
    phase: str | None = Field(default=None, description="The phase that `at` counts from.")
    seconds: Seconds = Field(default=1.0, ge=0, le=DAY, description="How long it is so.")
    who: str | tuple[str, ...] = Field(
        default=EVERYBODY,
        description="Classes of devices that it happens to, or for `spike` publishers, and `feedback`; * is all.",
    )
    share: Share = Field(default=1.0, description="Of these so many, drawn by the seed.")
    over: Seconds = Field(
        default=2.0, ge=0, le=DAY, description="Those who come back do so over so many seconds."
    )
    node: int | None = Field(
        default=None, ge=1, le=5, description="Which node; unset: each in turn."
    )
    link: str | dict[str, Any] | None = Field(default=None, description="For `relink`: to what.")
    factor: float = Field(
        default=10.0, gt=0, le=1_000, description="For `spike`: so many times as many items."
    )
    count: int = Field(default=1, ge=1, le=1_000, description="For `burst` and `poison`: items.")
    channel: str = Field(default="alerts/city", description="For `burst` and `poison`: where.")
    priority: int = Field(default=3, ge=0, le=3, description="For `burst` and `poison`.")
    ttl: Seconds = Field(
        default=600.0, ge=1, le=LONGEST_TTL, description="For `burst` and `poison`."
    )

    @field_validator("channel")
    @classmethod
    def _check_channel(cls, value: str) -> str:
        if not value or not valid_topic(f"items/{value}"):
            raise ValueError(f"{value!r} is no channel: topic levels without + and #")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.do == "relink") != (self.link is not None):
            raise ValueError("`link` belongs to `relink`, and `relink` needs it")
        if self.link is not None:
            profile(self.link)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Whom it happens to, as a list."""
        return (self.who,) if isinstance(self.who, str) else self.who


class ClassBounds(Table):
    """What is expected of one class."""

    p50_latency: float | None = Field(
        default=None,
        gt=0,
        description="Seconds from publishing to the window, for half of the items.",
    )
    p99_latency: float | None = Field(default=None, gt=0, description="The same for 99 of 100.")
    wake_up_p99: float | None = Field(
        default=None,
        gt=0,
        description="Seconds from connecting to a right window, for 99 of 100 connections.",
    )
    joules_per_day: float | None = Field(
        default=None, gt=0, description="Energy of the radio per device and day, at most."
    )
    bytes_per_day: float | None = Field(
        default=None, gt=0, description="Bytes over the air per device and day, at most."
    )


class Expect(ClassBounds):
    """What must hold beside G1 to G6."""

    urgent_p99: float | None = Field(
        default=None,
        gt=0,
        description="Seconds from publishing an urgent item to the windows of those who were "
        "connected, for 99 of 100.",
    )
    converged_within: float | None = Field(
        default=None,
        gt=0,
        description="Seconds until every device shows its feed, once all is said.",
    )
    lost: int = Field(default=0, ge=0, le=0, description="Items lost: none. It is always checked.")
    urgent_ratio: float | None = Field(
        default=None,
        gt=1,
        description="The p99 of urgent items in each phase, as a multiple of what it was in the last phase before "
        "anything goes wrong.",
    )
    recovered_within: float | None = Field(
        default=None,
        gt=0,
        description="Seconds from the end of the last fault until the server says that it gives up nothing any more: "
        "overload level 0, nobody and nothing held.",
    )
    back_within: float | None = Field(
        default=None,
        gt=0,
        description="Seconds from the end of the last fault until all devices are connected that were before the "
        "first.",
    )
    acknowledged_within: float | None = Field(
        default=None, gt=0, description="Seconds until PUBACK, for 99 of 100 items."
    )
    exhausted: Share | None = Field(
        default=None, description="Share of the devices with a battery that may be used up at most."
    )
    poison_at_least: int | None = Field(
        default=None, ge=1, description="Items that the server must have set aside as poison."
    )
    better_than_newest: bool = Field(
        default=False,
        description="Whether windows must be worth more to people than the newest items would be.",
    )
    classes: dict[str, ClassBounds] = Field(
        default={}, alias="class", description="The same bounds for one class: [expect.class.NAME]."
    )


class Scenario(Table):
    """A whole file, valid."""

    scenario: Head
    server: Server = Server()
    classes: tuple[DeviceClass, ...] = Field(alias="class", min_length=1, max_length=32)
    publishers: tuple[Publisher, ...] = Field(alias="publisher", default=(), max_length=16)
    phases: tuple[Phase, ...] = Field(alias="phase", min_length=1, max_length=32)
    faults: tuple[Fault, ...] = Field(alias="fault", default=(), max_length=64)
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for word, names in (
            ("classes", [one.name for one in self.classes]),
            ("publishers", [one.name for one in self.publishers]),
            ("phases", [one.name for one in self.phases]),
        ):
            twice = [name for name, times in Counter(names).items() if times > 1]
            if twice:
                raise ValueError(f"two {word} are called {twice[0]!r}")
        return self

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        classes = [one.name for one in self.classes]
        publishers = [one.name for one in self.publishers]
        phases = [one.name for one in self.phases]
        for phase in self.phases:
            _known("publisher", phase.rates, publishers, f"rates of the phase {phase.name!r}")
        for number, fault in enumerate(self.faults, 1):
            where = f"fault {number} ({fault.do})"
            _known("phase", [fault.phase] if fault.phase else [], phases, where)
            if fault.do in TO_DEVICES:
                _known("class", set(fault.names) - {EVERYBODY}, classes, where)
            if fault.do in TO_PUBLISHERS:
                _known("publisher", set(fault.names) - {EVERYBODY, FEEDBACK}, publishers, where)
            if fault.node is not None and fault.node > self.server.nodes:
                raise ValueError(
                    f"{where}: there is no node {fault.node}, `nodes` is {self.server.nodes}"
                )
        _known("class", self.expect.classes, classes, "expect")
        return self

    @model_validator(mode="after")
    def _check_sense(self) -> Self:
        if not any(one.share for one in self.classes if one.count is None) and all(
            one.count is None for one in self.classes
        ):
            raise ValueError("every class has share 0: there would be no device")
        people = any(one.people for one in self.publishers)
        if any(one.people for one in self.classes) and not people:
            raise ValueError(
                "a class has people, but no publisher has `people = true`: nobody knows what they feel"
            )
        if self.expect.better_than_newest and not people:
            raise ValueError(
                "better_than_newest needs a class and a publisher with `people = true`"
            )
        return self


def _known(what: str, names: Iterable[str], known: list[str], where: str) -> None:
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none"
            raise ValueError(
                f"{where}: there is no {what} {name!r}{near(name, known)}; there are {there}"
            )
