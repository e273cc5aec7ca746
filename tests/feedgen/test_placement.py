"""Why a window is as it is: the parts of its keys add up to its order."""

from __future__ import annotations

from feedgen.engine import Engine, Seat
from feedgen.items import Item, Record
from feedgen.ranking.value import TICKS_PER_SECOND

T0 = 1_700_000_000


def record(n: int, channel: str, priority: int = 1, at: int = 0) -> Record:
    item = Item(channel, f"item-{n}", f"payload {n}", priority=priority)
    return Record(n, 0, item, (T0 + at) * 1000, T0 + 86_400, b"")


def settled(*records: Record, follow: tuple[str, ...] = ("#",)) -> tuple[Engine, Seat]:
    engine = Engine(landmark=T0)
    seat = engine.seat(follow=follow, attrs={}, k=8, capacity=200)
    engine.publish(records, [each.n for each in records])
    while engine.busy:
        engine.step(T0)
    return engine, seat


def test_the_parts_of_each_key_explain_the_order():
    engine, seat = settled(
        record(1, "news/a"),
        record(2, "news/b", at=60),
        record(3, "sports", priority=2),
        record(4, "sports", at=120),
        follow=("#", "news/a"),
    )
    for _ in range(500):
        engine.feedback(4, shown=1)
    while engine.busy:
        engine.step(T0)
    placed = engine.placements(seat)
    assert [each.n for each in placed] == engine.window(seat)
    assert [each.place for each in placed] == [each.by_key for each in placed] == [0, 1, 2, 3]
    sums = [
        each.published + (each.priority + each.level + each.term + each.personal) / TICKS_PER_SECOND
        for each in placed
    ]
    assert sums == sorted(sums, reverse=True)
    by_number = {each.n: each for each in placed}
    assert by_number[1].level > by_number[2].level == 0
    assert by_number[3].priority > by_number[2].priority == 0
    assert by_number[4].term < 0
    assert {each.personal for each in placed} == {0}


def test_an_empty_window_has_nothing_to_explain():
    engine, seat = settled()
    assert engine.placements(seat) == []
