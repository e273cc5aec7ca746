"""Counting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.frames import Delta, FeedItem, Move, Put, Remove, Snapshot
from simulator.tally import Arrivals, Histogram, Tally

ITEM = FeedItem(1, 0, 1, "x")


def test_a_histogram_without_durations_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None


@given(st.lists(st.floats(1e-5, 1e3), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_at_most_a_twentieth_too_long(durations: list[float], q: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = sorted(durations)[max(-int(-q * len(durations) // 1) - 1, 0)]
    assert exact * 0.999 <= (histogram.quantile(q) or 0) <= exact * 1.051
    assert histogram.count == len(durations)


def test_no_time_at_all_is_a_duration_too() -> None:
    histogram = Histogram()
    histogram.add(0.0)
    assert histogram.quantile(0.5) == pytest.approx(1e-6, rel=0.1)


def test_frames_are_counted_by_kind_and_their_operations_too() -> None:
    tally = Tally()
    tally.applied(Snapshot(1, 1, 8, (ITEM,)), 50, 1)
    tally.applied(Delta(1, 2, (Put(0, ITEM), Remove(1), Remove(1), Move(0, 1))), 30, 0)
    assert (tally.frames, tally.snapshots, tally.deltas) == (2, 1, 1)
    assert (tally.puts, tally.removes, tally.moves) == (1, 2, 1)
    assert (tally.bytes, tally.delta_bytes, tally.acknowledged) == (80, 30, 1)


def test_the_whole_window_is_measured_as_the_same_packet_with_a_snapshot_in_it() -> None:
    tally = Tally()
    delta, window = Delta(1, 2, (Put(0, ITEM),)), Snapshot(1, 2, 8, (ITEM, FeedItem(2, 0, 1, "y")))
    tally.sample_whole(delta, window, 40)
    # Six more for the second item and its array head, one more for k, two less for put and rank.
    assert tally.whole_window == 40 + 6 + 1 - 2


def test_a_text_is_timed_from_its_publication() -> None:
    arrivals = Arrivals()
    arrivals.publish("full", "short", now=5.0)
    assert arrivals.published("full") == arrivals.published("short") == 5.0
    assert arrivals.published("other") is None


def test_a_text_published_twice_tells_nothing() -> None:
    arrivals = Arrivals()
    arrivals.publish("M 1.0", "M", now=5.0)
    arrivals.publish("M 2.0", "M", now=6.0)
    arrivals.publish("M 3.0", "M 3.0", now=7.0)
    assert arrivals.published("M") is None
    assert arrivals.published("M 1.0") == 5.0
    assert arrivals.published("M 3.0") == 7.0


@given(st.lists(st.floats(1e-5, 1e3)), st.lists(st.floats(1e-5, 1e3)), st.floats(0.01, 1))
def test_merged_histograms_are_those_of_all_durations(
    some: list[float], others: list[float], q: float
) -> None:
    one, other, whole = Histogram(), Histogram(), Histogram()
    for histogram, durations in ((one, some), (other, others), (whole, some + others)):
        for duration in durations:
            histogram.add(duration)
    one.merge(other)
    assert (one.count, one.largest) == (whole.count, whole.largest)
    assert one.total == pytest.approx(whole.total)
    assert one.quantile(q) == whole.quantile(q)


@given(st.lists(st.floats(1e-5, 1e3), min_size=1), st.floats(0.01, 1))
def test_a_histogram_written_down_says_the_same(durations: list[float], q: float) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    written = histogram.distribution()
    assert sum(written.counts) == written.count == len(durations)
    assert written.mean == pytest.approx(sum(durations) / len(durations))
    quantile = histogram.quantile(q)
    assert quantile is not None
    assert written.quantile(q) == min(quantile, max(durations))


def test_tallies_add_up_field_by_field() -> None:
    one, other = Tally(), Tally()
    one.applied(Snapshot(1, 1, 8, (ITEM,)), 50, 1)
    other.applied(Delta(1, 2, (Put(0, ITEM),)), 30, 0)
    other.ignored["gap"] += 2
    other.latency.add(0.5)
    whole = Tally.of_all((one, other))
    assert (whole.snapshots, whole.deltas, whole.bytes, whole.acknowledged) == (1, 1, 80, 1)
    assert (whole.ignored["gap"], whole.latency.count) == (2, 1)
    assert (one.deltas, other.snapshots) == (0, 0)


def test_counts_have_every_number_and_each_reason() -> None:
    tally = Tally(connects=3)
    tally.ignored["stale"] += 1
    counts = tally.counts()
    assert (counts["connects"], counts["losses"], counts["ignored stale"]) == (3, 0, 1)
    assert not any(name.startswith("_") for name in counts)
    assert "latency" not in counts
