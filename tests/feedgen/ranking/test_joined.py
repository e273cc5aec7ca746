from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feedgen.ranking.joined import join
from tests.feedgen.decision_cases import admissions, outcomes

few = st.integers(1, 3)


def test_an_outcome_has_the_last_admission_before_it_was_shown():
    taken = [
        admissions(5, t=10.0, propensity=0.1, model=1),
        admissions(5, t=20.0, propensity=0.2, model=2, mean=7.0, sd=3.0),
        admissions(5, t=30.0, propensity=0.3, model=3),
    ]
    found = join([outcomes(5, shown=25.0, p=0.7, model=9)], taken)
    assert found.propensity.tolist() == [np.float32(0.2)]
    assert (found.model.tolist(), found.mean.tolist(), found.sd.tolist()) == ([2], [7.0], [3.0])
    assert found.p.tolist() == [np.float32(0.7)]


def test_an_item_that_is_shown_in_the_moment_of_its_admission_has_it():
    found = join([outcomes(5, shown=10.0)], [admissions(5, t=10.0, propensity=0.5)])
    assert found.propensity.tolist() == [0.5]


def test_what_was_never_admitted_has_no_propensity_and_no_model():
    other_item = admissions(5, t=1.0, n=2)
    other_device = admissions(6, t=1.0)
    later = admissions(5, t=11.0)
    found = join([outcomes(5, shown=10.0)], [other_item, other_device, later])
    assert np.isnan([found.propensity[0], found.mean[0], found.sd[0]]).all()
    assert found.model.tolist() == [-1]


def test_a_log_without_outcomes_or_without_admissions_is_joined():
    assert len(join([], [admissions(1)])) == 0
    alone = join([outcomes(1, 2)], [])
    assert np.isnan(alone.propensity).all()
    assert alone.device.tolist() == [1, 2]


def test_devices_whose_tokens_are_beyond_63_bits_are_joined():
    found = join([outcomes(2**64 - 1)], [admissions(2**64 - 1, 2**63, t=0.0, propensity=0.5)])
    assert found.propensity.tolist() == [0.5]


@given(
    taken=st.lists(st.tuples(few, few, st.lists(few, unique=True)), max_size=8),
    shown=st.lists(st.tuples(few, few, few), max_size=8),
)
def test_the_join_is_what_a_search_row_by_row_finds(taken, shown):
    # The model of each admission is its place in the log, which tells admissions apart.
    log = [
        admissions(*devices, t=float(t), n=n, model=place)
        for place, (t, n, devices) in enumerate(taken)
    ]
    expected = []
    for device, n, at in shown:
        fitting = [
            (t, place)
            for place, (t, item, devices) in enumerate(taken)
            if item == n and device in devices and t <= at
        ]
        expected.append(max(fitting)[1] if fitting else -1)
    columns = [outcomes(device, n=n, shown=float(at)) for device, n, at in shown]
    found = join(columns, iter(log))
    assert found.model.tolist() == expected
    assert found.device.tolist() == [device for device, _, _ in shown]
    assert np.isnan(found.propensity).tolist() == [model < 0 for model in expected]
