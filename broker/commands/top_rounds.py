"""What a server tells of itself below `$SYS`, round after round, as numbers and as what they grew by.

Figures come in rounds, each `topics.sys_interval` seconds, and of a round only what has changed. Who
subscribes gets the last round as retained messages, which do not say how old they are: there the server's
own uptime is the clock, in whole seconds as it is.

Pure: texts by topic in, numbers out.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SYS = "$SYS/broker/"
"""Below it are the figures that every Mosquitto has, too."""

FEED = "feed/"
"""Begins the names of figures of a feed; all others are MQTT's."""

KEPT = 600
"""Rounds that are remembered: more than the widest terminal shows."""

_GATEWAYS = "feed/sys/"
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?: seconds)?")
_LEAST_UPTIME = 3.0
"""Seconds by which the uptime must have grown to be a clock."""
_ANEW = 0.5
"""Seconds between two rounds of a server that does not tell its uptime."""
_TYPICAL_OF = 9
_VERSION_LENGTH = 40


def gateways(texts: Mapping[str, str], prefix: str = "") -> list[str]:
    """The gateways that tell figures beside an outside broker, by name."""
    above = prefix + _GATEWAYS
    below = (topic.removeprefix(above) for topic in texts if topic.startswith(above))
    return sorted({path.partition("/")[0] for path in below if "/" in path})


def figures(texts: Mapping[str, str], prefix: str = "", gateway: str = "") -> dict[str, str]:
    """The figures in texts by topic, as texts by name.

    Args:
        texts: What was heard.
        prefix: What stands before all topics of the feed.
        gateway: Whose feed is meant; "" = the broker's own.
    """
    feed = f"{prefix}{_GATEWAYS}{gateway}/" if gateway else SYS + FEED
    found = {FEED + t.removeprefix(feed): text for t, text in texts.items() if t.startswith(feed)}
    for topic, text in texts.items():
        if topic.startswith(SYS) and not topic.startswith(SYS + FEED):
            found[topic.removeprefix(SYS)] = text
    return found


@dataclass(frozen=True, slots=True)
class Round:
    """What was known after one round.

    Attributes:
        at: When it came, seconds on any clock that does not go back.
        numbers: All figures that are numbers, by name.
        dated: Whether it was told when it came, and not retained from before.
    """

    at: float
    numbers: Mapping[str, float]
    dated: bool

    @property
    def uptime(self) -> float | None:
        """Seconds since the start of the server, or of the gateway."""
        return self.numbers.get("feed/uptime", self.numbers.get("uptime"))


class Rounds:
    """The last rounds of one server.

    Attributes:
        version: What it says that it is; "" if it does not.
    """

    def __init__(self) -> None:
        self.version = ""
        self._rounds: deque[Round] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        return len(self._rounds)

    def add(self, told: Mapping[str, str], at: float, *, dated: bool) -> None:
        """All that is known by now; without a new uptime it completes the round before.

        Args:
            told: Figures as `figures` returns them.
            at: When the last of them came.
            dated: Whether they were told then, and not retained.
        """
        self.version = _printable(told.get("feed/version", told.get("version", "")))
        numbers = {name: n for name, text in told.items() if (n := _number(text)) is not None}
        new = Round(at, numbers, dated)
        if self._rounds and _same(self._rounds[-1], new):
            former = self._rounds.pop()
            new = Round(former.at, numbers, former.dated)
        self._rounds.append(new)

    # ---- The last round

    @property
    def at(self) -> float | None:
        """When the last round came."""
        return self._rounds[-1].at if self._rounds else None

    @property
    def dated(self) -> bool:
        """Whether it was told then; else it was retained, and may be older."""
        return bool(self._rounds) and self._rounds[-1].dated

    @property
    def uptime(self) -> float | None:
        """Seconds, as of the last round."""
        return self._rounds[-1].uptime if self._rounds else None

    @property
    def numbers(self) -> Mapping[str, float]:
        """All numbers of the last round, by name."""
        return self._rounds[-1].numbers if self._rounds else {}

    def number(self, name: str) -> float | None:
        """A figure; None if it is not told."""
        return self.numbers.get(name)

    def tells(self, *names: str) -> bool:
        """Whether one of these figures is told."""
        return any(name in self.numbers for name in names)

    # ---- Growth

    @property
    def interval(self) -> float | None:
        """Seconds between two rounds, of late; None before there are two."""
        dated = [each.at for each in list(self._rounds)[-_TYPICAL_OF:] if each.dated]
        steps = [later - sooner for sooner, later in pairwise(dated)]
        return median(steps) if steps else None

    def rate(self, name: str) -> float | None:
        """By how much a counter grows in a second, by the last two rounds.

        Before there are two, it is what the server itself averages over a minute, where it does.
        """
        found = self.rates(name, 1)
        return found[-1] if found and found[-1] is not None else self._averaged(name)

    def rates(self, name: str, last: int) -> Sequence[float | None]:
        """The same for the last rounds, oldest first; None where nobody knows."""
        rounds = list(self._rounds)[-last - 1 :]
        found = [_growth(former, later, name) for former, later in pairwise(rounds)]
        if rounds and len(rounds) <= last:
            found.insert(0, self._averaged(name) if len(rounds) == 1 else None)
        return found

    def values(self, name: str, last: int) -> Sequence[float | None]:
        """A figure in the last rounds, oldest first; None where it was not told."""
        return [each.numbers.get(name) for each in list(self._rounds)[-last:]]

    def _averaged(self, name: str) -> float | None:
        above = FEED if name.startswith(FEED) else ""
        path = name.removeprefix(above).replace("publish/messages/", "publish/")
        minute = self.numbers.get(f"{above}load/{path}/1min")
        return None if minute is None else minute / 60.0


def _same(former: Round, later: Round) -> bool:
    """Whether both are one round: it came in pieces, or once more as retained messages."""
    if former.uptime is None or later.uptime is None:
        return later.at - former.at < _ANEW
    return former.uptime == later.uptime


def _growth(former: Round, later: Round, name: str) -> float | None:
    before, now = former.numbers.get(name), later.numbers.get(name)
    passed = _passed(former, later)
    if before is None or now is None or passed is None or now < before:
        return None
    return (now - before) / passed


def _passed(former: Round, later: Round) -> float | None:
    """Seconds between two rounds; None if nobody knows, or the server was started in between."""
    passed = later.at - former.at
    if former.uptime is not None and later.uptime is not None:
        up = later.uptime - former.uptime
        if up < 0:
            return None
        if not (former.dated and later.dated):
            return up if up >= _LEAST_UPTIME else None
    elif not (former.dated and later.dated):
        return None
    return passed if passed > 0 else None


def _number(text: str) -> float | None:
    found = _NUMBER.fullmatch(text)
    return None if found is None else float(found[1])


def _printable(text: str) -> str:
    """It is the server's, the terminal is the operator's."""
    return "".join(c for c in text[:_VERSION_LENGTH] if c.isprintable())
