"""Overload control put together: what of it depends on more than the levels."""

from __future__ import annotations

import pytest

from broker.config_overload import BudgetSettings, OverloadSettings
from broker.overload.delays import Delays
from broker.overload.levels import Level, begins
from broker.overload.overload import Overload
from feedgen.items import Item, Record

LOW, HIGH = 0, 2
OFFSETS = (0.0, 0.0, 0.0, 0.0)
LOOK = 0.1


class Server:
    """Something that is looked at ten times a second, with an engine of a certain speed."""

    def __init__(self, **settings: float) -> None:
        self.settings = OverloadSettings(**settings)
        self.now = 0.0
        self.overload = Overload(self.settings, BudgetSettings(), OFFSETS, self.now)
        self._number = 0

    @property
    def held(self) -> int:
        return self.overload.admission.held

    def come(self, count: int, priority: int = LOW) -> None:
        """Items become durable."""
        for _ in range(count):
            self._number += 1
            item = Item("news", f"i{self._number}", "x", priority=priority)
            record = Record(self._number, 0, item, self._number, 1 << 40, b"")
            self.overload.admission.put(record, self.now)

    def pass_time(self, seconds: float, pressure: float = 0.0, work: int = 0) -> None:
        """Looks that find this pressure, while the engine takes at most so many items between any two."""
        for _ in range(round(seconds / LOOK)):
            self.now += LOOK
            self.overload.admission.take(work, 0.0, spare=True)
            self.overload.observe(
                Delays(oldest_stored=self.settings.item_delay * pressure), self.now
            )

    def reach(self, level: Level) -> None:
        while self.overload.level is not level:
            self.pass_time(LOOK, begins(level))


def test_no_more_is_held_than_the_engine_works_off_in_the_time_that_it_may_take() -> None:
    server = Server(held_seconds=2.0)
    server.come(60_000, HIGH)
    server.pass_time(30, work=200)
    assert server.overload.admission.max_held == pytest.approx(2.0 * 200 / LOOK, rel=0.01)


def test_the_bound_follows_the_engine_and_is_never_above_the_one_that_was_set() -> None:
    server = Server(held_seconds=2.0, max_held=3_500)
    server.come(100_000, HIGH)
    server.pass_time(30, work=200)
    assert server.overload.admission.max_held == 3_500
    server.pass_time(30, work=100)
    assert server.overload.admission.max_held == pytest.approx(2.0 * 100 / LOOK, rel=0.01)


def test_some_may_be_held_however_slow_the_engine_is_but_none_where_none_may() -> None:
    server = Server()
    server.pass_time(60)
    assert server.overload.admission.max_held == 1_000
    server = Server(max_held=0)
    server.pass_time(60)
    assert server.overload.admission.max_held == 0


def test_the_level_is_normal_again_when_nothing_is_held_any_more() -> None:
    server = Server()
    server.reach(Level.HOLDING)
    server.come(500)
    server.pass_time(60)
    assert (server.overload.level, server.held) == (Level.COALESCING, 500)
    server.pass_time(10, work=10)
    assert (server.overload.level, server.held) == (Level.NORMAL, 0)


def test_what_is_held_raises_no_level() -> None:
    server = Server()
    server.reach(Level.HOLDING)
    server.come(500)
    server.overload.admission.threshold = LOW
    server.pass_time(60)
    assert server.overload.level is Level.COALESCING
