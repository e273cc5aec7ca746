from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from feedgen.ranking.event_ranker import MAX_NUMBERS, alike, event_ranker, impressions
from feedgen.ranking.features import MAX_FIELDS
from feedgen.ranking.hedge import log_loss
from feedgen.ranking.model import MAX_FAMILIES
from tests.feedgen.model_cases import assert_close, assert_same, log, measured, progressively


def event(**more):
    return {"t": 0.0, "device": "d", "item": "i", "list": "l", **more}


NAMES = st.text(st.characters(), max_size=3)
FIELDS = st.dictionaries(NAMES, NAMES, max_size=12)
EVENTS = st.fixed_dictionaries(
    {"device": NAMES, "item": NAMES, "t": st.floats(0, 1e7)},
    optional={
        "device_fields": FIELDS,
        "item_fields": FIELDS,
        "context": FIELDS,
        "num": st.lists(st.floats() | st.integers(-(2**60), 2**60), max_size=4),
        "propensity": st.floats(0, 1),
    },
)


# ---- Any events


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=12), st.data())
def test_any_events_are_learned_in_a_batch_as_one_by_one(events, data):
    events.sort(key=lambda each: each["t"])
    labels = data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events)))
    one, batch = event_ranker(), event_ranker()
    batch.learn(events, labels)
    # Who comes too late for a slope of its own depends on who came together.
    assume(len(batch.model.families) < MAX_FAMILIES)
    for each, label in zip(events, labels, strict=True):
        one.learn([each], [label])
    assert_close(one.model, batch.model)
    together = batch.predict(events)
    assert ((together > 0) & (together < 1)).all()
    apart = [one.predict([each])[0] for each in events]
    np.testing.assert_allclose(together, apart, 1e-9)


def test_maps_and_numbers_may_be_missing_empty_or_none():
    ranker = event_ranker()
    bare = [
        event(),
        event(device_fields={}, item_fields=None, context={}, num=[]),
        {"device": "d", "item": "i"},
    ]
    ranker.learn(bare, [0, 1, 0])
    p = ranker.predict(bare)
    assert p[0] == p[1] == p[2]


def test_of_a_map_the_first_names_of_the_alphabet_are_used():
    names = [f"n{at:02}" for at in range(MAX_FIELDS + 4)]
    columns = impressions([event(device_fields=dict.fromkeys(reversed(names), "x"))])
    assert [each.name for each in columns.device_fields] == [
        f"device.{name}" for name in names[:MAX_FIELDS]
    ]


def test_events_with_many_names_between_them_are_told_apart_and_no_field_is_lost():
    events = [event(item_fields={f"n{at}": "x"}) for at in range(2 * MAX_FIELDS + 1)]
    assert [run.stop - run.start for run in alike(events)] == [MAX_FIELDS, MAX_FIELDS, 1]
    ranker = event_ranker()
    ranker.learn(events, np.ones(len(events)))
    assert {f"item.n{at}" for at in range(len(events))} <= ranker.model.families.keys()


@given(st.lists(EVENTS, max_size=12))
def test_runs_of_alike_events_are_all_events_in_their_order(events):
    runs = list(alike(events))
    assert [at for run in runs for at in range(run.start, run.stop)] == list(range(len(events)))
    for run in runs:
        columns = impressions(events[run])
        for kind in ("device_fields", "item_fields", "context"):
            assert len(columns.of(kind)) <= MAX_FIELDS


def test_of_a_list_of_numbers_the_first_are_used():
    assert impressions([event(num=[1.0] * 1000)]).num.shape == (1, MAX_NUMBERS)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 1e308, -1e308, 2**62])
def test_odd_numbers_are_learned_without_harm(odd):
    ranker = event_ranker()
    events = [event(num=[odd, 1.0, at]) for at in range(40)]
    ranker.learn(events, np.arange(40) % 2)
    assert np.isfinite(ranker.predict(events)).all()


@pytest.mark.parametrize("t", [math.nan, math.inf, -1e300, 1e300])
def test_an_odd_time_does_no_harm(t):
    events, labels, _ = log(2000)
    ranker = event_ranker()
    ranker.learn(events[:1000], labels[:1000])
    ranker.learn([{**events[0], "t": t}], [0])
    ranker.learn(events[1000:], labels[1000:])
    assert np.isfinite(ranker.predict(events)).all()


def test_half_a_surrogate_pair_is_a_string_as_any_other():
    ranker = event_ranker()
    odd = event(device="\ud800", item="\udfff", item_fields={"\ud800": "\udc00"}, context={"": ""})
    ranker.learn([odd] * 20, [1] * 20)
    p, other = ranker.predict([odd, event(device="x", item="y")])
    assert p > other


# ---- Labels


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda y: np.array(y, bool)])
def test_labels_may_be_lists_of_numbers_or_booleans_and_arrays(kind):
    events, labels, _ = log(60)
    one, other = event_ranker(), event_ranker()
    one.learn(events, labels)
    other.learn(events, kind([bool(label) for label in labels]))
    assert_same(one.state(), other.state())


@pytest.mark.parametrize("labels", [[], [1], [1, 0, 1], [[1, 0]], 1])
def test_labels_of_another_number_than_events_are_refused(labels):
    with pytest.raises(ValueError, match="2 events have"):
        event_ranker().learn([event(), event()], labels)


@pytest.mark.parametrize("label", [math.nan, 2, -1, 0.5])
def test_a_label_that_is_neither_0_nor_1_is_refused_before_anything_is_learned(label):
    ranker = event_ranker()
    before = ranker.state()
    with pytest.raises(ValueError, match="labels are 0 or 1"):
        ranker.learn([event(), event()], [1, label])
    assert_same(ranker.state(), before)


def test_no_events_are_nothing_to_predict_and_nothing_to_learn():
    ranker = event_ranker()
    before = ranker.state()
    ranker.learn([], [])
    assert ranker.predict([]).shape == (0,)
    assert [part.shape for part in ranker.predict_with_terms([])] == [(0,), (0,)]
    assert_same(ranker.state(), before)


# ---- Predicting


def test_predicting_never_learns():
    events, labels, _ = log(600)
    ranker = event_ranker()
    ranker.learn(events[:500], labels[:500])
    before = copy.deepcopy(ranker.state())
    first = ranker.predict(events)
    ranker.predict([event(context={"never": "seen"}, num=[3.0])])
    ranker.predict_with_terms(events)
    assert (ranker.predict(events) == first).all()
    assert_same(ranker.state(), before)


def test_a_prediction_does_not_depend_on_which_others_it_is_asked_with():
    events, labels, _ = log(600)
    ranker = event_ranker()
    ranker.learn(events, labels)
    backwards = ranker.predict(events[::-1])[::-1]
    np.testing.assert_allclose(ranker.predict(events), backwards, 1e-12)


def test_the_rest_and_the_term_of_the_item_are_the_whole_prediction():
    events, labels, _ = log(2000)
    ranker = event_ranker()
    ranker.learn(events, labels)
    rest, term = ranker.predict_with_terms(events)
    np.testing.assert_allclose(ranker.probability(rest + term), ranker.predict(events), 1e-12)
    by_item = {}
    for each, value in zip(events, term, strict=True):
        assert by_item.setdefault(each["item"], value) == pytest.approx(value)
    assert np.ptp(term) > 0.3


# ---- Whole logs


def test_it_finds_what_there_is_to_find_and_its_probabilities_are_true():
    events, labels, truth = log(30_000)
    p = progressively(event_ranker(), events, labels)
    judged = slice(6000, None)
    y, p, truth = labels[judged], p[judged], truth[judged]
    found, best = measured(y, p), measured(y, truth)
    assert found["auc"] - 0.5 > 0.9 * (best["auc"] - 0.5)
    assert found["ne"] < 1
    assert found["ece"] < 0.02


@pytest.mark.parametrize(("rate", "seeds"), [(-5.3, 6), (0.0, 2), (5.3, 2)])
def test_without_signal_it_does_no_harm_however_few_openings_there_are(rate, seeds):
    entropies, harms = [], []
    for seed in range(seeds):
        events, labels, _ = log(20_000, seed, rate=rate, taste=0.0)
        p = progressively(event_ranker(), events, labels, batch=100)
        before = np.concatenate(([0.0], labels.cumsum()[:-1]))
        running = (before + 0.2) / (np.arange(len(labels)) + 2)
        judged = slice(4000, None)
        entropies.append(measured(labels[judged], p[judged])["ne"])
        harms.append((log_loss(p, labels) - log_loss(running, labels))[judged].mean())
    assert np.mean(entropies) <= 1.005
    assert max(harms) <= 0.0005


def test_after_every_taste_has_turned_it_learns_again():
    events, labels, truth = log(40_000, 3, flip=20_000)
    p = progressively(event_ranker(), events, labels)

    def found(start, end):
        part = slice(start, end)
        learned, best = (measured(labels[part], each[part])["auc"] - 0.5 for each in (p, truth))
        return learned / best

    assert found(15_000, 20_000) > 0.85
    assert found(20_000, 21_000) < 0  # what it knew is the opposite of what is true now
    assert found(35_000, 40_000) > 0.6


# ---- State


def test_a_restored_ranker_goes_on_as_if_there_had_been_no_stop():
    events, labels, _ = log(1000)
    one, other = event_ranker(), event_ranker()
    one.learn(events[:333], labels[:333])
    other.restore(one.state())
    for ranker in (one, other):
        ranker.learn(events[333:], labels[333:])
    assert_same(one.state(), other.state())
    assert (one.predict(events) == other.predict(events)).all()
