"""What a server says of its load, and what follows from it."""

from __future__ import annotations

from itertools import pairwise
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.overload.levels import Level
from simulator.load import LEVELS, STEADY, Load, Stretch, back_after, recovered_after, stretches

LEVEL = st.integers(0, 5).map(float) | st.just(nan)


def test_the_levels_are_those_of_the_server() -> None:
    assert [level.name.replace(" ", "_").upper() for level in LEVELS] == [one.name for one in Level]


def test_several_servers_are_as_late_as_the_latest_and_hold_what_all_of_them_do() -> None:
    one = Load(2, 0.3, 0.1, items=5, clients=0, publishers=1)
    other = Load(4, 0.1, 0.9, items=6, clients=2, publishers=0)
    assert one | other == Load(4, 0.3, 0.9, items=11, clients=2, publishers=1)


def test_a_server_is_at_ease_at_level_0_with_nothing_held() -> None:
    assert Load(0, lag=9.0).easy
    assert not Load(1).easy
    assert not Load(0, clients=1).easy


def test_levels_in_a_row_are_one_stretch_and_a_gap_is_none() -> None:
    at = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert stretches(at, (0.0, 0.0, 3.0, nan, 3.0, 0.0)) == [
        Stretch(0, 0.0, 2.0), Stretch(3, 2.0, 3.0), Stretch(3, 4.0, 5.0),
    ]  # fmt: skip


@given(st.lists(LEVEL, max_size=30))
def test_stretches_say_of_each_known_sample_what_its_level_was(levels: list[float]) -> None:
    at = [float(place) for place in range(len(levels))]
    found = stretches(at, levels)
    for place, level in enumerate(levels[:-1]):
        over = [each.level for each in found if each.start <= place < each.end]
        assert over == ([] if level != level else [int(level)])  # noqa: PLR0124 - NaN
    assert all(one.end <= other.start for one, other in pairwise(found))


@pytest.mark.parametrize(
    ("given_up", "after"),
    [
        ([0, 0, 0, 0, 0, 0, 0, 0], 0.0),
        ([9, 9, 9, 2, 0, 0, 0, 0], 2.0),  # the trouble ends at 2
        ([9, 9, 0, 0, 0, 1, 0, 0], None),  # it rises again, and nobody sees the end
        ([9, 9, 9, 9, 9, 0, 0, 0], None),  # not for long enough
        ([9, 9, 0, nan, 0, 0, 0, 0], 2.0),  # unknown is not nothing
    ],
)
def test_a_server_has_recovered_once_nothing_was_given_up_for_a_while(
    given_up: list[float], after: float | None
) -> None:
    at = [float(place) for place in range(8)]
    assert recovered_after(at, given_up, 2.0, steady=3.0) == after


@given(st.lists(LEVEL, max_size=40), st.floats(0, 40))
def test_after_the_recovery_nothing_is_given_up_for_as_long_as_it_takes_to_believe_it(
    given_up: list[float], since: float
) -> None:
    at = [float(place) for place in range(len(given_up))]
    after = recovered_after(at, given_up, since)
    if after is not None:
        calm = [
            value
            for time, value in zip(at, given_up, strict=True)
            if 0 <= time - since - after <= STEADY
        ]
        assert len(calm) >= STEADY
        assert not any(calm)


def test_all_are_back_when_as_many_are_there_as_before() -> None:
    at = (0.0, 1.0, 2.0, 3.0)
    assert back_after(at, (5, 1, 4, 5), 1.0, 5) == 2.0
    assert back_after(at, (5, 1, 4, 4), 1.0, 5) is None
