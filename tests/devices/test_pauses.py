"""Pauses between tries to connect, without any connection."""

from __future__ import annotations

from devices.pauses import Pauses


def assert_near(pause: float, longest: float) -> None:
    """Each pause is shortened at random by up to half."""
    assert longest / 2 <= pause <= longest


def test_pauses_double_up_to_the_longest_and_are_shortened_by_up_to_half() -> None:
    pauses = Pauses(1.0, 10.0)
    for longest in (1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        assert_near(pauses.next(), longest)


def test_pauses_of_two_clients_differ() -> None:
    assert Pauses(1.0, 10.0).next() != Pauses(1.0, 10.0).next()


def test_after_a_connection_that_lasted_pauses_begin_anew() -> None:
    pauses = Pauses(1.0, 10.0)
    for _ in range(5):
        pauses.next()
    assert pauses.lost(10.0) == 0
    assert_near(pauses.next(), 1.0)
    assert_near(pauses.next(), 2.0)


def test_a_refusal_is_followed_by_the_longest_pause() -> None:
    pauses = Pauses(1.0, 10.0)
    pauses.refused()
    assert_near(pauses.next(), 10.0)
    assert_near(pauses.next(), 10.0)
    pauses.lost(10.0)
    assert_near(pauses.next(), 1.0)


def test_connections_that_do_not_last_make_the_pauses_longer_until_one_does() -> None:
    pauses = Pauses(1.0, 10.0)
    for brief, longest in enumerate((1.0, 2.0, 4.0, 8.0, 10.0, 10.0), start=1):
        assert pauses.lost(9.9) == brief
        assert_near(pauses.next(), longest)
    assert pauses.lost(10.0) == 0
    assert_near(pauses.next(), 1.0)
    assert pauses.lost(9.9) == 1
    assert_near(pauses.next(), 1.0)


def test_any_number_of_connections_may_fail_to_last() -> None:
    pauses = Pauses(0.5, 60.0)
    for _ in range(5_000):
        pauses.lost(0.0)
    assert_near(pauses.next(), 60.0)


def test_two_clients_that_throw_each_other_out_do_so_ever_more_rarely() -> None:
    """The server closes the older connection of a client id (MQTT 3.1.1, 3.1.4)."""
    clients = Pauses(1.0, 60.0), Pauses(1.0, 60.0)
    now, takeovers, lasted, connected = 0.0, 0, 0.0, 0
    while now < 3_600:
        clients[connected].lost(lasted)
        lasted = clients[connected].next()  # as long as the other one is left alone
        now += lasted
        connected = 1 - connected
        takeovers += 1
    assert takeovers < 150
