from __future__ import annotations

from itertools import pairwise, permutations
from math import isnan, log, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.evaluate.bootstrap import Draws
from feedgen.evaluate.metrics import BINS, METRICS, equal_mass, measure

LEVELS = [0.1, 0.25, 0.5, 0.75, 0.9]
"""Few, so that many events tie."""

logs = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(LEVELS), st.integers(0, 3)),
    min_size=1,
    max_size=40,
)


def columns(log):
    y, p, lists = zip(*log, strict=True)
    dense = np.unique(lists, return_inverse=True)[1]
    return np.array(y, np.int8), np.array(p), dense.astype(np.int32)


def value(name, y, p, lists=None):
    y, p = np.array(y, np.int8), np.array(p, float)
    lists = np.zeros(len(y), np.int32) if lists is None else np.array(lists, np.int32)
    return measure(y, p, lists)[name]


def pairs(y, p):
    """Return the AUC by comparing every opened event with every other one."""
    ones, zeros = (
        [q for q, o in zip(p, y, strict=True) if o],
        [q for q, o in zip(p, y, strict=True) if not o],
    )
    if not (ones and zeros):
        return float("nan")
    return np.mean([(a > b) + (a == b) / 2 for a in ones for b in zeros])


def gain(labels):
    return sum(label / log2(rank + 2) for rank, label in enumerate(labels[:10]))


def every_order(y, p):
    """Return NDCG@10 as the mean over all orders that a sort by p may give."""
    kept = [o for o in permutations(range(len(y))) if all(p[a] >= p[b] for a, b in pairwise(o))]
    return np.mean([gain([y[i] for i in order]) for order in kept]) / gain(sorted(y, reverse=True))


@settings(max_examples=60, deadline=None)
@given(logs)
def test_auc_is_the_share_of_pairs_in_the_right_order(log):
    y, p, lists = columns(log)
    assert measure(y, p, lists)["auc"] == pytest.approx(pairs(y, p), nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(logs)
def test_list_auc_is_the_plain_mean_over_lists_that_have_both(log):
    y, p, lists = columns(log)
    each = [pairs(y[lists == n], p[lists == n]) for n in range(lists.max() + 1)]
    known = [one for one in each if not isnan(one)]
    expected = np.mean(known) if known else float("nan")
    assert measure(y, p, lists)["list_auc"] == pytest.approx(expected, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(LEVELS)), min_size=2, max_size=6))
def test_ndcg_of_ties_is_the_mean_over_their_orders_and_not_that_of_the_file(log):
    y, p = zip(*log, strict=True)
    expected = every_order(y, p) if any(y) else float("nan")
    assert value("ndcg@10", y, p) == pytest.approx(expected, nan_ok=True)


def test_ndcg_looks_at_ten_places_and_at_lists_of_at_least_two_with_an_opened_event():
    y = [0] * 10 + [1, 1, 0, 0]
    p = [*np.linspace(0.9, 0.2, 11), 0.5, 0.5, 0.5]
    assert value("ndcg@10", y, p, [0] * 11 + [1, 2, 2]) == 0.0


@settings(max_examples=60, deadline=None)
@given(logs)
def test_log_loss_and_normalised_entropy_are_as_defined(rows):
    y, p, lists = columns(rows)
    metrics = measure(y, p, lists)
    loss = -np.mean([log(q) if o else log(1 - q) for q, o in zip(p, y, strict=True)])
    rate = y.mean()
    entropy = -rate * log(rate) - (1 - rate) * log(1 - rate) if 0 < rate < 1 else 0
    assert metrics["log_loss"] == pytest.approx(loss)
    assert metrics["ne"] == pytest.approx(loss / entropy if entropy else float("nan"), nan_ok=True)


def test_knowing_the_rate_has_a_normalised_entropy_of_one():
    y = [1] * 3 + [0] * 9
    assert value("ne", y, [0.25] * 12) == pytest.approx(1)


def test_one_wrong_certainty_is_not_infinite():
    assert 30 < value("log_loss", [0], [1.0]) < 40


def test_the_calibration_error_of_a_constant_is_how_far_it_is_from_the_rate():
    assert value("ece", [1, 0, 0, 0], [0.75] * 4) == pytest.approx(0.5)


def test_calibration_errors_of_one_bin_do_not_cancel_those_of_another():
    p = np.repeat([0.2, 0.8], 500)
    y = np.repeat([0, 1], 500)
    assert value("ece", y, p) == pytest.approx(0.2)


def test_bins_of_calibration_hold_equal_numbers_and_keep_ties_together():
    rng = np.random.default_rng(0)
    counts = np.bincount(equal_mass(rng.random(3000), BINS))
    assert counts.tolist() == [200] * BINS
    tied = rng.choice(LEVELS, 3000)
    bins = equal_mass(tied, BINS)
    assert all(len(np.unique(bins[tied == level])) == 1 for level in LEVELS)


@settings(max_examples=40, deadline=None)
@given(logs, st.integers(0, 2**32 - 1))
def test_a_draw_is_valued_as_the_log_in_which_devices_stand_so_often(log, seed):
    y, p, _ = columns(log)
    device = np.arange(len(y), dtype=np.int32) // 3
    times = np.random.default_rng(seed).integers(0, 3, device[-1] + 1)
    draws = Draws(device.astype(np.intp), times[None].astype(np.uint8))
    rows = np.repeat(np.arange(len(y)), times[device])
    # Each copy of a device has its own list.
    copies = np.concatenate([np.arange(n) for n in times[device]] or [[]]).astype(np.int64)
    names = device[rows] * 3 + copies
    lists = np.unique(names, return_inverse=True)[1].astype(np.int32)
    for name in ("auc", "ne", "log_loss", "ndcg@10", "list_auc"):
        drawn = float(METRICS[name](y, p, device)(draws)[0])
        copied = float(METRICS[name](y[rows], p[rows], lists)(Draws.once(len(rows)))[0])
        assert drawn == pytest.approx(copied, nan_ok=True), name


def test_no_events_have_no_metrics():
    empty = np.zeros(0)
    found = measure(empty.astype(np.int8), empty, empty.astype(np.int32))
    assert list(found) == ["auc", "ne", "log_loss", "ece", "ndcg@10", "list_auc"]
    assert all(map(isnan, found.values()))
