"""What of a server an operator should look at, in words: the second line of `fleetfeed top`.

Pure. Whatever is not said is well, or not told.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from broker.commands.top_text import duration, exact

if TYPE_CHECKING:
    from broker.commands.top_rounds import Rounds

LEVELS = (
    "normal",
    "changes wait for others",
    "windows are less diverse",
    "items rank the same for all devices",
    "items below high priority wait",
    "publishers that send most are not read",
)
"""What each level of overload gives up."""

RUNGS = ("what is learned", "a former version", "popularity", "newest first")
"""What ranks, by the rung of the ladder."""

_SEVERE = 4
_LATE = 3.0
"""Intervals without a round that are too many."""
_UNKNOWN_INTERVAL = 30.0
_LEAST_LATE = 5.0


class Tone(StrEnum):
    """How it looks: a colour."""

    WELL = "green"
    CARE = "yellow"
    BAD = "bold red"


@dataclass(frozen=True, slots=True)
class Scene:
    """One moment.

    Attributes:
        where: The server's address.
        rounds: What it told.
        now: Seconds, on the clock of the rounds.
        connected: Whether there is a connection.
        gateway: The gateway whose feed it is; "" = the server's own.
        others: Further gateways beside the same broker.
        advice: Why nothing may have been told, for as long as nothing was.
    """

    where: str
    rounds: Rounds
    now: float
    connected: bool = True
    gateway: str = ""
    others: tuple[str, ...] = ()
    advice: str = ""

    @property
    def age(self) -> float | None:
        """Seconds since the last round."""
        return None if self.rounds.at is None else max(self.now - self.rounds.at, 0.0)

    @property
    def late(self) -> bool:
        """Whether the next round should have come long ago."""
        typical = self.rounds.interval or _UNKNOWN_INTERVAL
        return self.age is not None and self.age > max(_LATE * typical, _LEAST_LATE)


def level_tone(level: float) -> Tone:
    """How a level of overload looks."""
    return Tone.WELL if level < 1 else Tone.CARE if level < _SEVERE else Tone.BAD


def concerns(scene: Scene) -> list[tuple[Tone, str]]:
    """What is not as it should be, the worst first; empty if all is well."""
    found = [*_of_the_connection(scene), *_of_the_feed(scene.rounds)]
    return sorted(found, key=lambda each: each[0] is not Tone.BAD)


def _of_the_connection(scene: Scene) -> list[tuple[Tone, str]]:
    if not scene.connected:
        return [(Tone.BAD, "lost the server, trying again")]
    if scene.late and scene.age is not None:
        return [(Tone.BAD, f"no news for {duration(scene.age)}")]
    return []


def _of_the_feed(rounds: Rounds) -> list[tuple[Tone, str]]:
    found = []
    number = rounds.number
    if number("feed/up") == 0:
        found.append((Tone.BAD, "the gateway is gone"))
    if number("feed/store/up") == 0:
        found.append((Tone.BAD, "the store is down: items are not acknowledged"))
    if level := int(number("feed/overload/level") or 0):
        words = LEVELS[level] if level < len(LEVELS) else "of a later version"
        found.append((level_tone(level), f"overload {level}: {words}"))
    if rounds.rate("feed/errors/total"):
        found.append((Tone.BAD, "errors of the server: see its log"))
    if stalled := number("feed/devices/stalled"):
        found.append((Tone.CARE, f"{exact(stalled)} stalled"))
    if number("feed/ranking/alarms"):
        found.append((Tone.CARE, "the ranking's model has alarms"))
    if rounds.rate("feed/items/rejected"):
        found.append((Tone.CARE, "items are refused"))
    if rounds.rate("feed/frames/dropped"):
        found.append((Tone.CARE, "frames are given up"))
    if rounds.rate("feed/queue/evicted") or rounds.rate("publish/messages/dropped"):
        found.append((Tone.CARE, "messages are dropped"))
    return found
