"""Clients that come all at once are let in one after another, as fast as the server can."""

from __future__ import annotations

from typing import Any

from broker.config_overload import OverloadSettings
from broker.overload.pace import Pace


def pace(**settings: Any) -> Pace[int]:
    return Pace(OverloadSettings(**settings), 0.0)


def storm(state: Pace[int], clients: int) -> int:
    """All come at second 0; how many are let in at once."""
    return sum(state.admit(0.0) or not state.wait(client, 0.0) for client in range(clients))


def test_a_few_clients_are_let_in_at_once() -> None:
    assert storm(pace(), 16) == 16


def test_the_others_are_let_in_at_the_rate_first_come_first_served() -> None:
    state = pace(connect_rate=100)
    assert storm(state, 50) == 16
    assert state.due(0.001) == ([], [])
    assert state.due(0.1) == (list(range(16, 26)), [])
    assert (state.waiting, state.waited) == (24, 34)


def test_who_comes_while_others_wait_does_not_overtake_them() -> None:
    state = pace(connect_rate=100)
    storm(state, 20)
    assert not state.admit(10.0)


def test_who_finds_no_place_to_wait_or_waits_for_too_long_is_refused() -> None:
    state = pace(connect_rate=1, connect_queue=4, connect_wait=10)
    storm(state, 16)
    assert [state.wait(client, 0.0) for client in range(6)] == [True] * 4 + [False] * 2
    admitted, late = state.due(10.5)
    assert (admitted, late) == ([], [0, 1, 2, 3])
    assert state.refused == 6


def test_the_rate_falls_while_the_server_is_late_and_rises_while_clients_wait() -> None:
    state = pace(connect_rate=100)
    storm(state, 50)
    state.observe(late=True)
    slow = state.rate
    assert slow < 100
    for _ in range(10):
        state.observe(late=False)
    assert state.rate > 100


def test_the_rate_has_bounds_and_goes_back_to_what_was_set() -> None:
    state = pace(connect_rate=100)
    for _ in range(100):
        state.observe(late=True)
    assert state.rate == 20
    for _ in range(200):
        state.observe(late=False)
    assert 99 < state.rate <= 100


def test_switched_off_everybody_is_let_in() -> None:
    assert storm(pace(enabled=False), 10_000) == 10_000


def test_another_rate_holds_at_once_and_other_settings_leave_what_was_found_out() -> None:
    state = pace(connect_rate=100)
    state.observe(late=True)
    found = state.rate
    state.adopt(OverloadSettings(connect_rate=100, connect_queue=5))
    assert state.rate == found < 100
    state.adopt(OverloadSettings(connect_rate=300))
    assert state.rate == 300


def test_who_has_gone_waits_no_more_and_takes_nobodys_turn() -> None:
    state = pace(connect_rate=100)
    storm(state, 46)
    for client in range(16, 36):
        state.leave(client)
    state.leave(1000)
    assert state.waiting == 10
    assert state.due(0.1) == (list(range(36, 46)), [])
