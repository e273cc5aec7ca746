"""Which impressions are learned from, and how many those should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.sampling import MOST_HALVINGS, Pace, Sample

NOW = 1.8e9
WINDOW = 600.0
RANDOM = np.random.default_rng(7)
DEVICES = RANDOM.integers(0, 1 << 63, 20_000).astype(np.uint64)
ITEMS = RANDOM.integers(1, 500, 20_000)
SHOWN = np.ones(20_000, np.bool_)


def nobody(device: int, n: int) -> bool:
    """Nothing was heard of anything before."""
    raise AssertionError(f"{device} and {n} need not be asked for")


def sampled(halvings: int) -> Sample:
    """A sample that was of this size from the beginning."""
    sample = Sample(WINDOW)
    sample.change(halvings, NOW - 2 * WINDOW)
    return sample


def test_everything_is_kept_at_first_and_stands_for_itself():
    sample = Sample(WINDOW)
    assert sample.share == 1.0
    assert (sample.scales(DEVICES, ITEMS, SHOWN, nobody, NOW) == 1).all()


@pytest.mark.parametrize("halvings", [1, 3, 6])
def test_as_many_are_kept_as_asked_for_and_stand_for_all(halvings):
    scales = sampled(halvings).scales(DEVICES, ITEMS, SHOWN, nobody, NOW)
    assert set(scales.tolist()) == {0.0, 2.0**halvings}
    p = 0.5**halvings
    deviation = np.sqrt(len(DEVICES) * p * (1 - p))
    assert abs((scales > 0).sum() - p * len(DEVICES)) < 4 * deviation


def test_all_that_is_heard_of_an_impression_stays_together():
    sample = sampled(2)
    shown = sample.scales(DEVICES, ITEMS, SHOWN, nobody, NOW)
    opened = sample.scales(DEVICES, ITEMS, ~SHOWN, nobody, NOW + 100)
    np.testing.assert_array_equal(shown, opened)


@given(st.integers(0, MOST_HALVINGS - 1))
def test_smaller_samples_are_parts_of_larger_ones(halvings):
    large, small = (
        sampled(each).scales(DEVICES, ITEMS, SHOWN, nobody, NOW) > 0
        for each in (halvings, halvings + 1)
    )
    assert not (small & ~large).any()


def test_devices_and_items_are_left_out_alike():
    """Each by its own hash of both: nobody is unheard for good."""
    few = np.repeat(np.arange(20, dtype=np.uint64), 1000)
    items = np.tile(np.arange(1000), 20)
    kept = sampled(2).scales(few, items, np.ones(len(few), np.bool_), nobody, NOW) > 0
    by_device = kept.reshape(20, 1000).mean(axis=1)
    assert np.abs(by_device - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 1000)


def test_what_is_known_goes_on_being_heard_of_when_less_is_kept():
    sample = sampled(1)
    before = sample.scales(DEVICES, ITEMS, SHOWN, nobody, NOW) > 0
    sample.change(4, NOW)
    known = {(int(d), int(n)) for d, n in zip(DEVICES[before], ITEMS[before], strict=True)}
    after = sample.scales(DEVICES, ITEMS, ~SHOWN, lambda *one: one in known, NOW + 1)
    np.testing.assert_array_equal(after > 0, before)


def test_what_began_unheard_is_not_learned_as_opened_only_when_more_is_kept():
    sample = sampled(4)
    sample.change(1, NOW)
    opened = sample.scales(DEVICES, ITEMS, ~SHOWN, lambda *_: False, NOW + 1)
    assert set(opened.tolist()) == {0.0, 16.0}
    begun = sample.scales(DEVICES, ITEMS, SHOWN, lambda *_: False, NOW + 1)
    assert set(begun.tolist()) == {0.0, 2.0}
    # After a window, whatever is opened was shown under what holds now.
    later = sample.scales(DEVICES, ITEMS, ~SHOWN, nobody, NOW + WINDOW + 1)
    np.testing.assert_array_equal(later, begun)


def test_a_sample_that_cannot_be_is_refused():
    for halvings in (-1, MOST_HALVINGS + 1):
        with pytest.raises(ValueError, match="halvings"):
            Sample(WINDOW).change(halvings, NOW)


# ---- How much


def test_one_reading_behind_is_waited_for_and_two_halve_the_sample():
    pace = Pace(budget=0.5, backlog=100)
    assert pace.read(0.1, 5.0, 101, 0) == 0
    assert pace.read(0.1, 5.0, 101, 0) == 1
    assert pace.read(0.1, 5.0, 101, 1) == 1, "it is given time to have an effect"


def test_the_sample_is_doubled_only_after_a_while_with_room_for_it():
    pace = Pace(budget=0.5, backlog=100)
    assert [pace.read(0.5, 5.0, 0, 3) for _ in range(6)] == [3, 3, 3, 3, 3, 2]
    assert [pace.read(1.2, 5.0, 0, 3) for _ in range(20)] == [3] * 20, "twice as much would not fit"
    assert [pace.read(0.5, 5.0, 0, 0) for _ in range(20)] == [0] * 20


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(1, 1e6),
    cost=st.floats(1e-6, 1e-4),
    budget=st.floats(0.05, 0.9),
)
def test_under_any_steady_load_it_settles_within_the_budget_and_does_not_swing(rate, cost, budget):
    """A trainer that reads 500 events a batch, for as long as its budget allows."""
    pace, halvings, waiting, history = Pace(budget, backlog=200), 0, 0.0, []
    for _ in range(400):
        work = (rate * 5.0 + waiting * 500) * cost * 0.5**halvings
        busy = min(work, budget * 5.0)
        waiting = min((work - busy) / cost * 2**halvings / 500, 100_000)
        halvings = pace.read(busy, 5.0, int(waiting), halvings)
        history.append(halvings)
    fits = rate * cost * 0.5**MOST_HALVINGS <= 0.8 * budget
    assert len(set(history[-100:])) == 1
    if fits:
        assert waiting <= 200
