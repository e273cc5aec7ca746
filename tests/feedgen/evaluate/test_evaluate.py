"""The learned ranker as the evaluation sees it."""

from __future__ import annotations

import numpy as np

from feedgen.evaluate import event_ranker
from feedgen.evaluate.baselines import Newest, Popularity
from feedgen.evaluate.progressive import Held, run
from feedgen.evaluate.ranker import TermRanker
from feedgen.evaluate.report import report


def personal(count=4000, seed=0):
    """Return a log in which each device likes one of four channels; items are new ever and again."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        device, item = int(rng.integers(40)), int(rng.integers(n // 40, n // 40 + 16))
        likes = (device + item) % 4 == 0
        event = {
            "t": 600.0 * n,
            "device": f"d{device}",
            "item": f"i{item}",
            "list": f"d{device}/{n // 400}",
            "device_fields": {},
            "item_fields": {"channel": f"c{item % 4}"},
            "context": {},
        }
        yield event, int(rng.random() < (0.8 if likes else 0.1))


def test_the_learned_ranker_predicts_without_learning_and_learns_in_batches():
    labelled = list(personal(400))
    events, labels = [e for e, _ in labelled], np.array([y for _, y in labelled], np.int8)
    ranker = event_ranker()
    ranker.learn(events[:200], labels[:200])
    before = ranker.predict(events[200:])
    assert before.shape == (200,)
    assert np.array_equal(ranker.predict(events[200:]), before)
    ranker.learn(events[200:], labels[200:])
    assert not np.array_equal(ranker.predict(events[200:]), before)


def test_its_terms_add_up_to_what_it_predicts():
    labelled = list(personal(600))
    events, labels = [e for e, _ in labelled], np.array([y for _, y in labelled], np.int8)
    ranker = event_ranker()
    assert isinstance(ranker, TermRanker)
    ranker.learn(events, labels)
    rest, term = ranker.predict_with_terms(events)
    assert np.allclose(ranker.probability(rest + term), ranker.predict(events), atol=1e-9)
    assert np.ptp(term) > 0


def test_it_learns_who_likes_what_and_beats_both_baselines():
    ranker = event_ranker()
    rankers = {"learned": ranker, "popularity": Popularity(), "newest": Newest()}
    found = report(run(personal(), {**rankers, "at publish": Held(ranker)}))
    for metric in ("auc", "ne", "log_loss"):
        assert all(found.lead[metric][name].low > 0 for name in ("popularity", "newest")), metric
