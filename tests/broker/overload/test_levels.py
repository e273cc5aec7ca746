"""Six levels: up by one when several looks agree, down by one after a while of calm."""

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


def flooded(level: Level, samples: int = 3) -> Levels:
    """At this level at second 0, and no look remembered."""
    state = levels(samples)
    for _ in range(samples - 1 + level):
        state.observe(begins(level), 0.0)
    assert state.level is level
    return state


def test_each_delay_counts_against_its_own_setting_and_the_worst_decides() -> None:
    assert Delays().pressure(SETTINGS) == 0
    assert Delays(loop_lag=2 * SETTINGS.loop_lag).pressure(SETTINGS) == 2
    assert Delays(oldest_item=3 * SETTINGS.store_delay).pressure(SETTINGS) == 3
    assert Delays(oldest_stored=2 * SETTINGS.item_delay).pressure(SETTINGS) == 2
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


def test_the_level_rises_by_one_at_each_look_while_the_last_ones_all_call_for_more() -> None:
    state = levels()
    changed = [state.observe(FLOOD, at) for at in range(1, 6)]
    assert changed == [False, False, True, True, True]
    assert (state.level, state.since) == (Level.TOPIC_ONLY, 5)
    state.observe(begins(2), 6)
    assert state.level is Level.TOPIC_ONLY


def test_one_slow_commit_of_a_second_is_seen_by_many_looks_and_gives_up_little() -> None:
    state, waited = levels(), [at / 10 for at in range(11)]
    for seconds in waited:
        state.observe(Delays(oldest_item=seconds).pressure(SETTINGS), seconds)
    assert state.level <= Level.COALESCING


def test_the_level_falls_by_one_after_each_while_of_calm() -> None:
    state = flooded(Level.CHOKING)
    seen = [state.level]
    for at in range(1, 100):
        state.observe(0.0, at / 10)
        if state.level is not seen[-1]:
            seen.append(state.level)
    assert seen == [5, 4, 3, 2, 1, 0]
    assert 5.0 <= state.since < 6.0


def test_calm_that_is_broken_begins_anew() -> None:
    state = flooded(Level.PLAIN, samples=1)
    state.observe(0.0, 0.5)
    state.observe(begins(2), 0.9)
    state.observe(begins(2), 1.0)
    state.observe(0.0, 1.4)
    assert not state.observe(0.0, 2.3)
    assert state.observe(0.0, 2.5)


def test_one_late_timer_breaks_no_calm() -> None:
    state = flooded(Level.PLAIN)
    state.observe(0.0, 0.5)
    state.observe(FLOOD, 1.0)
    assert state.observe(0.0, 1.6)


def test_between_calm_and_the_present_level_nothing_changes() -> None:
    state = flooded(Level.HOLDING, samples=1)
    assert not any(state.observe(begins(4) * 0.6, at) for at in range(1, 100))
    assert state.level is Level.HOLDING


@given(st.lists(st.floats(0, 20), max_size=60))
def test_whatever_is_measured_the_level_falls_by_one_at_most_and_rises_only_when_all_agree(
    pressures: list[float],
) -> None:
    state, before = levels(), Level.NORMAL
    for at, pressure in enumerate(pressures):
        state.observe(pressure, at / 10)
        assert abs(state.level - before) <= 1
        if state.level > before:
            assert min(map(level_at, pressures[at - 2 : at + 1])) >= state.level
        before = state.level


def test_other_settings_hold_from_the_next_look_on_and_control_that_is_turned_off_ends_its_level() -> (
    None
):
    state = levels(samples=3)
    state.observe(FLOOD, 0.1)
    state.adopt(samples=2, calm=0.5)
    assert state.observe(FLOOD, 0.2)
    assert state.end(0.3)
    assert (state.level, state.since) == (Level.NORMAL, 0.3)
    assert not state.end(0.4)


def test_each_level_gives_up_what_those_before_it_do() -> None:
    for lower, higher in pairwise(EFFECTS):
        assert higher.coalesce >= lower.coalesce
        assert higher.batch >= lower.batch
        assert higher.diverse <= lower.diverse
        assert higher.personal <= lower.personal
        assert higher.admit >= lower.admit
        assert higher.choke >= lower.choke
    assert max(effects.admit for effects in EFFECTS) < 3  # urgent items pass at every level
