"""Failed logins, by address and time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.access.login_limits import MAX_ADDRESSES, LoginLimits, network_of


def limits(failures: int = 3, refill: float = 6.0) -> LoginLimits:
    """Three failures, one more every ten seconds."""
    return LoginLimits(failures=failures, refill=refill)


def fails(table: LoginLimits, address: str, now: float) -> bool:
    """Whether an attempt is let through to be checked; it fails then."""
    if table.exhausted(address, now):
        return False
    table.charge(address, now)
    return True


def test_an_address_has_so_many_failures_and_gets_them_back_one_by_one():
    table = limits()
    assert [fails(table, "192.0.2.1", 0) for _ in range(5)] == [True, True, True, False, False]
    assert not fails(table, "192.0.2.1", 9)
    assert [fails(table, "192.0.2.1", 10) for _ in range(2)] == [True, False]
    assert [fails(table, "192.0.2.1", 1000) for _ in range(4)] == [True, True, True, False]


def test_an_address_pays_for_itself_alone():
    table = limits(failures=1)
    assert fails(table, "192.0.2.1", 0)
    assert fails(table, "192.0.2.2", 0)
    assert not fails(table, "192.0.2.1", 0)


def test_looking_costs_nothing_and_is_not_remembered():
    table = limits(failures=1)
    assert not any(table.exhausted("192.0.2.1", 0) for _ in range(10))
    assert len(table) == 0


def test_failures_beyond_the_last_make_the_wait_longer():
    table = limits(failures=2)
    for _ in range(5):
        table.charge("192.0.2.1", 0)
    assert table.exhausted("192.0.2.1", 39)
    assert not table.exhausted("192.0.2.1", 40)
    assert [fails(table, "192.0.2.1", 40) for _ in range(2)] == [True, False]


def test_no_failures_means_no_limit():
    table = limits(failures=0)
    assert all(fails(table, "192.0.2.1", 0) for _ in range(1000))
    assert len(table) == 0


def test_the_table_is_bounded_and_forgets_who_failed_longest_ago():
    table = limits(failures=1)
    for i in range(MAX_ADDRESSES):
        table.charge(f"10.0.{i >> 8}.{i & 255}", 0)
    table.charge("10.0.0.0", 11)  # the first one again
    table.charge("192.0.2.1", 11)
    assert len(table) == MAX_ADDRESSES
    assert table.exhausted("10.0.0.0", 11)
    assert not table.exhausted("10.0.0.1", 1)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("somewhere", "somewhere"),
    ],
)
def test_an_ipv6_network_is_one_address(address: str, network: str):
    assert network_of(address) == network


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 5),
    st.floats(0.1, 600),
    st.lists(st.floats(0, 30), max_size=60),
)
def test_no_more_failures_pass_than_the_bucket_and_its_refill_hold(failures, refill, waits):
    table = LoginLimits(failures=failures, refill=refill)
    now, passed = 0.0, 0
    for wait in waits:
        now += wait
        passed += fails(table, "192.0.2.1", now)
        assert passed <= failures + now * refill / 60 + 1e-3
