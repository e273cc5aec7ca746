"""Items that two nodes hear of at the same time: all end with the same, and nobody is told too early."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.cluster.items import SharedItems
from broker.counters import Counters
from feedgen.catalog import Catalog
from feedgen.items import Item, Record
from feedgen.store.memory_shared import SharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from feedgen.store.memory_shared import MemoryNode

START = 1_800_000_000.0
ROUNDS = 20
"""Turns of the loop that settle anything here."""


@dataclass
class Clock:
    """Unix seconds, moved by the tests."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class Shop:
    """A node that only accepts items: what its feeds were given, and who was told.

    Attributes:
        shown: What its engine has by number.
        contents: Every content it was ever given, by number and version.
        done: Packets that were acknowledged, in order.
    """

    store: MemoryNode
    clock: Clock
    name: str
    shown: dict[int, Record] = field(default_factory=dict)
    contents: dict[tuple[int, int], bytes] = field(default_factory=dict)
    done: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    sent: int = 0

    async def open(self) -> Shop:
        loaded = await self.store.join(self.name, self)
        self.catalog = Catalog(number=self.store.number)
        self.catalog.load(loaded.records)
        self.items = SharedItems(
            catalog=self.catalog, store=self.store, counters=Counters(), keeper=self
        )
        return self

    def publish(self, item: Item, *, dup: bool = False, qos: int = 1) -> bool:
        number = self.sent
        self.sent += 1
        self.ids.append(item.id)
        return self.items.accept(
            item, dup=dup, publisher="", qos=qos, done=lambda: self.done.append(number)
        )

    # What `SharedItems` asks of its keeper.

    def durable(self, record: Record) -> None:
        slot = (record.n, record.version)
        content = record.digest + bytes([record.retracted])
        assert self.contents.setdefault(slot, content) == content, "two contents under one slot"
        if record.retracted:
            self.shown.pop(record.n, None)
        else:
            self.shown[record.n] = record

    def barrier(self, done: Callable[[], None]) -> None:
        self.store.submit(()).add_done_callback(lambda _: done())

    def relieved(self) -> None: ...

    def now_ms(self) -> int:
        return int(self.clock.now * 1000)

    # What the store tells.

    def accepted(self, records: Sequence[Record]) -> None:
        self.items.accepted(records)

    def members(self, nodes: frozenset[str]) -> None: ...

    def missed(self) -> None: ...

    @property
    def view(self) -> dict[tuple[str, str], bytes]:
        """What its feeds show, whatever it is numbered."""
        return {(r.item.channel, r.item.id): r.digest for r in self.shown.values()}


def news(payload: str, id_: str = "x", rev: int | None = None, *, retract: bool = False) -> Item:
    return Item("news", id_, "" if retract else payload, rev=rev, retract=retract)


async def shops(count: int = 2, block: int = 4096) -> tuple[SharedMemory, Clock, list[Shop]]:
    clock = Clock()
    world = SharedMemory(clock=clock, block=block)
    found = [await Shop(world.node(), clock, f"node{i}").open() for i in range(count)]
    return world, clock, found


async def settled(*shops: Shop) -> None:
    for _ in range(ROUNDS):
        for shop in shops:
            shop.items.tick()
        await asyncio.sleep(0)


def agree(world: SharedMemory, shops: Sequence[Shop]) -> None:
    """All nodes know the same, show the same, and it is what the store has."""
    stored = {key: world.records[n] for key, n in world.numbers.items()}
    for shop in shops:
        known = {(r.item.channel, r.item.id): r for r in shop.catalog}
        assert known == stored
        assert shop.view == {key: r.digest for key, r in stored.items() if not r.retracted}
        assert sorted(shop.done) == list(range(shop.sent))
        for ids in {key: [n for n in shop.done if shop.ids[n] == key] for key in shop.ids}.values():
            assert ids == sorted(ids), "of one id, packets are acknowledged in their order"
        assert shop.items.waiting == 0


async def test_the_same_item_at_two_nodes_at_once_is_one_item() -> None:
    world, _, (one, other) = await shops()
    one.publish(news("a"))
    other.publish(news("a"))
    await settled(one, other)
    agree(world, (one, other))
    assert len(world.records) == 1


async def test_of_two_contents_at_once_one_is_an_update_of_the_other() -> None:
    world, _, (one, other) = await shops()
    one.publish(news("a"))
    other.publish(news("b"))
    await settled(one, other)
    agree(world, (one, other))
    assert [record.version for record in world.records.values()] == [1]


async def test_nobody_is_told_before_the_store_has_it() -> None:
    _, _, (one, _) = await shops()
    one.store.away = True
    one.publish(news("a"))
    await settled(one)
    assert not one.done
    assert not one.shown
    one.store.away = False
    await settled(one)
    assert one.done == [0]
    assert one.view


async def test_packets_behind_a_lost_race_are_decided_anew_in_their_order() -> None:
    world, _, (one, other) = await shops()
    one.store.away = True
    for payload in ("a", "b", "c"):
        one.publish(news(payload))
    one.publish(news("c"))  # changes nothing, and yet must not be told before
    other.publish(news("z"))
    await settled(one, other)
    assert one.done == []
    one.store.away = False
    await settled(one, other)
    agree(world, (one, other))
    assert one.done == [0, 1, 2, 3]
    assert [record.item.payload for record in one.shown.values()] == ["c"]


async def test_a_lower_rev_that_was_late_is_stale_after_all() -> None:
    world, _, (one, other) = await shops()
    one.store.away = True
    one.publish(news("old", rev=1))
    other.publish(news("new", rev=2))
    await settled(one, other)
    one.store.away = False
    await settled(one, other)
    agree(world, (one, other))
    assert [record.item.payload for record in one.shown.values()] == ["new"]


async def test_a_repeated_packet_after_a_retraction_elsewhere_changes_nothing() -> None:
    world, _, (one, other) = await shops()
    one.publish(news("a"))
    await settled(one, other)
    other.publish(news("", retract=True))
    await settled(one, other)
    one.publish(news("a"), dup=True)
    await settled(one, other)
    agree(world, (one, other))
    assert not one.shown


async def test_word_of_a_later_version_may_come_before_the_answer_to_an_earlier_one() -> None:
    _, _, (one, _) = await shops()
    one.publish(news("a"))
    record = one.catalog.find("news", "x")
    assert record is not None
    later = replace(record, version=1, item=news("b"), digest=b"of b")
    one.accepted((later,))
    assert not one.shown
    await settled(one)
    assert one.done == [0]
    assert one.shown == {later.n: later}
    assert one.catalog.find("news", "x") == later


async def test_an_id_whose_time_is_over_gets_a_new_number_at_any_node() -> None:
    _, clock, (one, other) = await shops()
    one.publish(Item("news", "x", "a", ttl=10))
    await settled(one, other)
    (first,) = one.shown
    clock.now += 11
    other.publish(Item("news", "x", "b", ttl=10))
    await settled(one, other)
    found = one.catalog.find("news", "x")
    assert found == other.catalog.find("news", "x")
    assert found is not None
    assert found.n != first


# ---- The store is away


async def test_best_effort_items_flow_while_the_store_is_away() -> None:
    world, _, (one, other) = await shops()
    one.store.away = True
    one.publish(news("a"), qos=0)
    one.publish(news("b", "y"), qos=1)
    await settled(one, other)
    assert [record.item.payload for record in one.shown.values()] == ["a"]
    one.store.away = False
    await settled(one, other)
    agree(world, (one, other))
    assert len(other.shown) == 2


async def test_a_best_effort_item_that_lost_is_taken_back_for_the_one_that_holds() -> None:
    world, _, (one, other) = await shops()
    one.store.away = True
    one.publish(news("mine", rev=1), qos=0)
    other.publish(news("theirs", rev=2))
    await settled(one, other)
    assert [record.item.payload for record in one.shown.values()] == ["mine"]
    one.store.away = False
    await settled(one, other)
    agree(world, (one, other))
    assert [record.item.payload for record in one.shown.values()] == ["theirs"]


async def test_a_best_effort_update_is_never_taken_for_what_another_node_made_of_the_item() -> None:
    world, _, (one, other) = await shops()
    one.publish(news("first", rev=1))
    await settled(one, other)
    one.store.away = True
    one.publish(news("mine", rev=2), qos=0)
    other.publish(news("theirs", rev=3))
    await settled(one, other)
    one.store.away = False
    await settled(one, other)
    agree(world, (one, other))  # `durable` looks that no slot had two contents


async def test_without_numbers_nothing_is_taken_and_nothing_changes() -> None:
    world, _, (one, other) = await shops(block=4)
    one.store.away = True
    assert [one.publish(news("a", f"id{i}")) for i in range(5)] == [True] * 4 + [False]
    assert one.items.congested
    one.sent -= 1
    one.store.away = False
    await settled(one, other)
    agree(world, (one, other))
    assert one.publish(news("a", "id4"))


# ---- Any order of things

packets = st.builds(
    news,
    st.sampled_from("abc"),
    st.sampled_from("xy"),
    st.none() | st.integers(1, 3),
    retract=st.booleans(),
)
steps = st.lists(
    st.tuples(st.just("publish"), st.integers(0, 1), packets, st.booleans(), st.integers(0, 1))
    | st.tuples(st.sampled_from(("away", "back")), st.integers(0, 1))
    | st.tuples(st.just("turn")),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_whatever_happens_at_two_nodes_ends_equal_at_both(steps: list[tuple]) -> None:
    async def run() -> None:
        world, _, pair = await shops()
        for step in steps:
            match step:
                case ("publish", at, item, dup, qos):
                    pair[at].publish(item, dup=dup, qos=qos)
                case ("turn",):
                    await asyncio.sleep(0)
                    for shop in pair:
                        shop.items.tick()
                case (state, at):
                    pair[at].store.away = state == "away"
        for shop in pair:
            shop.store.away = False
        await settled(*pair)
        agree(world, pair)

    asyncio.run(run())
