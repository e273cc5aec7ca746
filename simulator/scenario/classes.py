"""From the classes of a scenario to single devices. Pure and seeded."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from simulator.fleet import DeviceSpec, Sleep
from simulator.scenario.model import EVERYBODY
from simulator.scenario.tables import expanded, profile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from simulator.scenario.model import Scenario
    from simulator.scenario.tables import DeviceClass


class TooFew(ValueError):  # noqa: N818 - said of the devices
    """There are fewer devices than the classes with a fixed count ask for."""


def sizes(classes: Sequence[DeviceClass], devices: int) -> dict[str, int]:
    """How many devices each class has.

    Classes with a `count` have that many; the others divide the rest by their shares (the method of the largest
    remainder, Hamilton's), each at least one as far as they go.

    Raises:
        TooFew: The counts alone are more than there shall be devices.
    """
    fixed = {one.name: one.count for one in classes if one.count is not None}
    left = devices - sum(fixed.values())
    shared = [one for one in classes if one.count is None and one.share > 0]
    if left < len(shared):
        raise TooFew(
            f"{devices} devices are too few: the classes with a count have {devices - left}, "
            f"and each of the other {len(shared)} needs one"
        )
    whole = sum(one.share for one in shared)
    parts = {one.name: (left - len(shared)) * one.share / whole for one in shared}
    counts = {name: 1 + int(part) for name, part in parts.items()}
    by_remainder = sorted(parts, key=lambda name: int(parts[name]) - parts[name])
    for name in by_remainder[: left - sum(counts.values())]:
        counts[name] += 1
    every = fixed | counts
    return {one.name: every.get(one.name, 0) for one in classes}


def specs(scenario: Scenario, devices: int, seed: int) -> list[DeviceSpec]:
    """All devices, class by class.

    Raises:
        TooFew: See `sizes`.
    """
    counts = sizes(scenario.classes, devices)
    found: list[DeviceSpec] = []
    people = 0
    for one in scenario.classes:
        rng = Random(f"{seed}/{one.name}")  # noqa: S311 - no secret
        offsets = _offsets(one, counts[one.name], rng)
        for number, sleep in enumerate(offsets, start=1):
            found.append(_spec(one, number, sleep, people if one.people else None))
            people += one.people
    return found


def _spec(one: DeviceClass, number: int, sleep: Sleep | None, person: int | None) -> DeviceSpec:
    return DeviceSpec(
        f"{one.name}-{number}",
        None if one.follow is None else tuple(_in_turn(text, number) for text in one.follow),
        one.k,
        one.budget,
        one.qos,
        kind=one.name,
        attrs=one.attrs,
        clean=one.clean,
        clock=one.clock,
        link=profile(one.link),  # also where it does nothing: then bytes are counted as by a modem
        sleep=sleep,
        messages=one.messages,
        person=person,
        stall=one.stall,
    )


def _in_turn(text: str, number: int) -> str:
    """Which of the filters that one with a range stands for a device of this number follows."""
    filters = expanded(text)
    return filters[number % len(filters)]


def _offsets(one: DeviceClass, count: int, rng: Random) -> list[Sleep | None]:
    """When each sleeps: wakings spread evenly over the period, in random order."""
    if one.sleep is None:
        return [None] * count
    period = one.sleep.period
    offsets = [(place + rng.random()) * period / count for place in range(count)]
    rng.shuffle(offsets)
    return [Sleep(period, one.sleep.awake, offset) for offset in offsets]


def chosen(
    names: Iterable[str], share: float, members: Mapping[str, Sequence[str]], rng: Random
) -> list[str]:
    """The devices of these classes (or of all), or a share of them drawn at random.

    Args:
        names: Of classes, or `EVERYBODY`.
        share: 0 to 1.
        members: Devices by class.
        rng: What draws.
    """
    wanted = [*members] if EVERYBODY in names else [*names]
    devices = [device for name in wanted for device in members[name]]
    return devices if share >= 1 else rng.sample(devices, round(share * len(devices)))


def sample(members: Mapping[str, Sequence[str]], most: int) -> list[str]:
    """At most about so many devices, evenly of each class and at least two of each that has two."""
    whole = sum(map(len, members.values()))
    found: list[str] = []
    for devices in members.values():
        wanted = min(max(round(most * len(devices) / max(whole, 1)), 2), len(devices))
        found += [devices[place * len(devices) // wanted] for place in range(wanted)]
    return found
