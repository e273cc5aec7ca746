from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.limits import DeviceLimits, clipped_weights

NOW = 1_800_000_000.0


def taken(limits: DeviceLimits, device: int, now: float, tries: int = 100) -> int:
    return sum(limits.take(device, now) for _ in range(tries))


def test_a_device_may_take_its_burst_at_once_and_then_its_rate():
    limits = DeviceLimits(per_hour=60, burst=5, devices=10)
    assert taken(limits, 1, NOW) == 5
    assert taken(limits, 1, NOW + 59) == 0
    assert taken(limits, 1, NOW + 60) == 1
    assert taken(limits, 1, NOW + 60 + 120) == 2
    assert taken(limits, 1, NOW + 10**6) == 5


def test_what_stands_for_several_takes_as_many_tokens():
    limits = DeviceLimits(per_hour=3600.0, burst=8, devices=10)
    assert [limits.take(1, 0.0, 4) for _ in range(3)] == [True, True, False]
    assert not limits.take(1, 3.0, 4)
    assert limits.take(1, 4.0, 4)


def test_what_stands_for_more_than_a_burst_is_taken_from_a_full_bucket_and_paid_back():
    limits = DeviceLimits(per_hour=3600.0, burst=8, devices=10)
    assert limits.take(1, 0.0, 32)
    assert not limits.take(1, 31.0, 32)
    assert limits.take(1, 32.0, 32)


def test_one_device_takes_nothing_from_another():
    limits = DeviceLimits(per_hour=60, burst=5, devices=10)
    taken(limits, 1, NOW)
    assert taken(limits, 2, NOW) == 5


def test_of_too_many_devices_the_longest_unheard_is_forgotten():
    limits = DeviceLimits(per_hour=60, burst=5, devices=3)
    for device in (1, 2, 3):
        taken(limits, device, NOW)
    limits.take(1, NOW)
    limits.take(4, NOW)
    assert (len(limits), limits.forgotten) == (3, 1)
    assert [taken(limits, device, NOW) for device in (1, 3, 4)] == [0, 0, 4]


def test_forgetting_a_full_bucket_loses_nothing():
    limits = DeviceLimits(per_hour=60, burst=5, devices=1)
    limits.take(1, NOW)
    limits.take(2, NOW + 3600)
    assert limits.forgotten == 0


def test_a_clock_that_goes_back_gives_nobody_more():
    limits = DeviceLimits(per_hour=60, burst=5, devices=1)
    assert taken(limits, 1, NOW) == 5
    assert taken(limits, 1, NOW - 3600) == 0


def test_limits_go_on_after_a_restart():
    limits = DeviceLimits(per_hour=60, burst=5, devices=3)
    for device in (1, 2, 2**64 - 1):
        limits.take(device, NOW)
    again = DeviceLimits(per_hour=60, burst=5, devices=2)
    again.restore(limits.state())
    assert [taken(again, device, NOW) for device in (2, 2**64 - 1)] == [4, 4]
    assert len(again) == 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1000), max_size=80), st.integers(1, 8))
def test_no_stretch_of_time_gives_more_than_the_burst_and_the_rate(gaps, burst):
    limits = DeviceLimits(per_hour=60, burst=burst, devices=1)
    times = (NOW + np.cumsum(gaps)).tolist()
    granted = [now for now in times if limits.take(1, now)]
    for first, begin in enumerate(granted):
        for last, end in enumerate(granted[first:], first):
            assert last - first + 1 <= burst + (end - begin) / 60 + 1e-6


def devices(*counts: int) -> np.ndarray:
    """Return a batch in which device i has `counts[i]` events."""
    return np.repeat(np.arange(len(counts), dtype=np.uint64), counts)


def by_device(batch: np.ndarray, weights: np.ndarray) -> list[float]:
    return np.bincount(batch.astype(int), weights).tolist()


def test_nobody_is_clipped_where_nobody_has_too_much():
    batch = devices(3, 3, 3, 3)
    assert (clipped_weights(batch, 0.25) == 1).all()


def test_who_has_too_much_keeps_just_its_share_of_what_remains():
    batch = devices(60, 5, 5, 5)
    sums = by_device(batch, clipped_weights(batch, 0.4))
    assert sums == pytest.approx([10, 5, 5, 5], rel=1e-5)


def test_where_all_have_too_much_each_keeps_what_it_always_may():
    batch = devices(60, 30)
    assert by_device(batch, clipped_weights(batch, 0.1)) == pytest.approx([1, 1])
    assert by_device(batch, clipped_weights(batch, 0.1, least=40)) == pytest.approx([40, 30])


def test_events_without_weight_do_not_make_a_batch_larger():
    batch = devices(10, 1000)
    weights = (batch == 0).astype(np.float32)
    assert by_device(batch, clipped_weights(batch, 0.5, weights)) == pytest.approx([1, 0])


def test_an_empty_batch_has_no_weights():
    weights = clipped_weights(np.empty(0, np.uint64), 0.1)
    assert (weights.dtype, weights.size) == (np.float32, 0)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=30),
    st.floats(0.01, 1.0),
    st.floats(1.0, 10.0),
)
def test_no_device_has_more_than_its_share_and_no_weight_is_given_away(counts, share, least):
    batch = devices(*counts)
    weights = clipped_weights(batch, share, least=least)
    assert ((weights >= 0) & (weights <= 1)).all()
    sums = np.bincount(batch.astype(int), weights, minlength=len(counts))
    cap = max(share * sums.sum(), least)
    assert (sums <= cap * (1 + 1e-5) + 1e-5).all()
    # Whoever was clipped has all that it may have.
    clipped = sums < np.array(counts) - 1e-3
    assert (sums[clipped] >= cap * (1 - 1e-5) - 1e-5).all()
