from __future__ import annotations

from math import inf, nan

import pytest

from simulator.links.profiles import PROFILES, Profile, custom


def test_there_are_the_profiles_that_the_documentation_names() -> None:
    assert [*PROFILES] == ["none", "2g-gprs", "2g-edge", "nbiot-nb1", "nbiot-nb2", "ltem-m1", "wifi"]  # fmt: skip
    assert all(name == profile.name for name, profile in PROFILES.items())


def test_only_the_profile_none_does_nothing() -> None:
    assert [name for name, profile in PROFILES.items() if profile.straight] == ["none"]


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("2g-gprs", 0.5, 0.7), ("2g-edge", 0.3, 0.4), ("nbiot-nb1", 1.6, 10), ("ltem-m1", 0.1, 0.2), ("wifi", 0.04, 0.05)],
)  # fmt: skip
def test_round_trips_are_what_is_cited(name: str, least: float, most: float) -> None:
    assert least <= PROFILES[name].round_trip <= most


def test_every_radio_says_where_its_figures_come_from() -> None:
    assert all(profile.radio.source for profile in PROFILES.values())


def test_the_more_a_state_does_the_more_it_takes() -> None:
    for name in ("2g-gprs", "nbiot-nb1", "ltem-m1", "wifi"):
        radio = PROFILES[name].radio
        assert radio.transmit > radio.receive >= radio.connected > radio.idle > radio.asleep > 0


def test_the_retransmission_timer_is_a_second_at_least() -> None:
    assert PROFILES["wifi"].rto == 1.0
    assert PROFILES["nbiot-nb1"].rto == pytest.approx(2.4 + 4 * 0.4)


def test_a_custom_profile_differs_where_it_says() -> None:
    mine = custom(PROFILES["ltem-m1"], name="cellar", latency=0.08, hole_per_hour=4.0)
    assert (mine.name, mine.latency, mine.hole_per_hour) == ("cellar", 0.08, 4.0)
    assert (mine.down, mine.radio) == (PROFILES["ltem-m1"].down, PROFILES["ltem-m1"].radio)


def test_a_misspelt_figure_is_told_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="no 'latncy'; did you mean 'latency'"):
        custom(PROFILES["wifi"], latncy=1.0)


def test_an_unknown_figure_is_told_with_all_there_are() -> None:
    with pytest.raises(ValueError, match="there are name, latency, jitter"):
        custom(PROFILES["wifi"], zzzzzzzz=1.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"latency": -1.0}, "latency is -1.0, but must be 0 or more"),
        ({"jitter": inf}, "jitter is inf"),
        ({"hole_seconds": nan}, "hole_seconds is nan"),
        ({"down": 0.0}, "down is 0.0, but must be more than 0 bit/s"),
        ({"up": nan}, "up is nan"),
        ({"loss": 1.0}, "loss is 1.0, but must be less than 1"),
        ({"loss": "much"}, "numbers"),
    ],
)
def test_an_impossible_figure_is_refused_by_name(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        custom(PROFILES["wifi"], **changes)


def test_a_profile_of_only_jitter_is_not_straight() -> None:
    assert not Profile("x", jitter=0.1).straight
    assert not Profile("x", up=1e6).straight
    assert not Profile("x", reset_per_hour=1).straight
