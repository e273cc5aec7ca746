from __future__ import annotations

import numpy as np
import pytest

from feedgen.evaluate.baselines import Newest, Popularity, Prior
from feedgen.evaluate.metrics import measure
from feedgen.evaluate.progressive import run

HOUR, DAY = 3600.0, 86_400.0


def event(item, t=0.0, device="d"):
    maps = {"device_fields": {}, "item_fields": {}, "context": {}}
    return {"t": t, "device": device, "item": item, "list": "l", **maps}


def learned(ranker, *what):
    for shown, y in what:
        ranker.learn([shown], np.array([y], np.int8))
    return ranker


@pytest.mark.parametrize("make", [Prior, Popularity, Newest])
def test_predicting_learns_nothing(make, world):
    labelled = world(200)
    ranker = make()
    ranker.learn([e for e, _ in labelled[:100]], np.array([y for _, y in labelled[:100]], np.int8))
    rest = [e for e, _ in labelled[100:]]
    before = ranker.predict(rest)
    ranker.predict([event("unseen", 9 * DAY)] * 50)
    assert np.array_equal(ranker.predict(rest), before)


@pytest.mark.parametrize("make", [Prior, Popularity, Newest])
def test_probabilities_come_close_to_the_rate_where_nothing_can_be_known(make, world):
    labelled = world(4000, rates=0.02)
    found = run(labelled, {"it": make()})
    judged = slice(found.judged, None)
    metrics = measure(found.y[judged], found.predictions["it"][judged], found.list[judged])
    assert metrics["ne"] < (1.06 if make is Popularity else 1.02)
    assert metrics["ece"] < 0.02


def test_the_prior_is_the_rate_of_what_was_learned():
    prior = learned(Prior(), *((event("i"), y) for y in (1, 0, 0)))
    assert prior.predict([event("a"), event("b")]).tolist() == [2 / 5, 2 / 5]


def test_an_item_that_is_opened_more_is_more_popular_and_an_unknown_one_has_the_rate():
    ranker = learned(Popularity(), *((event("a"), 1) for _ in range(9)), (event("b"), 0))
    a, b, unknown = ranker.predict([event("a"), event("b"), event("c")])
    assert b < unknown < a
    assert unknown == pytest.approx(10 / 12)


def test_popularity_halves_its_evidence_in_its_half_life():
    ranker = learned(Popularity(half_life=DAY, strength=2), *((event("a"), 1) for _ in range(8)))
    rate, prior = 9 / 10, 2 / (1 / 10)
    at_once, later = ranker.predict([event("a", 0), event("a", DAY)])
    assert at_once == pytest.approx((8 + prior * rate) / (8 + prior))
    assert later == pytest.approx((4 + prior * rate) / (4 + prior))


def test_newest_first_ranks_by_age_since_the_first_appearance():
    ranker = learned(Newest(), (event("old", 0), 1), (event("young", 5 * HOUR), 0))
    t = 9 * HOUR
    old, young, unseen = ranker.predict([event("old", t), event("young", t), event("new", t)])
    assert old < young < unseen


def test_newest_first_stays_newest_first_where_people_prefer_what_is_older():
    ranker = Newest()
    for hour in range(400):
        fresh, stale = event(f"i{hour}", hour * HOUR), event("i0", hour * HOUR)
        ranker.learn([fresh, stale], np.array([0, 1], np.int8))
    stale, fresh = ranker.predict([event("i0", 400 * HOUR), event("new", 400 * HOUR)])
    assert stale < fresh


def test_newest_first_learns_how_much_age_matters():
    ranker = Newest()
    rng = np.random.default_rng(0)
    for n in range(3000):
        shown = event(f"i{n % 30 + 30 * (n // 300)}", n * HOUR / 10)
        age = n % 300 // 30
        ranker.learn([shown], np.array([rng.random() < (0.8 if age == 0 else 0.1)], np.int8))
    old, new = ranker.predict([event("i270", 300 * HOUR), event("unseen", 300 * HOUR)])
    assert new - old > 0.15


def test_newest_first_knows_when_an_item_appeared_though_its_label_is_still_to_come():
    ranker = Newest()
    ranker.witness([event("a", 0)])
    seen, unseen = ranker.predict([event("a", 5 * HOUR), event("b", 5 * HOUR)])
    assert seen < unseen
