from __future__ import annotations

from collections import Counter

import pytest

from broker.gateway.spread import Spread

DEVICES = [f"device-{number}" for number in range(3_000)]


def owners(*workers: str) -> dict[str, str]:
    spread = Spread(frozenset(workers))
    return {device: spread.worker(device) for device in DEVICES}


def test_devices_are_spread_evenly() -> None:
    counts = Counter(owners("a", "b", "c").values())
    assert set(counts) == {"a", "b", "c"}
    assert all(900 < count < 1100 for count in counts.values())


def test_all_workers_agree_whatever_order_they_heard_of_each_other() -> None:
    assert owners("a", "b", "c") == owners("c", "b", "a")


def test_only_the_devices_of_a_worker_that_goes_move() -> None:
    before, after = owners("a", "b", "c"), owners("a", "c")
    assert all(before[d] == after[d] for d in DEVICES if before[d] != "b")


def test_a_change_is_heard_at_once() -> None:
    spread = Spread(frozenset({"a"}))
    assert {spread.worker(device) for device in DEVICES} == {"a"}
    spread.change(frozenset({"b"}))
    assert {spread.worker(device) for device in DEVICES} == {"b"}


def test_there_is_always_a_worker() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Spread(frozenset())
