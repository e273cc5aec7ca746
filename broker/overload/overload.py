"""Overload control put together: looks in, decisions out, and what of it people may see."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import exp
from typing import TYPE_CHECKING, Any

from broker.overload.admission import Admission
from broker.overload.delays import Delays
from broker.overload.levels import EFFECTS, Level, Levels
from broker.overload.pace import Pace
from broker.overload.senders import Senders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.config_overload import BudgetSettings, OverloadSettings
    from broker.overload.levels import Effects
    from broker.overload.senders import Source

_NAMED = 20
"""Publishers that are named in the state."""
_MEMORY = 5.0
"""Seconds over which it is taken how many items go to the engine in a second."""
_FEW = 1_000
"""Items that may be held however slow the engine is."""
_UNDONE = 0.5
"""The pressure while items are held: it raises no level, and keeps the first one."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from one look.

    Attributes:
        before: The level until now.
        level: The level from now on.
        again: Publishers and devices that are read again.
    """

    before: Level
    level: Level
    again: Sequence[Source]

    @property
    def changed(self) -> bool:
        """Whether the level is another one."""
        return self.before is not self.level


@dataclass(frozen=True, slots=True)
class State:
    """Everything about overload, for figures and people.

    Attributes:
        level: 0 to 5.
        name: The level's, in lower case.
        seconds: Since it began.
        rises: How often the level rose since the start.
        delays: The last look.
        worst: The highest of each delay since the start.
        items_waiting: Items on their way to the engine.
        items_held: Items of low and normal priority that wait for better times.
        bytes_held: Their payload bytes.
        held_expired: Held items that were over before their turn came.
        superseded: Items that a newer content overtook before they reached the engine.
        cap: Items a second that each publisher may send, None below level 5.
        publishers_over_budget: Those who are not read for their budget, by name, not all of many.
        publishers_choked: Those who are not read for sending most, likewise.
        publishers_stopped: How often publishers were stopped, by reason.
        devices_over_budget: Devices that are not read for their budget, by their topics, not all of many.
        devices_stopped: How often that happened.
        connects_waiting: Clients that wait to be let in.
        connects_refused: Clients that were told to come back later.
        connect_rate: Clients that are let in a second, while any wait.
    """

    level: int
    name: str
    seconds: float
    rises: int
    delays: Delays
    worst: Delays
    items_waiting: int
    items_held: int
    bytes_held: int
    held_expired: int
    superseded: int
    cap: float | None
    publishers_over_budget: Sequence[str]
    publishers_choked: Sequence[str]
    publishers_stopped: dict[str, int]
    devices_over_budget: Sequence[str]
    devices_stopped: int
    connects_waiting: int
    connects_refused: int
    connect_rate: float

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)


class Overload:
    """What the server knows of its load, and decides by it.

    Args:
        settings: Of overload control.
        budgets: Of publishers and devices.
        offsets: Seconds by which an item counts as newer, by priority.
        now: Seconds on a clock that does not go back; likewise below.

    Attributes:
        admission: Items on their way to the engine.
        senders: Who publishes how much.
        talkers: Which device says how much.
        pace: Clients that want to come in.
        delays: The last look.
    """

    __slots__ = (
        "_levels",
        "_looked",
        "_rate",
        "_rises",
        "_settings",
        "_taken",
        "_worst",
        "admission",
        "delays",
        "pace",
        "senders",
        "talkers",
    )

    def __init__(
        self,
        settings: OverloadSettings,
        budgets: BudgetSettings,
        offsets: Sequence[float],
        now: float,
    ) -> None:
        self.admission = Admission(offsets, settings.max_held)
        self.senders = Senders(budgets.publisher_items, budgets.publisher_bytes)
        self.talkers = Senders(budgets.device_messages, 0)
        self.pace: Pace[Any] = Pace(settings, now)
        self.delays = self._worst = Delays()
        self._settings = settings
        self._levels = Levels(samples=settings.samples, calm=settings.calm, now=now)
        self._rises = 0
        self._looked, self._taken, self._rate = now, 0, 0.0

    def adopt(self, settings: OverloadSettings, budgets: BudgetSettings, now: float) -> None:
        """Goes by other settings from now on. Where control is off now, the next look ends its level."""
        self._settings = settings
        self._levels.adopt(samples=settings.samples, calm=settings.calm)
        self.pace.adopt(settings)
        self.senders.adopt(budgets.publisher_items, budgets.publisher_bytes, now)
        self.talkers.adopt(budgets.device_messages, 0, now)

    @property
    def level(self) -> Level:
        """How much is given up."""
        return self._levels.level

    @property
    def effects(self) -> Effects:
        """What the data path does."""
        return self._levels.effects

    def observe(self, delays: Delays, now: float) -> Verdict:
        """Takes one look, about ten a second."""
        before, self.delays = self.level, delays
        self._worst = Delays(
            max(delays.loop_lag, self._worst.loop_lag),
            max(delays.oldest_item, self._worst.oldest_item),
            max(delays.bytes_waiting, self._worst.bytes_waiting),
            max(delays.engine_jobs, self._worst.engine_jobs),
            max(delays.oldest_stored, self._worst.oldest_stored),
        )
        self._bound(now)
        pressure = delays.pressure(self._settings)
        if self.admission.held:
            pressure = max(pressure, _UNDONE)
        levels = self._levels
        if levels.observe(pressure, now) if self._settings.enabled else levels.end(now):
            self._rises += self.level > before
            self.admission.threshold = EFFECTS[self.level].admit
        late = pressure >= 1.0
        self.pace.observe(late=late)
        again = self.senders.look(now, choke=self.effects.choke, late=late)
        again += self.talkers.look(now, choke=False, late=late)
        return Verdict(before, self.level, again)

    def _bound(self, now: float) -> None:
        """Lets no more be held than the engine works off in the time that it may take."""
        passed, went = now - self._looked, self.admission.taken - self._taken
        if passed > 0:
            share = exp(-passed / _MEMORY)
            self._rate = share * self._rate + (1 - share) * went / passed
            self._looked, self._taken = now, self.admission.taken
        settings = self._settings
        self.admission.max_held = min(
            settings.max_held, max(round(self._rate * settings.held_seconds), _FEW)
        )

    def state(self, now: float) -> State:
        """Everything about it at this moment."""
        admission, senders, pace = self.admission, self.senders, self.pace
        return State(
            level=int(self.level),
            name=self.level.name.lower(),
            seconds=now - self._levels.since,
            rises=self._rises,
            delays=self.delays,
            worst=self._worst,
            items_waiting=len(admission),
            items_held=admission.held,
            bytes_held=admission.held_bytes,
            held_expired=admission.expired,
            superseded=admission.superseded,
            cap=senders.cap,
            publishers_over_budget=senders.stopped("budget")[:_NAMED],
            publishers_choked=senders.stopped("overload")[:_NAMED],
            publishers_stopped=dict(senders.stops),
            devices_over_budget=self.talkers.stopped("budget")[:_NAMED],
            devices_stopped=self.talkers.stops["budget"],
            connects_waiting=pace.waiting,
            connects_refused=pace.refused,
            connect_rate=pace.rate,
        )
