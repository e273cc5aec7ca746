from __future__ import annotations

import numpy as np
import pytest

from feedgen.evaluate.baselines import Popularity, Prior
from feedgen.evaluate.progressive import BadRanker, Held, run

DAY = 86_400.0


class Witnessing:
    """Says what it had learned when it was asked, as probabilities."""

    def __init__(self):
        self.learned, self.calls = [], []

    def predict(self, events):
        self.calls.append((len(events), list(self.learned)))
        return np.full(len(events), 0.5)

    def learn(self, events, labels):
        assert len(events) == len(labels)
        self.learned += [(event["t"], int(y)) for event, y in zip(events, labels, strict=True)]


def log(*times, items=None, y=None):
    maps = {"device_fields": {}, "item_fields": {}, "context": {}}
    names = items or ["i"] * len(times)
    labels = y or [n % 2 for n in range(len(times))]
    return [
        ({"t": float(t), "device": "d", "item": name, "list": "l", **maps}, label)
        for t, name, label in zip(times, names, labels, strict=True)
    ]


def test_a_batch_is_predicted_before_it_is_learned_and_learned_before_the_next():
    ranker = Witnessing()
    run(log(*range(7)), {"it": ranker}, batch=3)
    assert [(size, len(learned)) for size, learned in ranker.calls] == [(3, 0), (3, 3), (1, 6)]
    assert ranker.learned == [(n, n % 2) for n in range(6)]  # nobody asks after the last batch


def test_a_batch_of_a_day_ends_with_the_utc_day():
    ranker = Witnessing()
    run(log(0, 1, DAY - 1, DAY, 3 * DAY, 3 * DAY + 1), {"it": ranker}, batch="day")
    assert [size for size, _ in ranker.calls] == [3, 1, 2]


def test_a_label_is_learned_only_when_it_is_known():
    ranker = Witnessing()
    run(log(0, 10, 20, 30, 40), {"it": ranker}, batch=1, delay=15)
    assert [[t for t, _ in learned] for _, learned in ranker.calls] == [
        [], [], [0], [0, 10], [0, 10, 20],
    ]  # fmt: skip


def test_a_label_is_known_just_when_its_delay_is_over_and_a_batch_knows_what_its_first_event_does():
    ranker = Witnessing()
    run(log(0, 10, 20, 30, 35, 40), {"it": ranker}, batch=2, delay=20)
    assert [[t for t, _ in learned] for _, learned in ranker.calls] == [[], [0], [0, 10]]


def test_warm_up_is_learned_but_not_judged():
    found = run(log(*range(10)), {"it": Prior()}, warm_up=0.3)
    assert found.judged == 3
    assert len(found) == len(found.predictions["it"]) == 10


def test_columns_say_who_and_when():
    labelled = log(0, 5, 9)
    labelled[1][0].update(device="e", list="m", propensity=0.5, device_fields={"class": "tram"})
    found = run(labelled, {})
    assert found.device.tolist() == found.list.tolist() == [0, 1, 0]
    assert found.seen.tolist() == [0, 0, 1]
    assert found.asleep.tolist() == [float("inf"), float("inf"), 9.0]
    assert found.kinds == ("tram",)
    assert found.kind.tolist() == [-1, 0, -1]
    assert np.array_equal(found.propensity, [np.nan, 0.5, np.nan], equal_nan=True)


def test_all_rankers_see_the_same_and_progress_is_told(world):
    labelled, done = world(120), []
    found = run(labelled, {"a": Popularity(), "b": Popularity()}, on_batch=done.append)
    assert np.array_equal(found.predictions["a"], found.predictions["b"])
    assert done == [50, 100, 120]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (np.array([0.5]), r"shape \(1,\) for 2 events"),
        (np.array([0.5, 1.2]), "predicted 1.2"),
        (np.array([0.5, np.nan]), "predicted nan"),
        (np.array([-1e-9, 0.5]), "predicted -1e-09"),
    ],
)
def test_a_ranker_that_gives_no_probabilities_is_told_so(answer, said):
    ranker = Witnessing()
    ranker.predict = lambda _: answer
    with pytest.raises(BadRanker, match=said):
        run(log(0, 1), {"it": ranker})


class Drifting:
    """Its items' term is the time of the last learned event; the rest is nothing."""

    now = 0.0

    def predict_with_terms(self, events):
        return np.zeros(len(events)), np.full(len(events), self.now)

    def probability(self, logits):
        return logits / 100

    def predict(self, events):
        return self.probability(sum(self.predict_with_terms(events)))

    def learn(self, events, labels):
        assert len(labels)
        self.now = events[-1]["t"]


def test_an_item_that_is_scored_at_publication_keeps_the_term_it_had_then():
    ranker = Drifting()
    items = ["a", "a", "b", "a", "b"]
    found = run(log(1, 2, 3, 4, 5, items=items), {"it": ranker, "held": Held(ranker)}, batch=1)
    assert (100 * found.predictions["it"]).tolist() == [0, 1, 2, 3, 4]
    assert (100 * found.predictions["held"]).tolist() == [0, 0, 2, 0, 2]


def test_a_re_keyed_item_takes_the_fresh_term_when_that_has_moved_by_more_than_the_threshold():
    ranker = Drifting()
    found = run(log(*range(1, 9)), {"it": ranker, "held": Held(ranker, 2)}, batch=1)
    assert (100 * found.predictions["held"]).round(9).tolist() == [0, 0, 0, 3, 3, 3, 6, 6]


def test_re_keying_without_a_threshold_is_scoring_afresh():
    ranker = Drifting()
    found = run(log(*range(1, 9)), {"it": ranker, "held": Held(ranker, 0)}, batch=1)
    assert np.array_equal(found.predictions["it"], found.predictions["held"])


def test_an_empty_log_is_an_empty_run():
    found = run([], {"it": Prior()})
    assert len(found) == found.judged == len(found.predictions["it"]) == 0
