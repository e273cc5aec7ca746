"""A fleet in figures: what devices used, and how it stands at a moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from simulator.fleet.spec import State
from simulator.fleet.witness import Sample, Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from simulator.fleet.device import Device
    from simulator.tally import Tally


def usage(
    devices: Collection[Device], tallies: Mapping[str, Tally], elapsed: float
) -> dict[str, Usage]:
    """What devices used by class, until `elapsed` simulated seconds after their start."""
    used = {
        kind: Usage(down=tally.plain_down, up=tally.plain_up) for kind, tally in tallies.items()
    }
    for device in devices:
        used[device.spec.kind] += _used(device, elapsed)
    return used


def _used(device: Device, elapsed: float) -> Usage:
    link = device.link
    if link is None:
        return Usage(devices=1, device_seconds=elapsed)
    sleep = device.spec.sleep
    duty = 1.0 if sleep is None else sleep.awake / sleep.period
    meter, joules = link.meter, link.joules(elapsed, duty)
    return Usage(1, meter.down, meter.up, meter.packets_down, meter.packets_up, joules, elapsed)


class Sampler:
    """Looks at devices now and then; what is counted is counted since the last look."""

    def __init__(self, devices: Collection[Device], tallies: Mapping[str, Tally]) -> None:
        self._devices = devices
        self._tallies = tallies
        self._before = (0, 0, 0)

    def sample(self, at: float) -> Sample:
        """How things stand, `at` real seconds after the start."""
        states = dict.fromkeys(State, 0)
        for device in self._devices:
            states[device.state] += 1
        counts = self._counts()
        before, self._before = self._before, counts
        frames, down, up = (now - then for now, then in zip(counts, before, strict=True))
        return Sample(
            at=at,
            connected=sum(device.subscribed for device in self._devices),
            asleep=states[State.ASLEEP],
            dark=states[State.DARK],
            off=states[State.OFF],
            frames=frames,
            down=down,
            up=up,
            newest=self._newest(time.perf_counter()),
        )

    def _counts(self) -> tuple[int, int, int]:
        """Frames, bytes down, bytes up so far; of devices without a link what their connections carried."""
        meters = [device.link.meter for device in self._devices if device.link is not None]
        tallies = self._tallies.values()
        return (
            sum(tally.messages_down for tally in tallies),
            sum(tally.plain_down for tally in tallies) + sum(meter.down for meter in meters),
            sum(tally.plain_up for tally in tallies) + sum(meter.up for meter in meters),
        )

    def _newest(self, now: float) -> dict[str, float]:
        """By class, the mean age of the newest item in a window; each age is counted."""
        ages: dict[str, list[float]] = {}
        for device in self._devices:
            if device.timing.newest:
                age = now - device.timing.newest
                device.tally.freshness.add(age)
                ages.setdefault(device.spec.kind, []).append(age)
        return {kind: sum(each) / len(each) for kind, each in ages.items()}
