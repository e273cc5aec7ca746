"""Receipts as columns: counts by item, the oldest forgotten, and what a file can hold of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.receipts.counts import COUNTED, Receipt, Receipts, state
from feedgen.items import Item, Record
from feedgen.store import state_file


def record(n: int, item_id: str = "", channel: str = "news", version: int = 0) -> Record:
    item = Item(channel, item_id or f"item-{n}", "payload")
    return Record(n, version, item, 1_000 * n, 10_000 + n, b"")


def opened(*ns: int, capacity: int = 8) -> Receipts:
    receipts = Receipts(capacity)
    for n in ns:
        receipts.open(record(n), now=float(n))
    return receipts


def counts(**said: int) -> dict[str, int]:
    return dict.fromkeys(COUNTED, 0) | said


def test_each_item_has_counts_of_its_own() -> None:
    receipts = opened(1, 2)
    receipts.delivered(1, 100)
    receipts.delivered_each([1, 2, 2])
    receipts.acknowledged(np.array([2, 1, 1], np.uint32))
    for event in ("shown", "opened", "shown", "dwell"):
        receipts.heard(2, event)
    assert receipts.counts(1) == counts(delivered=101, acknowledged=2)
    assert receipts.counts(2) == counts(delivered=2, acknowledged=1, shown=2, opened=1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=60))
def test_many_items_at_once_count_as_one_after_the_other(numbers: list[int]) -> None:
    many, single = opened(*range(20, 30)), opened(*range(20, 30))
    many.delivered_each(numbers)
    many.acknowledged(np.array(numbers, np.uint32))
    for n in numbers:
        single.delivered(n, 1)
        single.acknowledged(np.array([n], np.uint32))
    assert all(many.counts(n) == single.counts(n) for n in range(41))
    assert sum(many.counts(n)["delivered"] for n in range(41)) == sum(22 <= n < 30 for n in numbers)


NUMBERS = st.integers(1, 12)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), NUMBERS, st.sampled_from(["same", "other"])),
        st.tuples(st.just("delivered"), NUMBERS, st.integers(1, 9)),
        st.tuples(st.just("each"), st.lists(NUMBERS, max_size=5), st.sampled_from([1, 40])),
        st.tuples(st.just("acknowledged"), st.lists(NUMBERS, max_size=5), st.sampled_from([1, 40])),
        st.tuples(st.just("heard"), NUMBERS, st.just("shown")),
        st.tuples(st.just("read"), NUMBERS, st.none()),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.sampled_from([1, 3, 1024]))
def test_counts_that_wait_come_to_the_same_as_if_each_were_added_at_once(
    steps: list[tuple[str, Any, Any]], together: int
) -> None:
    receipts, held, expected = Receipts(4), dict[int, tuple[int, str]](), dict[int, Counter[str]]()

    def add(event: str, n: int, times: int = 1) -> None:
        if held.get(n % 4, (0, ""))[0] == n:
            expected[n][event] += times

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("broker.receipts.counts._TOGETHER", together)
        for what, n, how in steps:
            if what == "open":
                receipts.open(record(n, how), now=1.0)
                if held.get(n % 4) != (n, how):
                    expected[n] = Counter()
                held[n % 4] = (n, how)
            elif what == "delivered":
                receipts.delivered(n, how)
                add("delivered", n, how)
            elif what == "each":
                receipts.delivered_each(n * how)
                for each in n * how:
                    add("delivered", each)
            elif what == "acknowledged":
                receipts.acknowledged(np.array(n * how, np.uint32))
                for each in n * how:
                    add("acknowledged", each)
            elif what == "heard":
                receipts.heard(n, how)
                add("shown", n)
            else:
                receipts.counts(n)
    for n in range(1, 13):
        live = held.get(n % 4, (0, ""))[0] == n
        assert receipts.counts(n) == counts(**(expected[n] if live else {}))


def test_a_new_item_takes_the_place_of_the_oldest_and_starts_at_nothing() -> None:
    receipts = opened(1, 2)
    receipts.delivered(1, 5)
    receipts.open(record(9), now=9.0)
    receipts.delivered(1, 5)
    receipts.heard(1, "shown")
    assert receipts[1] is None
    assert receipts.counts(1) == counts()
    assert receipts.counts(9) == counts()
    assert [receipt.n for receipt in receipts] == [9, 2]


def test_an_update_goes_on_counting_and_its_content_is_the_new_one() -> None:
    receipts = opened(1)
    receipts.delivered(1, 5)
    receipts.close(1, "retracted", 3.0, None)
    receipts.open(record(1, version=1), now=7.0)
    receipts.delivered(1, 5)
    receipt = receipts[1]
    assert receipt is not None
    assert (receipt.version, receipt.since, receipt.ended) == (1, 1.0, "")
    assert receipts.counts(1)["delivered"] == 10


def test_a_number_that_an_older_store_gives_out_again_is_another_item() -> None:
    receipts = opened(1)
    receipts.delivered(1, 5)
    receipts.open(record(1, "other"), now=7.0)
    receipt = receipts[1]
    assert receipt is not None
    assert (receipt.id, receipt.since) == ("other", 7.0)
    assert receipts.counts(1) == counts()


def test_an_id_is_found_on_one_channel_or_on_all_the_latest_first() -> None:
    receipts = Receipts(8)
    for n, channel in enumerate(("news", "sports", "news"), 1):
        receipts.open(record(n, "same", channel), now=1.0)
    assert [receipt.n for receipt in receipts.named("same")] == [3, 2, 1]
    assert [receipt.n for receipt in receipts.named("same", "sports")] == [2]
    assert receipts.named("same", "weather") == []


def test_what_is_over_can_still_be_opened_but_nothing_is_closed_that_was_forgotten() -> None:
    receipts = opened(1)
    receipts.close(1, "expired", 5.0, {"seen": 3})
    receipts.close(9, "expired", 5.0, None)
    receipts.heard(1, "opened")
    receipt = receipts[1]
    assert receipt is not None
    assert (receipt.ended, receipt.ended_at, receipt.census) == ("expired", 5.0, {"seen": 3})
    assert receipts.counts(1) == counts(opened=1)
    assert receipts[9] is None


def test_what_is_about_to_expire_is_told_once_for_each_content() -> None:
    receipts = opened(1, 2, 3)
    receipts.close(2, "retracted", 1.0, None)
    assert receipts.take_due(10_003) == [1]
    assert receipts.take_due(10_003) == []
    receipts.open(record(1, version=1), now=7.0)
    assert receipts.take_due(10_004) == [1, 3]


# ---- Files


def restored(receipts: Receipts, path: Path, capacity: int = 8) -> Receipts:
    state_file.save(path, "receipts", 1, state(*receipts.all()))
    found = state_file.load(path, "receipts", 1)
    assert found is not None
    again = Receipts(capacity)
    again.restore(found)
    return again


def test_all_of_it_comes_back_from_a_file(tmp_path: Path) -> None:
    receipts = opened(3, 4, 13)
    receipts.delivered(4, 2)
    receipts.heard(13, "opened")
    receipts.close(4, "expired", 5.0, {"seen": 3, "dropped": {"where": 1}})
    again = restored(receipts, tmp_path / "file")
    for n in (3, 4, 13):
        assert (again[n], again.counts(n)) == (receipts[n], receipts.counts(n))
    again.delivered(4, 1)
    assert again.counts(4)["delivered"] == 3


def test_with_fewer_places_the_latest_items_come_back(tmp_path: Path) -> None:
    receipts = opened(*range(1, 9))
    for n in range(1, 9):
        receipts.delivered(n, n)
    again = restored(receipts, tmp_path / "file", capacity=4)
    assert sorted(receipt.n for receipt in again) == [5, 6, 7, 8]
    assert again.counts(7) == counts(delivered=7)


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"receipts": [[1, 2]], "counts": []},
        {"receipts": [], "counts": [[1]]},
        {"receipts": 3, "counts": []},
        {"receipts": [list(range(11))], "counts": "many"},
    ],
)
def test_a_damaged_state_is_refused_as_a_whole(damaged: dict[str, Any]) -> None:
    receipts = opened(1)
    receipts.delivered(1, 5)
    with pytest.raises(ValueError, match=r".+"):
        receipts.restore(damaged)
    assert receipts.counts(1)["delivered"] == 5
    assert isinstance(receipts[1], Receipt)
