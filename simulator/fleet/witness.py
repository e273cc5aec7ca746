"""What may be told of a fleet: to an observer frame by frame, to a chart second by second, to a report in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from devices.replica import Received
    from simulator.facts import Finding


class Observer(Protocol):
    """Told of everything that a judge needs; `simulator.checker.Checker` is one. Topics come without a prefix."""

    def frame(
        self,
        device: str,
        topic: str,
        data: bytes,
        received: Received | None,
        *,
        late: bool = False,
    ) -> None:
        """A device received a PUBLISH; `received` is None if it did not apply it, `late` says that it has DUP."""

    def dismissed(self, device: str, n: int) -> None:
        """A device has sent that an item was dismissed."""

    def profile(
        self, device: str, follow: Sequence[str], attributes: Mapping[str, object]
    ) -> Callable[[], None]:
        """A device says all that it follows and is; to be called when that is acknowledged."""

    def report(self, finding: Finding) -> None:
        """Something that a device could judge alone."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What devices used, as their modems and batteries would say; see `simulator.links`.

    Attributes:
        devices: How many there are.
        down: Bytes over the air. Of devices without a link: of their MQTT connections alone.
        up: Likewise.
        packets_down: TCP segments; 0 for devices without a link.
        packets_up: Likewise.
        joules: Energy of the radio; 0 for devices without a link.
        device_seconds: Simulated seconds times devices.
    """

    devices: int = 0
    down: int = 0
    up: int = 0
    packets_down: int = 0
    packets_up: int = 0
    joules: float = 0.0
    device_seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.devices + other.devices,
            self.down + other.down,
            self.up + other.up,
            self.packets_down + other.packets_down,
            self.packets_up + other.packets_up,
            self.joules + other.joules,
            self.device_seconds + other.device_seconds,
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """A fleet at one moment.

    Attributes:
        at: Real seconds since its start.
        connected: Devices that are subscribed.
        asleep: Devices that sleep by their schedule.
        dark: Devices whose battery is exhausted.
        off: Devices that were taken away, or not brought yet.
        frames: PUBLISHes received since the last sample.
        down: Bytes since the last sample, as of `Usage`.
        up: Likewise.
        newest: By class, the mean age of the newest item in a window, real seconds; without classes that show none
            whose time of publication is known.
    """

    at: float
    connected: int
    asleep: int
    dark: int
    off: int
    frames: int
    down: int
    up: int
    newest: Mapping[str, float] = field(default_factory=dict)
