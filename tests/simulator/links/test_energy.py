from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.links.energy import DAY, NB_IOT, Activity, Radio, battery_days, per_day
from simulator.links.modem import Modem
from simulator.links.profiles import PROFILES

RADIO = Radio("a table of this test", transmit=100.0, receive=10.0, connected=5.0, idle=1.0, asleep=0.1, tail=20.0, linger=10.0)  # fmt: skip


def test_bytes_are_charged_for_their_time_on_the_air() -> None:
    activity = Activity()
    activity.opens(0.0, RADIO, 1.0)
    activity.transmits(0.0, 2.0, RADIO)
    activity.receives(2.0, 3.0, RADIO)
    assert activity.joules(RADIO, 5.0) == 2 * 100 + 3 * 10


def test_after_the_last_byte_the_radio_stays_connected_for_the_tail() -> None:
    activity = Activity()
    activity.opens(0.0, RADIO, 1.0)
    activity.transmits(0.0, 1.0, RADIO)
    assert activity.settled(6.0, RADIO, 1.0).connected == 5.0
    assert activity.settled(500.0, RADIO, 1.0).connected == 20.0


def test_bytes_within_the_tail_begin_it_anew() -> None:
    activity = Activity()
    activity.opens(0.0, RADIO, 1.0)
    for at in (0.0, 15.0, 30.0):
        activity.receives(at, 0.0, RADIO)
    assert activity.settled(500.0, RADIO, 1.0).connected == 50.0


def test_a_device_with_a_connection_never_sleeps() -> None:
    activity = Activity()
    activity.opens(0.0, RADIO, 1.0)
    settled = activity.settled(1_000.0, RADIO, 1.0)
    assert settled.asleep == 0
    assert settled.joules(RADIO, 1_000.0) == 20 * 5 + 980 * 1


def test_a_device_without_one_sleeps_after_tail_and_active_timer() -> None:
    activity = Activity()
    activity.opens(0.0, RADIO, 1.0)
    activity.closes()
    settled = activity.settled(1_000.0, RADIO, 1.0)
    assert settled.asleep == 970
    assert settled.joules(RADIO, 1_000.0) == pytest.approx(20 * 5 + 10 * 1 + 970 * 0.1)


def test_pauses_of_a_schedule_run_at_its_speed_and_those_of_a_connection_do_not() -> None:
    activity = Activity()
    activity.opens(0.0, RADIO, 60.0)
    activity.receives(5.0, 0.0, RADIO)
    assert activity.connected == 5.0
    assert activity.settled(15.0, RADIO, 60.0).connected == 15.0
    activity.closes()
    assert activity.settled(15.0, RADIO, 60.0).asleep == 600 - 20 - 10


def test_a_connection_that_seems_to_last_beyond_the_schedule_is_slept_through() -> None:
    activity = Activity()
    activity.opens(0.0, RADIO, 60.0)
    settled = activity.settled(100.0, RADIO, 60.0)
    assert settled.joules(RADIO, 6_000.0, awake=120.0) == pytest.approx(
        20 * 5 + 100 * 1 + 5_880 * 0.1
    )
    assert settled.joules(RADIO, 6_000.0, awake=5.0) == pytest.approx(20 * 5 + 5_980 * 0.1)


def test_a_radio_sleeps_until_its_first_connection() -> None:
    activity = Activity(until=100.0)
    assert activity.settled(150.0, RADIO, 2.0).asleep == 100
    assert activity.opens(160.0, RADIO, 2.0), "it has to find its network first"
    assert (activity.asleep, activity.connected) == (120, 0)


def test_only_a_radio_that_went_idle_has_to_be_brought_back() -> None:
    activity = Activity()
    activity.opens(0.0, RADIO, 1.0)
    activity.closes()
    assert not activity.opens(20.0, RADIO, 1.0)
    activity.closes()
    assert activity.opens(41.0, RADIO, 1.0)


def test_a_radio_that_sleeps_sleeps_on() -> None:
    activity = Activity()
    activity.opens(0.0, RADIO, 1.0)
    activity.closes()
    once = activity.settled(200.0, RADIO, 1.0)
    assert once.asleep == activity.settled(100.0, RADIO, 1.0).settled(200.0, RADIO, 1.0).asleep


def test_looking_changes_nothing() -> None:
    activity = Activity()
    activity.opens(0.0, RADIO, 1.0)
    activity.settled(100.0, RADIO, 1.0)
    assert activity == Activity(until=0.0, open=True, off=False)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("tro"), st.floats(0, 200), st.floats(0, 5)), max_size=25),
)
def test_no_second_is_charged_twice(steps: list[tuple[str, float, float]]) -> None:
    activity, now = Activity(), 0.0
    activity.opens(now, RADIO, 1.0)
    for what, pause, seconds in steps:
        now = max(now + pause, activity.until)
        if what == "o":
            activity.closes()
            now += pause
            activity.opens(now, RADIO, 1.0)
        else:
            (activity.transmits if what == "t" else activity.receives)(now, seconds, RADIO)
    settled = activity.settled(activity.until + 50.0, RADIO, 1.0)
    named = settled.transmit + settled.receive + settled.connected + settled.asleep
    assert named <= activity.until + 50.0 + 1e-6


# What a report says


def test_joules_are_given_for_a_device_and_a_day() -> None:
    assert per_day(50.0, 10 * DAY) == 5.0
    assert per_day(50.0, 0.0) is None


def test_a_battery_is_given_in_days() -> None:
    assert battery_days(10.8) == pytest.approx(1_000)
    assert battery_days(0.0) == inf


def test_waking_once_an_hour_costs_less_than_a_ping_a_minute() -> None:
    """And both are of the order that the literature finds for NB-IoT: a few joules per wake-up."""
    profile = PROFILES["nbiot-nb1"]
    asleep, awake = Modem(profile, 0.0), Modem(profile, 0.0)
    for hour in range(24):
        at = hour * 3_600.0
        at += asleep.opens(at)
        asleep.handshake(at, tls=False)
        asleep.sent(at + 3, 100)
        asleep.received(at + 6, 600)
        asleep.closed(at + 7, by_device=True)
    awake.opens(0.0)
    for minute in range(24 * 60):
        awake.sent(minute * 60.0, 2)
        awake.received(minute * 60.0 + 2.4, 2)
    hourly, always = asleep.joules(DAY, DAY), awake.joules(DAY, DAY)
    assert 24 * 1 < hourly < 24 * 5
    assert always > 20 * hourly
    assert 90 < battery_days(hourly) < 500
    assert NB_IOT.asleep * DAY < 1, "what it takes asleep hardly counts"
