from __future__ import annotations

import json
from math import isnan

import numpy as np
import pytest

from feedgen.evaluate.baselines import Newest, Popularity, Prior
from feedgen.evaluate.bootstrap import Interval
from feedgen.evaluate.progressive import run
from feedgen.evaluate.report import AT_PUBLISH, REKEYED, Report, policies, report

BASELINES = ("popularity", "newest")
METRICS = ("auc", "ne", "log_loss", "ece", "ndcg@10", "list_auc")


class Knowing:
    """Knows the truth of the small world."""

    def predict(self, events):
        return np.array([np.linspace(0.05, 0.95, 25)[int(event["item"][1:])] for event in events])

    def learn(self, events, labels):
        assert len(events) == len(labels)


def judged(labelled, first, name="learned", **how):
    rankers = {name: first, "popularity": Popularity(), "newest": Newest()}
    return report(run(labelled, rankers), **how)


def leading(**lows):
    """Return a report whose first ranker leads by so much in each metric; else undecided."""
    undecided = Interval(0, -1, 1)
    lead = {
        metric: {
            name: Interval(low, low, low)
            if (low := lows.get(f"{metric}_{name}", lows.get(metric)))
            else undecided
            for name in BASELINES
        }
        for metric in METRICS
    }
    return Report(9, 0.5, 3, 3, 0.0, ("learned", *BASELINES), {}, lead)


def test_who_knows_the_truth_beats_both_baselines(world):
    found = judged(world(6000), Knowing())
    assert found.names == ("learned", "popularity", "newest")
    assert (found.events, found.devices) == (4800, 40)
    for metric in ("auc", "ne", "log_loss"):
        assert all(found.lead[metric][name].low > 0 for name in BASELINES), metric
    assert found.lead["ndcg@10"]["newest"].low > 0.1
    assert "learned is better than popularity and newest in AUC, NE" in found.verdict(BASELINES)


def test_a_lead_is_paired_so_it_is_surer_than_the_intervals_of_the_two_would_say(world):
    found = judged(world(3000), Knowing())
    lead = found.lead["auc"]["popularity"]
    each = found.metrics["auc"]
    assert lead.value == pytest.approx(each["learned"].value - each["popularity"].value)
    assert lead.width < each["learned"].width


def test_less_entropy_is_a_lead(world):
    found = judged(world(3000), Knowing())
    ne = found.metrics["ne"]
    assert found.lead["ne"]["newest"].value == pytest.approx(
        ne["newest"].value - ne["learned"].value
    )
    assert found.lead["ne"]["newest"].value > 0


def test_of_two_equals_none_is_better(world):
    found = judged(world(1500), Popularity())
    assert all(found.lead[metric]["popularity"].value == 0 for metric in METRICS)


def test_only_what_is_behind_the_warm_up_is_judged(world):
    labelled = world(1000)
    spoilt = [(event, 1 - y) if i < 200 else (event, y) for i, (event, y) in enumerate(labelled)]
    one, other = (judged(log, Knowing(), resamples=0) for log in (labelled, spoilt))
    assert one.metrics["auc"]["learned"] == pytest.approx(
        other.metrics["auc"]["learned"], nan_ok=True
    )
    assert one.lists == other.lists < 1000


def test_a_baseline_may_be_the_one_in_question(world):
    labelled = world(2000)
    found = report(run(labelled, {"newest": Newest(), "popularity": Popularity()}))
    assert "newest is worse than popularity in AUC" in found.verdict(BASELINES)


def test_without_resamples_there_are_numbers_but_no_verdict(world):
    found = judged(world(500), Knowing(), resamples=0)
    assert 0.5 < found.metrics["auc"]["learned"].value < 1
    assert isnan(found.metrics["auc"]["learned"].low)
    assert found.verdict(BASELINES).startswith("No verdict")


def test_a_log_in_which_nothing_is_opened_has_no_verdict(world):
    found = judged(world(300, rates=0.0), Prior())
    assert isnan(found.metrics["auc"]["learned"].value)
    assert found.verdict(BASELINES).startswith("No verdict")
    assert judged([], Prior()).verdict(BASELINES) == "There are no events to judge by."


@pytest.mark.parametrize(
    ("lows", "said"),
    [
        (dict.fromkeys(METRICS, 0.1), "learned beats popularity and newest in every metric, beyond the intervals."),
        ({}, "No metric sets learned apart from popularity and newest beyond the intervals."),
        (
            {"auc": 0.1, "ne": 0.1, "ece_newest": 0.1},
            "learned is better than popularity and newest in AUC and NE, beyond the intervals; the rest is undecided.",
        ),
        (
            {**dict.fromkeys(METRICS, 0.1), "list_auc_newest": -0.1},
            "learned is better than popularity and newest in AUC, NE, log-loss, ECE and NDCG@10 and is worse than newest in list AUC, beyond the intervals.",
        ),
    ],
)  # fmt: skip
def test_the_verdict_says_no_more_than_the_intervals_do(lows, said):
    assert leading(**lows).verdict(BASELINES) == said


def test_what_scoring_once_costs_and_what_re_keying_regains_is_said():
    lead = {"auc": {AT_PUBLISH: Interval(0.04), REKEYED: Interval(0.01)}}
    found = Report(9, 0.5, 3, 3, 0.0, ("learned", AT_PUBLISH, REKEYED), {}, lead)
    assert found.rekeying() == (
        "Scoring items once, at publication, costs 0.0400 of AUC; re-keying regains 75% of that."
    )
    assert leading().rekeying() is None


def test_lists_that_stretch_over_batches_call_for_caution_because_they_judge_too_low(world):
    labelled = world(4000, rates=0.5, devices=8)
    split, whole = (
        report(run(labelled, {"prior": Prior()}, batch=batch), resamples=0) for batch in (1, "day")
    )
    assert split.metrics["list_auc"]["prior"].value < 0.49
    assert whole.metrics["list_auc"]["prior"].value == 0.5
    assert "% of the lists stretch over several batches" in split.caution()
    assert (whole.split, whole.caution()) == (0.0, None)


def test_a_report_is_json_without_nan(world):
    found = judged(world(300, rates=0.0), Prior())
    said = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert said["metrics"]["auc"]["learned"] == {"value": None, "low": None, "high": None}
    assert said["events"] == 240


def with_propensities(labelled, choose):
    for event, _ in labelled:
        if (p := choose(event)) is not None:
            event["propensity"] = p
    return labelled


def test_the_log_itself_is_worth_its_rate_and_knowing_more_is_worth_more(world):
    labelled = with_propensities(world(4000), lambda _: 0.5)
    found = policies(run(labelled, {"learned": Knowing(), "newest": Newest()}))
    logged, learned, newest = (found.estimates[name] for name in ("logged", "learned", "newest"))
    assert logged.snips.value == pytest.approx(found.logged)
    assert learned.too_few is None
    assert learned.snips.low > max(found.logged, newest.snips.high)


def test_events_without_a_propensity_are_left_out_and_counted(world):
    labelled = with_propensities(world(1000), lambda e: 0.5 if e["item"] < "i2" else None)
    found = policies(run(labelled, {"learned": Knowing()}))
    kept = sum("propensity" in event for event, _ in labelled[200:])
    assert found.without == 800 - kept
    assert found.estimates["learned"].events == kept


def test_a_log_without_propensities_has_too_few_events_to_tell(world):
    found = policies(run(world(1000), {"learned": Knowing()}))
    assert found.without == 800
    assert found.estimates["learned"].too_few
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["logged"] is None
