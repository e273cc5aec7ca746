from __future__ import annotations

import numpy as np

from feedgen.evaluate.served import served
from feedgen.ranking.decisions import Admissions, Outcomes
from feedgen.ranking.joined import join


def outcomes(*rows):
    """Return outcomes of (device, n, shown, p, opened)."""
    device, n, shown, p, opened = (np.array(column) for column in zip(*rows, strict=True))
    return Outcomes(
        t=1e6,
        model=1,
        device=device.astype(np.uint64),
        n=n.astype(np.int64),
        shown=shown.astype(np.float64),
        rank=np.zeros(len(rows), np.int8),
        p=p.astype(np.float32),
        opened=opened.astype(np.bool_),
        dismissed=np.zeros(len(rows), np.bool_),
        dwell=np.full(len(rows), -1, np.float32),
    )


def admission(device, n, t, propensity):
    one = np.ones(1, np.float32)
    return Admissions(
        t=t,
        n=n,
        model=1,
        rung=0,
        how=0,
        device=np.array([device], np.uint64),
        mean=one,
        sd=one,
        propensity=one * propensity,
        key=np.zeros(1, np.int32),
        bar=np.zeros(1, np.int32),
    )


def test_outcomes_are_events_in_the_order_in_which_items_were_shown():
    log = join(
        [outcomes((7, 11, 90_000, 0.5, True), (7, 12, 80_000, 0.25, False))],
        [admission(7, 11, 70_000, 0.125)],
    )
    found = served(log)
    (first, late) = found.labelled
    assert (first[0]["item"], first[1], late[0]["item"], late[1]) == ("12", 0, "11", 1)
    assert found.p.tolist() == [0.25, 0.5]
    assert late[0]["propensity"] == 0.125
    assert "propensity" not in first[0]
    assert first[0]["device"] == late[0]["device"] == "0000000000000007"
    assert [event["list"][-2:] for event, _ in found.labelled] == ["/0", "/1"]


def test_outcomes_without_a_prediction_or_a_time_are_left_out_and_counted():
    rows = (7, 11, 5, np.nan, True), (8, 11, 6, 0.5, True), (9, 11, np.inf, 0.5, False)
    found = served(join([outcomes(*rows)], []))
    assert (len(found.labelled), found.incomplete) == (1, 2)


def test_a_log_without_outcomes_has_no_events():
    assert served(join([], [])).labelled == []
