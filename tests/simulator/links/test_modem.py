"""A device's bytes, counted by hand and by the modem."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.links.link import HEADER, MSS, Again
from simulator.links.modem import TLS_FINISHED, TLS_FLIGHT, TLS_HELLO, TLS_RECORD, Meter, Modem
from simulator.links.profiles import PROFILES, Profile

NONE = PROFILES["none"]


def modem(profile: Profile = NONE) -> Modem:
    """A modem whose connection is there, and what that cost not counted."""
    return Modem(profile, 0.0)


def test_a_handshake_is_two_segments_up_and_one_down() -> None:
    tested = modem()
    tested.handshake(0.0, tls=False)
    assert tested.read(1.0) == Meter(down=44, up=44 + 40, packets_down=1, packets_up=2)


def test_tls_adds_its_flights() -> None:
    tested = modem()
    tested.handshake(0.0, tls=True)
    flight = TLS_FLIGHT + 2 * HEADER
    up = 44 + 40 + TLS_HELLO + TLS_FINISHED + 2 * HEADER
    assert tested.read(1.0) == Meter(44 + flight, up, packets_down=3, packets_up=4)


def test_tls_adds_a_record_to_each_message() -> None:
    tested = modem()
    tested.handshake(0.0, tls=True)
    before = tested.read(0.0).up
    tested.sent(1.0, 10)
    assert tested.read(1.0).up - before == HEADER + TLS_RECORD + 10


def test_a_frame_and_its_puback_need_no_segment_more() -> None:
    tested = modem()
    tested.received(1.0, 100)
    tested.sent(1.0, 4)
    tested.received(1.01, 50)  # has what acknowledges the PUBACK
    tested.sent(1.01, 4)
    assert tested.read(1.02) == Meter(150 + 80, 8 + 80, 2, 2)
    assert tested.read(9.0) == Meter(150 + 120, 8 + 80, 3, 2), "only the last PUBACK goes without"


def test_a_frame_that_nobody_answers_is_acknowledged_after_a_while() -> None:
    tested = modem()
    tested.received(1.0, 100)
    assert tested.read(1.24).packets_up == 0
    assert tested.read(1.25) == Meter(down=140, up=40, packets_down=1, packets_up=1)


def test_frames_close_together_share_an_acknowledgement() -> None:
    tested = modem()
    for n in range(5):
        tested.received(1.0 + n / 100, 10)
    assert tested.read(9.0).packets_up == 1


def test_the_server_acknowledges_what_it_does_not_answer_after_the_round_trip() -> None:
    tested = modem(Profile("far", latency=1.0))
    tested.sent(0.0, 2)
    assert tested.read(2.0).packets_down == 0
    assert tested.read(2.04).packets_down == 1


def test_an_answer_within_the_round_trip_takes_the_acknowledgement_along() -> None:
    tested = modem(Profile("far", latency=1.0))
    tested.sent(0.0, 2)
    tested.received(2.0, 2)
    tested.sent(2.1, 2)
    assert tested.read(2.1) == Meter(42, 84, 1, 2)


def test_every_second_full_segment_is_acknowledged_at_once() -> None:
    tested = modem()
    tested.received(0.0, 4 * MSS)
    assert tested.read(0.0) == Meter(4 * (MSS + HEADER), 2 * HEADER, 4, 2)


def test_segments_sent_again_count_again() -> None:
    tested = modem()
    tested.again(0.0, Again(2, 200), upwards=True)
    tested.again(0.0, Again(1, 60), upwards=False)
    assert tested.read(0.0) == Meter(down=60, up=200, packets_down=1, packets_up=2)


@pytest.mark.parametrize(
    ("by_device", "reset", "up", "down"),
    [(True, False, 2, 1), (False, False, 1, 2), (True, True, 1, 0), (False, True, 0, 1)],
)
def test_an_end_costs_three_segments_and_a_reset_one(
    by_device: bool, reset: bool, up: int, down: int
) -> None:
    tested = modem()
    tested.closed(0.0, reset=reset, by_device=by_device)
    assert tested.read(0.0) == Meter(down * 40, up * 40, down, up)


def test_a_refused_connection_costs_syn_and_reset() -> None:
    tested = modem()
    tested.refused(0.0)
    assert tested.read(0.0) == Meter(40, 44, 1, 1)


@settings(max_examples=100, deadline=None)
@given(
    events=st.lists(st.tuples(st.floats(0, 2), st.booleans(), st.integers(1, 5_000)), max_size=20),
    name=st.sampled_from([*PROFILES]),
)
def test_headers_are_forty_bytes_a_segment_whatever_happens(
    events: list[tuple[float, bool, int]], name: str
) -> None:
    tested, now = modem(PROFILES[name]), 0.0
    for pause, down, size in events:
        now += pause
        (tested.received if down else tested.sent)(now, size)
    meter = tested.read(now + 10)
    payload_down = sum(size for _, down, size in events if down)
    payload_up = sum(size for _, down, size in events if not down)
    assert meter.down == payload_down + HEADER * meter.packets_down
    assert meter.up == payload_up + HEADER * meter.packets_up
    assert meter.packets_down >= sum(-(-size // MSS) for _, down, size in events if down)


# What keeps the radio busy


def test_a_device_that_wakes_up_waits_for_its_network() -> None:
    tested = Modem(PROFILES["nbiot-nb1"], 0.0)
    assert tested.opens(0.0) == PROFILES["nbiot-nb1"].attach_seconds
    tested.handshake(2.0, tls=False)
    tested.closed(3.0)
    assert tested.opens(10.0) == 0.0, "the radio is still connected"
    tested.unanswered()
    assert tested.opens(100.0) == PROFILES["nbiot-nb1"].attach_seconds


def test_the_schedule_may_run_faster_than_the_clock() -> None:
    tested = Modem(PROFILES["nbiot-nb1"], 0.0, speed=60.0)
    tested.opens(0.0)
    tested.closed(2.0)
    assert tested.opens(3.0) > 0, "a second of the clock is a minute of the device"


def test_the_same_bytes_take_more_where_the_bandwidth_is_less() -> None:
    joules = []
    for name in ("nbiot-nb1", "nbiot-nb2"):
        tested = Modem(PROFILES[name], 0.0)
        tested.opens(0.0)
        tested.received(0.0, 10_000)
        joules.append(tested.joules(10.0, 10.0))
    assert joules[0] > joules[1]


def test_what_one_radio_took_stays_when_another_comes() -> None:
    tested = Modem(PROFILES["2g-gprs"], 0.0)
    tested.opens(0.0)
    tested.sent(2.0, 5_000)
    before = tested.joules(100.0, 100.0)
    tested.change(NONE, 100.0)
    assert tested.joules(500.0, 500.0) == pytest.approx(before)
    tested.change(PROFILES["wifi"], 500.0)
    radio = PROFILES["wifi"].radio
    tail = (radio.connected - radio.idle) * radio.tail
    assert tested.joules(600.0, 600.0) == pytest.approx(before + 100 * radio.idle + tail)
