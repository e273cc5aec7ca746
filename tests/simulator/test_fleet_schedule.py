"""When devices sleep, wake and start."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.fleet.schedule import PATIENCE, QUIET, Sleep, ramp

HOUR = 3600.0

sleeps = st.builds(
    lambda period, share, offset: Sleep(period, period * share, offset),
    st.integers(10, 86_400).map(float),
    st.floats(0.01, 1.0),
    st.integers(0, 86_400).map(float),
)


def test_a_device_is_awake_at_the_beginning_of_each_period() -> None:
    sleep = Sleep(HOUR, 60.0, offset=10.0)
    assert [sleep.awake_at(at) for at in (0, 10, 69, 70, 3609, 3610, 3669)] == [
        False, True, True, False, False, True, True,
    ]  # fmt: skip


def test_before_its_offset_a_device_has_not_woken_yet() -> None:
    sleep = Sleep(HOUR, 60.0, offset=10.0)
    assert (sleep.wakes(0.0), sleep.wakes(10.0)) == (10.0, 3610.0)
    assert (sleep.woke(5.0), sleep.woke(10.0), sleep.woke(3609.0)) == (10.0, 10.0, 10.0)


@given(sleeps, st.floats(0, 1e6))
def test_the_next_waking_is_later_and_within_a_period(sleep: Sleep, at: float) -> None:
    wakes = sleep.wakes(at)
    assert at < wakes <= max(at, sleep.offset) + sleep.period * (1 + 1e-9)
    assert sleep.awake_at(wakes + sleep.awake / 2)


@given(sleeps, st.floats(0, 300), st.floats(0, 300))
def test_in_real_time_a_device_sleeps_exactly_when_its_schedule_says(
    sleep: Sleep, awake: float, quiet: float
) -> None:
    assert sleep.over(awake, awake, min(quiet, awake)) == (awake >= sleep.awake)


def test_in_fast_time_a_device_stays_until_its_link_is_quiet_or_patience_ends() -> None:
    sleep = Sleep(6 * HOUR, 60.0)
    awake = 600 * 0.5  # half a real second at 600 times the speed
    assert not sleep.over(awake, 0.5, quiet=0.0)
    assert sleep.over(600 * 4.0, 4.0, quiet=QUIET)
    assert not sleep.over(600 * 4.0, 4.0, quiet=QUIET / 2)
    assert sleep.over(600 * PATIENCE, PATIENCE, quiet=0.0)


@pytest.mark.parametrize(
    ("awake", "offset", "sentence"),
    [
        (0.0, 0.0, "awake for 0 s of a period of 60 s"),
        (61.0, 0.0, "awake for 61 s of a period of 60 s"),
        (1.0, -1.0, "an offset of -1 s"),
    ],
)
def test_an_impossible_schedule_is_refused(awake: float, offset: float, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Sleep(60.0, awake, offset)


@given(st.integers(1, 300), st.floats(0.1, 100), st.integers(0, 99))
def test_a_ramp_has_one_start_in_each_equal_part_of_its_time(
    devices: int, over: float, seed: int
) -> None:
    times = ramp(devices, over, random.Random(seed))
    parts = [at * devices / over for at in sorted(times)]
    assert all(place - 1e-6 <= part <= place + 1 + 1e-6 for place, part in enumerate(parts))


def test_a_ramp_begins_with_any_device() -> None:
    firsts = {
        min(range(9), key=ramp(9, 1.0, random.Random(seed)).__getitem__) for seed in range(99)
    }
    assert firsts == set(range(9))


def test_without_time_all_start_at_once() -> None:
    assert ramp(3, 0.0, random.Random(1)) == [0.0, 0.0, 0.0]
