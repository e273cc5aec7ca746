"""Six levels: up at once when several looks agree, down one by one after a while of calm."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from broker.config_overload import OverloadSettings
from broker.overload.delays import Delays
from broker.overload.levels import EFFECTS, Level, Levels, begins, level_at

SETTINGS = OverloadSettings()
FLOOD = 1_000.0


def levels(samples: int = 3, calm: float = 1.0) -> Levels:
    return Levels(samples=samples, calm=calm, now=0.0)


def test_each_delay_counts_against_its_own_setting_and_the_worst_decides() -> None:
    assert Delays().pressure(SETTINGS) == 0
    assert Delays(loop_lag=2 * SETTINGS.loop_lag).pressure(SETTINGS) == 2
    assert Delays(oldest_item=3 * SETTINGS.item_delay).pressure(SETTINGS) == 3
    assert Delays(bytes_waiting=4 * SETTINGS.bytes_waiting).pressure(SETTINGS) == 4
    both = Delays(SETTINGS.loop_lag, engine_jobs=5 * SETTINGS.jobs)
    assert both.pressure(SETTINGS) == 5


def test_a_level_begins_at_its_pressure_and_not_before() -> None:
    assert level_at(0.99) is Level.NORMAL
    for level in list(Level)[1:]:
        assert level_at(begins(level)) is level
    assert level_at(FLOOD) is Level.CHOKING


def test_one_late_timer_is_no_overload() -> None:
    state = levels()
    assert not state.observe(FLOOD, 0.1)
    assert not state.observe(0.0, 0.2)
    assert not any(state.observe(FLOOD, 0.3 + at) for at in (0.0, 0.1))
    assert state.level is Level.NORMAL


def test_the_level_rises_at_once_to_what_all_of_the_last_looks_call_for() -> None:
    state = levels()
    for pressure in (FLOOD, begins(3), FLOOD):
        state.observe(pressure, 0.5)
    assert (state.level, state.since) == (Level.TOPIC_ONLY, 0.5)


def test_the_level_falls_by_one_after_each_while_of_calm() -> None:
    state = levels()
    for at in range(3):
        state.observe(FLOOD, at / 10)
    seen = [state.level]
    for at in range(1, 100):
        state.observe(0.0, at / 10)
        if state.level is not seen[-1]:
            seen.append(state.level)
    assert seen == [5, 4, 3, 2, 1, 0]
    assert 5.0 <= state.since < 6.0


def test_calm_that_is_broken_begins_anew() -> None:
    state = levels(samples=1)
    state.observe(begins(2), 0.0)
    state.observe(0.0, 0.5)
    state.observe(begins(2), 1.0)
    state.observe(0.0, 1.4)
    assert not state.observe(0.0, 2.3)
    assert state.observe(0.0, 2.5)


def test_between_calm_and_the_present_level_nothing_changes() -> None:
    state = levels(samples=1)
    state.observe(begins(4), 0.0)
    assert not any(state.observe(begins(4) * 0.6, at) for at in range(1, 100))
    assert state.level is Level.HOLDING


@given(st.lists(st.floats(0, 20), max_size=60))
def test_whatever_is_measured_the_level_falls_by_one_at_most_and_rises_only_when_all_agree(
    pressures: list[float],
) -> None:
    state, before = levels(), Level.NORMAL
    for at, pressure in enumerate(pressures):
        state.observe(pressure, at / 10)
        assert state.level >= before - 1
        if state.level > before:
            assert min(map(level_at, pressures[at - 2 : at + 1])) == state.level
        before = state.level


def test_each_level_gives_up_what_those_before_it_do() -> None:
    for lower, higher in pairwise(EFFECTS):
        assert higher.coalesce >= lower.coalesce
        assert higher.batch >= lower.batch
        assert higher.diverse <= lower.diverse
        assert higher.personal <= lower.personal
        assert higher.admit >= lower.admit
        assert higher.choke >= lower.choke
    assert max(effects.admit for effects in EFFECTS) < 3  # urgent items pass at every level
