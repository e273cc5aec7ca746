from __future__ import annotations

import pytest

from broker.item_forms import Forms, ItemForms
from devices import slots
from devices.frames import Delta, FeedItem, Put, decode_frame, delta_bytes, put_bytes
from feedgen.items import Item, Record


def record(n: int = 1, version: int = 0, brief: str | None = None) -> Record:
    return Record(n, version, Item("news", "a", "ünï", brief, priority=2), 0, 1_800_000_000, b"")


def slot(n: int, version: int) -> int:
    return slots.pack(n, version, 2)


def decoded(item: bytes) -> FeedItem:
    frame = decode_frame(delta_bytes(1, 1, [put_bytes(0, item)]))
    assert isinstance(frame, Delta)
    (put,) = frame.ops
    assert isinstance(put, Put)
    return put.item


def test_the_size_that_decides_is_in_bytes() -> None:
    assert Forms(record()).full_size == len("ünï".encode())


@pytest.mark.parametrize(("clock", "expires"), [(False, 0), (True, 1_800_000_000)])
@pytest.mark.parametrize(("brief", "payload"), [(False, "ünï"), (True, "b")])
def test_each_form_says_what_its_device_needs(
    clock: bool, expires: int, brief: bool, payload: str
) -> None:
    forms = Forms(record(brief="b"))
    assert decoded(forms.encoded(clock=clock, brief=brief)) == FeedItem(1, expires, 2, payload)


def test_an_item_without_a_brief_is_always_full() -> None:
    forms = Forms(record())
    assert decoded(forms.encoded(clock=False, brief=True)).payload == "ünï"


def test_a_form_is_encoded_once() -> None:
    forms = Forms(record())
    assert forms.encoded(clock=True, brief=False) is forms.encoded(clock=True, brief=False)


def test_a_content_that_ended_is_there_until_no_window_can_hold_it() -> None:
    items = ItemForms()
    items.add(slot(1, 0), record(1, 0))
    items.add(slot(1, 1), record(1, 1))
    assert decoded(items[slot(1, 0)].encoded(clock=False, brief=False)).n == 1
    assert len(items) == 2
    items.forget_ended()
    assert len(items) == 1
    with pytest.raises(KeyError):
        items[slot(1, 0)]
    items[slot(1, 1)]


def test_an_item_that_left_is_forgotten_and_may_leave_twice() -> None:
    items = ItemForms()
    items.add(slot(1, 0), record(1, 0))
    items.end(1)
    items.end(1)
    items.end(2)
    items.forget_ended()
    assert len(items) == 0


def test_a_retracted_item_that_comes_back_is_kept() -> None:
    items = ItemForms()
    items.add(slot(1, 0), record(1, 0))
    items.end(1)
    items.add(slot(1, 2), record(1, 2))
    items.forget_ended()
    assert len(items) == 1
    items[slot(1, 2)]


def test_the_same_slot_ended_and_come_back_twice_is_no_fault() -> None:
    items = ItemForms()
    for _ in range(2):
        items.add(slot(1, 0), record(1, 0))
        items.end(1)
    items.add(slot(1, 0), record(1, 0))
    items.forget_ended()
    assert len(items) == 1
    items.end(1)
    items.forget_ended()
    assert len(items) == 0
