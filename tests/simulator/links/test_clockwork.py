from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING

import pytest

from simulator.links.clockwork import Clockwork

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulator.conftest import Until


class Sleeper:
    """Notes when it is woken."""

    def __init__(self, then: Callable[[float], None] = lambda _: None) -> None:
        self.alarm = inf
        self.woken: list[float] = []
        self._then = then
        self.dropped = False

    def wake(self, now: float) -> None:
        self.woken.append(now)
        self._then(now)

    def drop(self) -> None:
        self.dropped = True


async def test_sleepers_are_woken_in_order_and_never_early(until: Until) -> None:
    clock, order = Clockwork(), []
    start = clock.time()
    sleepers = [Sleeper(lambda _, n=n: order.append(n)) for n in range(5)]
    for n in (3, 0, 4, 1, 2):
        clock.ask(sleepers[n], start + n * 0.01)
    await until(lambda: len(order) == 5)
    assert order == [0, 1, 2, 3, 4]
    assert all(sleeper.woken[0] >= start + n * 0.01 for n, sleeper in enumerate(sleepers))


async def test_the_sooner_of_two_alarms_counts_and_rings_once(until: Until) -> None:
    clock, tested, between, last = Clockwork(), Sleeper(), Sleeper(), Sleeper()
    start = clock.time()
    clock.ask(tested, start + 0.05)
    clock.ask(tested, start + 0.01)
    clock.ask(tested, start + 0.03)
    clock.ask(between, start + 0.02)
    clock.ask(last, start + 0.08)
    await until(lambda: last.woken)
    assert len(tested.woken) == 1
    assert start + 0.01 <= tested.woken[0] <= between.woken[0]


async def test_whoever_is_woken_may_ask_again(until: Until) -> None:
    clock = Clockwork()
    tested = Sleeper(lambda now: clock.ask(tested, now + 0.002) if len(tested.woken) < 5 else None)
    clock.ask(tested, clock.time())
    await until(lambda: len(tested.woken) == 5)
    assert tested.alarm == inf


async def test_a_sleeper_that_fails_does_not_keep_the_others_asleep(until: Until) -> None:
    def fail(_: float) -> None:
        raise ValueError("broken")

    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    clock, broken, sound, later = Clockwork(), Sleeper(fail), Sleeper(), Sleeper()
    for sleeper, after in ((broken, 0.0), (sound, 0.0), (later, 0.02)):
        clock.ask(sleeper, clock.time() + after)
    await until(lambda: sound.woken and later.woken)
    assert [str(context["exception"]) for context in told] == ["broken"]


async def test_a_thousand_alarms_need_one_timer() -> None:
    clock, loop = Clockwork(), asyncio.get_running_loop()
    before = len(loop._scheduled)  # type: ignore[attr-defined]
    for n in range(1_000):
        clock.ask(Sleeper(), clock.time() + 100 + n)
    assert len(loop._scheduled) - before == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("speed", [0.0, -1.0, inf])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="must be more than 0"):
        Clockwork(speed)


async def test_who_waits_for_a_clockwork_that_stops_is_told(until: Until) -> None:
    clock, waiting, late = Clockwork(), Sleeper(), Sleeper()
    clock.ask(waiting, clock.time() + 0.001)
    clock.stop()
    clock.ask(late, clock.time())
    assert waiting.dropped
    assert late.dropped
    other, last = Clockwork(), Sleeper()
    other.ask(last, other.time() + 0.01)
    await until(lambda: last.woken)
    assert not waiting.woken
