from __future__ import annotations

import numpy as np

from feedgen.ranking.evidence import Evidence

COLUMNS = ("device", "codes", "zone", "n", "at", "predicted", "heard", "seen", "held_out")


def test_places_are_all_different_and_counted():
    evidence = Evidence(2)
    places = [evidence.take() for _ in range(5000)]
    assert len(set(places)) == len(evidence) == 5000
    for name in COLUMNS:
        assert len(getattr(evidence, name)) > max(places)


def test_what_is_known_stays_when_there_is_more():
    evidence = Evidence(2)
    for number in range(3000):
        place = evidence.take()
        evidence.n[place] = number
        evidence.codes[place] = (number, 1)
        evidence.device[place] = 2**64 - 1 - number
    assert sorted(evidence.n[:3000].tolist()) == list(range(3000))
    found = evidence.n[:3000]
    assert (evidence.codes[:3000, 0] == found).all()
    assert (evidence.device[:3000] == np.uint64(2**64 - 1) - found.astype(np.uint64)).all()


def test_a_place_that_is_given_back_is_taken_again_and_remembers_no_prediction():
    evidence = Evidence(1)
    places = [evidence.take() for _ in range(1024)]
    size = len(evidence.n)
    evidence.predicted[places] = 0.5
    evidence.release(np.array(places[:10]))
    assert len(evidence) == 1014
    again = [evidence.take() for _ in range(10)]
    assert set(again) == set(places[:10])
    assert np.isnan(evidence.predicted[again]).all()
    assert len(evidence.n) == size


def test_taking_and_giving_back_for_ever_needs_no_more_room():
    evidence = Evidence(3)
    for _ in range(100):
        places = np.array([evidence.take() for _ in range(500)])
        evidence.release(places)
    assert len(evidence) == 0
    assert len(evidence.n) == 1024


def test_devices_without_fields_have_none():
    evidence = Evidence(0)
    place = evidence.take()
    assert evidence.codes[place].shape == (0,)
