"""The people of a run: one in front of each device of a class that has them, on the clock of the fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.audience import Audience
from simulator.offerings import Market, Stream
from simulator.people import People, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simulator.audience import Viewer
    from simulator.fleet import DeviceSpec, Fleet

MORNING = 1_767_250_800.0
"""When the day of the people begins, Unix seconds: 1 January 2026, 07:00 UTC. The same in every run, as people are not
the same at every hour."""


LOOKS = 24.0
"""How often a person looks in a day, in the median: as at a phone. A run has to be about something within minutes."""


class Crowd(Audience):
    """An audience that goes home before the windows are judged: what it does moves them.

    Args:
        people: How many.
        stream: What the numbers of items mean.
        seed: Of everything that they do.
    """

    def __init__(self, people: int, stream: Stream, seed: int) -> None:
        settings = Settings(looks=LOOKS)
        super().__init__(People(seed, people, stream.market, settings), stream, start=MORNING)
        self._present = True

    def tick(self, elapsed: float, step: float, viewers: Mapping[int, Viewer]) -> None:
        """People look, and do what they were about to do, while they are there."""
        if self._present:
            super().tick(elapsed, step, viewers)

    def leave(self) -> None:
        """Nobody looks any more."""
        self._present = False


def crowd(specs: Sequence[DeviceSpec], seed: int) -> Crowd | None:
    """The people in front of these devices; None if there are none."""
    people = sum(spec.person is not None for spec in specs)
    return Crowd(people, Stream(seed, Market()), seed) if people else None


def viewers(fleet: Fleet) -> dict[int, Viewer]:
    """Devices by the person in front of them."""
    return {
        device.spec.person: device
        for device in fleet.devices.values()
        if device.spec.person is not None
    }
