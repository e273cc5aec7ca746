"""The nouns: a case, what came of it, and how a case says so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from simulator.device_check.bench import Bench
    from simulator.device_check.exchange import Noted


class Status(StrEnum):
    """What came of a case.

    Attributes:
        PASS: The device did what the requirement asks.
        WARN: It works, but a fleet of such devices may hurt.
        FAIL: It broke the requirement.
        NOT_APPLICABLE: The device does not use what the case is about, or the run could not wait that long.
    """

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    NOT_APPLICABLE = "n/a"


class Where(StrEnum):
    """Beside which server a case makes sense."""

    ANYWHERE = "anywhere"
    EMBEDDED = "embedded"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is tried.

    Attributes:
        id: Its name on the command line and in reports, like `puback-qos1`.
        title: What a right device does, in a few words.
        requirement: Where it is asked for: a section of the protocol page, or of MQTT 3.1.1.
        run: Tries it; returns the sentence of a pass, or raises `Verdict`.
        fresh: The case begins with a device that was just switched on, where we can do that: its pauses
            between tries have not grown yet.
        where: Beside which server it makes sense.
        seconds: About how long it takes, to begin the longest first.
    """

    id: str
    title: str
    requirement: str
    run: Callable[[Bench], Awaitable[str]]
    fresh: bool = False
    where: Where = Where.ANYWHERE
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case.

    Attributes:
        case: Which one.
        status: How it ended.
        sentence: What was seen.
        exchange: The packets, in both directions.
        seconds: How long it took.
    """

    case: Case
    status: Status
    sentence: str
    exchange: tuple[Noted, ...] = ()
    seconds: float = 0.0


class Verdict(Exception):  # noqa: N818 - it ends a case, which is no error of ours
    """A case ends with another word than pass."""

    def __init__(self, status: Status, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class NoDeviceError(Exception):
    """Nothing to check: no device came, or its program does not run; the sentence says what to do."""


def failed(sentence: str) -> Verdict:
    """The device broke the requirement; to be raised."""
    return Verdict(Status.FAIL, sentence)


def warned(sentence: str) -> Verdict:
    """It works, but; to be raised."""
    return Verdict(Status.WARN, sentence)


def not_applicable(sentence: str) -> Verdict:
    """It does not concern this device, or this run; to be raised."""
    return Verdict(Status.NOT_APPLICABLE, sentence)
