"""Shapes of change."""

from __future__ import annotations

import pytest

from simulator.drift import Drift, Kind


def test_a_sudden_drift_is_whole_at_once_and_gone_when_it_ends() -> None:
    drift = Drift(Kind.SUDDEN, 0.5, at=100, until=200)
    assert [drift.extent(t) for t in (0, 99.9, 100, 199.9, 200)] == [0, 0, 1, 1, 0]


def test_a_gradual_drift_grows_to_the_whole_and_stays() -> None:
    drift = Drift(Kind.GRADUAL, 0.5, at=100, over=100)
    extents = [drift.extent(t) for t in range(90, 260, 5)]
    assert extents == sorted(extents)
    assert drift.extent(150) == 0.5
    assert extents[-1] == 1


def test_a_recurring_drift_comes_and_goes() -> None:
    drift = Drift(Kind.RECURRING, 0.5, at=100, over=40)
    assert [drift.extent(t) for t in (99, 101, 119, 121, 139, 141, 161)] == [0, 1, 1, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"share": 1.1}, "share 1.1"),
        ({"share": -0.1}, "share -0.1"),
        ({"by": 2.0}, "by 2.0"),
        ({"over": 0.0}, "over 0.0"),
        ({"until": 0.0}, "until 0.0"),
    ],
)
def test_a_drift_that_cannot_be_is_refused(fields, said) -> None:
    with pytest.raises(ValueError, match=said):
        Drift(**{"kind": Kind.DROP, "share": 0.5, "at": 0.0, **fields})
