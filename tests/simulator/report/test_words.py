from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.report import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0 s"),
        (1e-6, "< 1 ms"),
        (0.0011, "1.1 ms"),
        (0.01, "10 ms"),
        (0.0842, "84 ms"),
        (0.9996, "1 s"),
        (1.237, "1.24 s"),
        (60, "1 min"),
        (92.5, "92.5 s"),
        (125, "2 min 5 s"),
        (3599.7, "1 h"),
        (3 * 3600, "3 h"),
        (864_000, "10 days"),
        (math.inf, "-"),
        (math.nan, "-"),
        (None, "-"),
    ],
)
def test_a_duration_has_the_unit_that_people_count_it_in(value, said):
    assert words.seconds(value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 B"), (999, "999 B"), (999.7, "1 kB"), (1_244_000, "1.24 MB"), (5e15, "5\u202f000 TB"), (math.nan, "-")],
)  # fmt: skip
def test_bytes_have_three_figures(value, said):
    assert words.size(value) == said


@pytest.mark.parametrize(("value", "said"), [(0.25, "250 mJ"), (0, "0 J"), (10_800, "10.8 kJ")])
def test_an_energy_has_three_figures(value, said):
    assert words.energy(value) == said


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(1, "±0 %"), (1.034, "+3.4 %"), (0.66, "−34 %"), (0, "−100 %"), (13, "× 13"), (math.inf, "-")],  # noqa: RUF001 - typographic signs
)
def test_a_change_is_a_percentage_until_it_is_a_multiple(ratio, said):
    assert words.change(ratio) == said


def test_times_of_a_run_look_like_a_clock():
    assert [words.clock(s) for s in (5, 65, 59.7, 7200)] == ["0:05", "1:05", "1:00", "2:00:00"]


def test_numbers_and_shares():
    assert words.count(1_234_567) == "1\u202f234\u202f567"
    assert words.number(0.12345) == "0.123"
    assert words.number(12_345.6) == "12\u202f346"
    assert words.share(0.7841) == "78.4 %"
    assert words.share(math.nan) == words.count(math.nan) == words.number(math.inf) == "-"


def test_what_no_page_can_hold_or_what_turns_its_text_around_is_made_visible():
    assert words.readable("a\x00b\ud800c\u202ed\uffff") == "a?b?c?d?"
    assert words.readable("2\u202f000 Züge\n✓") == "2\u202f000 Züge\n✓"


@given(st.floats(0, 1e12))
def test_no_quantity_is_written_with_an_exponent(value):
    for write in (words.seconds, words.size, words.energy, words.count, words.number):
        assert "e+" not in write(value), (write, value)
