"""One contract for all shared stores: in memory, on one Redis server, on a Redis Cluster."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.catalog import Catalog
from feedgen.items import Item, decode_item
from feedgen.store import Dismiss, PutDevice, StoreError
from feedgen.store.memory_node import MemoryNode
from feedgen.store.shared import Claim, Conflict, Fenced, Found, Late, OutOfNumbers, Written
from tests.broker.support import eventually
from tests.feedgen.store.shared_worlds import START, Node, World, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from feedgen.items import Record
    from feedgen.store.shared import SharedStore
    from tests.redis_servers import RedisServer


LONG = 3600.0
"""Seconds before any of this."""
RESOLUTION = 1e-3
"""Seconds by which two clocks of one machine may differ for a moment."""


@pytest.fixture(params=["memory", "redis", "cluster"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A store of its own for each test."""
    url = "" if request.param == "memory" else request.getfixturevalue(request.param).url
    world = World(url)
    yield world
    await world.end()


# ---- Items


async def test_an_item_that_one_node_put_is_told_to_the_others_and_not_to_itself(world: World):
    a, b, c = await world.join("a"), await world.join("b"), await world.join("c")
    assert await a.store.put_item(record(1), None) is None
    await eventually(lambda: b.heard.records == c.heard.records == [record(1)])
    await b.store.put_item(record(2), None)
    await eventually(lambda: a.heard.records == [record(2)])
    assert b.heard.records == [record(1)]


async def test_a_node_that_joins_reads_every_item_that_is_not_over(world: World):
    a = await world.join("a")
    puts = [record(1), record(2), record(3, expires=START + 10), record(4, channel="news")]
    await asyncio.gather(*(a.store.put_item(each, None) for each in puts))
    world.now += 10
    b = await world.join("b")
    assert b.loaded.records == [record(1), record(2), record(4, channel="news")]
    assert (b.loaded.devices, b.loaded.dismissed) == ([], [])
    assert b.loaded.key == a.loaded.key
    assert len(b.loaded.key) == 32
    assert b.loaded.next_n > 4


async def test_a_record_over_what_is_not_there_is_refused_and_changes_nothing(world: World):
    a, b = await world.join("a"), await world.join("b")
    first, second = record(1), record(1, 1, payload=b"gale")
    await a.store.put_item(first, None)
    assert await b.store.put_item(record(2, name="item-1"), None) == first
    assert await b.store.put_item(second, first) is None
    assert await a.store.put_item(record(1, 1, payload=b"calm"), first) == second
    await eventually(lambda: a.heard.records == [second])
    assert (await world.join("c")).loaded.records == [second]


async def test_records_over_one_another_may_be_under_way_at_once(world: World):
    a, b = await world.join("a"), await world.join("b")
    chain = [record(1, version, payload=b"%d" % version) for version in range(50)]
    before = [None, *chain]
    results = await asyncio.gather(*map(a.store.put_item, chain, before))
    assert results == [None] * 50
    await eventually(lambda: b.heard.records[-1:] == [chain[-1]])


async def test_where_the_first_of_several_is_refused_so_are_those_made_from_it(world: World):
    a, b = await world.join("a"), await world.join("b")
    theirs = record(9, name="item-1", payload=b"theirs")
    await b.store.put_item(theirs, None)
    chain = [record(1, version, payload=b"%d" % version) for version in range(4)]
    first = a.store.put_item(chain[0], None)
    await asyncio.sleep(0)  # it is on its way, the others are not
    rest = [a.store.put_item(new, old) for old, new in pairwise(chain)]
    assert await asyncio.gather(first, *rest) == [theirs] * 4
    assert (await world.join("c")).loaded.records == [theirs]


async def test_what_is_stored_and_over_counts_as_none(world: World):
    a = await world.join("a")
    await a.store.put_item(record(1, expires=START + 10), None)
    again = record(2, name="item-1")
    assert await a.store.put_item(again, None) == record(1, expires=START + 10)
    world.now += 10
    assert await a.store.put_item(again, None) is None
    assert (await world.join("b")).loaded.records == [again]


async def test_an_item_that_expired_may_be_what_another_was_decided_over(world: World):
    a = await world.join("a")
    await a.store.put_item(record(1, expires=START + 10), None)
    world.now += 10
    assert await a.store.put_item(record(1, 1), record(1, expires=START + 10)) is None


async def test_items_and_submissions_resolve_in_order_and_never_at_once(world: World):
    a = await world.join("a")
    resolved: list[int] = []
    for index in range(60):
        if index % 3:
            future = a.store.put_item(record(index, channel=f"c{index}"), None)
        else:
            future = a.store.submit((Dismiss(f"d{index}", index),) if index % 2 else ())
        future.add_done_callback(lambda _, index=index: resolved.append(index))
    assert resolved == []
    await a.store.submit(())
    assert resolved == list(range(60))


async def test_numbers_are_given_once_to_one_node(world: World):
    stores = [(await world.join(name)).store for name in "abc"]
    given: list[int] = []
    while len(given) < 1000:
        for store in stores:
            assert store.numbers_left > 0 or await refilled(store)
            given.append(store.number())
    assert len(set(given)) == len(given)
    highest = max(given)
    await world.kill("a")
    assert (await world.join("d")).store.number() > highest


async def refilled(store: SharedStore) -> bool:
    return bool(await eventually(lambda: store.numbers_left))


async def test_more_numbers_than_are_at_hand_are_an_error_and_not_a_lie(world: World):
    store = (await world.join("a")).store
    if isinstance(store, MemoryNode):
        store.away = True  # while one on Redis needs a turn of the loop for more
    given = [store.number() for _ in range(store.numbers_left)]
    with pytest.raises(OutOfNumbers):
        store.number()
    assert len(set(given)) == len(given) > 0
    if isinstance(store, MemoryNode):
        store.away = False


async def test_versions_of_an_item_are_heard_in_the_order_in_which_they_came_to_be(world: World):
    a, b = await world.join("a"), await world.join("b")
    last: dict[int, Record | None] = dict.fromkeys(range(1, 6))
    for version in range(60):
        for n, before in last.items():
            new = record(n, version, payload=b"%d" % version)
            assert await a.store.put_item(new, before) is None
            last[n] = new
    await eventually(
        lambda: [b.heard.latest().get((r.item.channel, r.item.id)) == r for r in last.values()], all
    )
    for versions in b.heard.versions().values():
        assert versions == sorted(set(versions))


async def test_a_node_that_joins_amid_writes_misses_none(world: World):
    a = await world.join("a")
    written: list[Record] = []

    async def write() -> None:
        for n in range(1, 1500):
            written.append(record(n))
            await a.store.put_item(written[-1], None)

    writing = asyncio.create_task(write())
    await eventually(lambda: len(written) > 200)
    b = await world.join("b")
    await writing
    await eventually(
        lambda: {r.n for r in (*b.loaded.records, *b.heard.records)} == {r.n for r in written}
    )


class Deciding:
    """A node that decides by its catalog, each id one packet after the other."""

    def __init__(self, node: Node) -> None:
        self.catalog = Catalog(number=node.store.number)
        self.catalog.load(node.loaded.records)
        self._store = node.store
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        node.heard.accepted = self.adopt

    def adopt(self, records: Sequence[Record]) -> None:
        for each in records:
            self.catalog.adopt(each)

    async def publish(self, item: Item, dup: bool) -> None:
        async with self._locks[item.id]:
            while True:
                held = self.catalog.find(item.channel, item.id)
                decided = self.catalog.accept(item, START * 1000, dup).record
                if decided is None:
                    return
                stored = await self._store.put_item(decided, held)
                if stored is None:
                    return
                self.catalog.correct(decided, stored)

    def content(self) -> list[tuple[int, int, bytes]]:
        return sorted((r.n, r.version, r.digest) for r in self.catalog)


PACKETS = st.lists(
    st.tuples(
        st.integers(0, 1),  # which node hears of it
        st.sampled_from("ab"),  # id
        st.sampled_from([b'"1"', b'"2"', b'"3", "rev": 1', b'"4", "rev": 2', None]),
        st.booleans(),  # DUP
    ),
    max_size=20,
)


@pytest.mark.parametrize("kind", ["memory", "redis"])
@settings(max_examples=25, deadline=None)
@given(packets=PACKETS)
def test_nodes_that_decide_by_their_catalogs_end_with_the_same_items(
    redis: RedisServer, kind: str, packets: list[tuple[int, str, bytes | None, bool]]
):
    def item(name: str, payload: bytes | None) -> Item:
        rest = b'"retract": true' if payload is None else b'"payload": ' + payload
        return decode_item("news", b'{"id": "%b", %b}' % (name.encode(), rest))

    async def run() -> None:
        world = World("" if kind == "memory" else redis.url)
        nodes = [Deciding(await world.join(name)) for name in "ab"]
        await asyncio.gather(
            *(
                nodes[which].publish(item(name, payload), dup)
                for which, name, payload, dup in packets
            )
        )
        await eventually(lambda: nodes[0].content() == nodes[1].content())
        stored = (await world.join("c")).loaded.records
        assert nodes[0].content() == sorted((r.n, r.version, r.digest) for r in stored)
        assert {r.item.id for r in stored} == {name for _, name, _, _ in packets}
        assert len(stored) == len({r.item.id for r in stored})
        await world.end()

    asyncio.run(run())


# ---- Devices


async def test_a_device_that_nobody_knows_can_be_claimed_and_is_clean(world: World):
    a = await world.join("a")
    claim = await a.store.claim("kitchen")
    assert claim == Claim(claim.token, 0, None, clean=True, dismissed=())
    assert await a.store.fetch(["kitchen", "attic"]) == {
        "kitchen": Found(0, None, "a"),
        "attic": Found(0, None, ""),
    }
    assert await a.store.fetch([]) == {}


async def test_a_profile_is_there_for_the_next_holder_with_its_position(world: World):
    a, b = await world.join("a"), await world.join("b")
    held = await a.store.claim("kitchen")
    written = await a.store.put_device("kitchen", b"profile", version=0, token=held.token)
    assert isinstance(written, Written)
    last = await a.store.put_device(
        "kitchen", b"position", version=written.version, token=held.token, release=True
    )
    assert isinstance(last, Written)
    assert last.version > written.version
    claim = await b.store.claim("kitchen", wait=30)
    assert claim == Claim(claim.token, last.version, b"position", clean=True, dismissed=())
    assert claim.token > held.token
    assert a.heard.taken_from == []


async def test_a_position_that_nobody_left_does_not_count(world: World):
    a = await world.join("a")
    first = await a.store.claim("kitchen")
    await a.store.put_device("kitchen", b"old", version=0, token=first.token)
    await world.kill("a")
    b = await world.join("b")
    claim = await b.store.claim("kitchen")
    assert (claim.blob, claim.clean) == (b"old", False)
    again = await b.store.claim("kitchen")
    assert not again.clean
    assert again.token > claim.token


async def test_a_holder_that_was_passed_by_is_fenced(world: World):
    a, b = await world.join("a"), await world.join("b")
    old = await a.store.claim("kitchen")
    await a.store.put_device("kitchen", b"1", version=0, token=old.token)
    new = await b.store.claim("kitchen")
    refused = await a.store.put_device(
        "kitchen", b"2", version=new.version, token=old.token, release=True
    )
    assert refused == Fenced()
    assert (await b.store.fetch(["kitchen"]))["kitchen"] == Found(new.version, b"1", "b")
    await eventually(lambda: a.heard.taken_from == ["kitchen"])


async def test_a_profile_that_was_changed_meanwhile_comes_back_to_be_merged(world: World):
    a, b = await world.join("a"), await world.join("b")
    held = await a.store.claim("kitchen")
    first = await a.store.put_device("kitchen", b"1", version=0, token=held.token)
    second = await b.store.put_device(
        "kitchen", b"2", version=first.version, token=None, notice="rights"
    )
    assert await a.store.put_device("kitchen", b"3", version=first.version, token=held.token) == (
        Conflict(second.version, b"2")
    )
    merged = await a.store.put_device("kitchen", b"2+3", version=second.version, token=held.token)
    assert isinstance(merged, Written)
    await eventually(lambda: a.heard.changes == [("kitchen", "rights")])
    assert b.heard.changes == []


async def test_a_removed_device_is_gone_for_all_and_its_holder_is_fenced(world: World):
    a, b = await world.join("a"), await world.join("b")
    held = await a.store.claim("kitchen")
    first = await a.store.put_device("kitchen", b"1", version=0, token=held.token)
    await a.store.submit((Dismiss("kitchen", 7),))
    gone = await b.store.put_device(
        "kitchen", None, version=first.version, token=None, notice="removed"
    )
    assert gone == Written(0)
    assert await b.store.put_device("kitchen", None, version=0, token=None) == Written(0)
    assert (
        await a.store.put_device("kitchen", b"2", version=first.version, token=held.token)
        == Fenced()
    )
    assert await a.store.held_by("a") == []
    assert await a.store.devices("", 10) == []
    again = await b.store.claim("kitchen")
    assert again == Claim(again.token, 0, None, clean=True, dismissed=())
    assert again.token > held.token
    back = await b.store.put_device("kitchen", b"3", version=0, token=again.token)
    assert back.version > first.version
    await eventually(lambda: ("kitchen", "removed") in a.heard.changes)


async def test_a_living_holder_is_asked_and_its_position_waited_for(world: World):
    a, b = await world.join("a"), await world.join("b")
    held = await a.store.claim("kitchen")

    def let_go(device: str) -> None:
        a.store.put_device(device, b"fresh", version=0, token=held.token, release=True)

    a.heard.on_taken = let_go
    claim = await asyncio.wait_for(b.store.claim("kitchen", wait=60), 10)
    assert (claim.blob, claim.clean) == (b"fresh", True)
    assert a.heard.taken_from == ["kitchen"]


async def test_a_holder_that_does_not_let_go_is_passed_by_when_the_time_is_over(world: World):
    a, b = await world.join("a"), await world.join("b")
    held = await a.store.claim("kitchen")
    claim = await asyncio.wait_for(b.store.claim("kitchen", wait=0.2), 10)
    assert not claim.clean
    assert claim.token > held.token
    assert (await b.store.fetch(["kitchen"]))["kitchen"].holder == "b"


async def test_a_holder_that_is_dead_is_not_waited_for(world: World):
    await world.join("a")
    b = await world.join("b")
    await world.nodes["a"].store.claim("kitchen")
    await eventually(lambda: b.heard.nodes == {"a", "b"})
    await world.kill("a")
    await eventually(lambda: b.heard.nodes == {"b"})
    assert await b.store.held_by("a") == ["kitchen"]
    claim = await asyncio.wait_for(b.store.claim("kitchen", wait=60), 10)
    assert not claim.clean
    assert await b.store.held_by("a") == []
    assert await b.store.held_by("b") == ["kitchen"]


async def test_only_one_of_many_that_claim_at_once_is_left_holding(world: World):
    nodes = [await world.join(name) for name in "abc"]
    asked = await asyncio.gather(*(node.store.claim("kitchen") for node in nodes * 5))
    claims = [(n, each) for n, each in zip(nodes * 5, asked, strict=True) if each != Late(each.ago)]
    tokens = [claim.token for _, claim in claims]
    assert len(set(tokens)) == len(tokens) >= 1
    answers = [
        await node.store.put_device("kitchen", b"kept", version=0, token=claim.token)
        for node, claim in claims
        if claim.token != max(tokens)
    ]
    assert answers == [Fenced()] * (len(tokens) - 1)
    assert sum(claim.clean for _, claim in claims) == 1


async def test_what_waited_does_not_take_a_device_from_a_node_that_has_claimed_it_since(
    world: World,
):
    a, b, c = await world.join("a"), await world.join("b"), await world.join("c")
    asked = monotonic()
    held = await a.store.claim("kitchen")
    late = await b.store.claim("kitchen", 0.0, LONG)
    assert isinstance(late, Late)
    assert 0 <= late.ago < monotonic() - asked
    assert a.heard.taken_from == []
    # Also where it has let go since.
    await a.store.put_device("kitchen", b"1", version=0, token=held.token, release=True)
    assert isinstance(await c.store.claim("kitchen", 0.0, LONG), Late)
    assert (await b.store.fetch(["kitchen"]))["kitchen"].holder == ""
    # What asks now is not late.
    claim = await b.store.claim("kitchen")
    assert isinstance(claim, Claim)
    assert 0 <= claim.ago < monotonic() - asked


async def test_no_claim_of_its_own_makes_a_node_late(world: World):
    a, b = await world.join("a"), await world.join("b")
    assert (await a.store.claim("kitchen")).ago == inf
    again = await a.store.claim("kitchen", 0.0, LONG)
    assert isinstance(again, Claim)
    assert again.ago == inf
    assert isinstance(await b.store.claim("kitchen"), Claim)


async def test_a_claim_that_is_confirmed_counts_as_made_then(world: World):
    a, b = await world.join("a"), await world.join("b")
    held = await a.store.claim("kitchen")
    for _ in range(20):  # time passes
        await a.store.fetch(["kitchen"])
    confirmed = monotonic()
    assert await a.store.still_held("kitchen", held.token) is not None
    claim = await b.store.claim("kitchen")
    assert isinstance(claim, Claim)
    assert 0 <= claim.ago < monotonic() - confirmed
    assert await a.store.still_held("kitchen", held.token) is None
    assert await b.store.still_held("kitchen", claim.token) is not None
    await b.store.put_device("kitchen", b"1", version=0, token=claim.token, release=True)
    assert await b.store.still_held("kitchen", claim.token) is None
    assert await b.store.still_held("attic", 1) is None


async def test_a_claim_that_is_confirmed_tells_when_it_was_made(world: World):
    a = await world.join("a")
    before = monotonic()
    held = await a.store.claim("kitchen")
    after = monotonic()
    for _ in range(3):  # however often it was confirmed since
        asked = monotonic()
        since = await a.store.still_held("kitchen", held.token)
        assert since is not None
        assert asked - after <= since + RESOLUTION
        assert since <= monotonic() - before + RESOLUTION


async def test_what_a_device_dismissed_is_known_to_the_next_holder(world: World):
    a, b = await world.join("a"), await world.join("b")
    await a.store.submit((Dismiss("kitchen", 4), Dismiss("kitchen", 2), Dismiss("attic", 9)))
    await a.store.submit((Dismiss("kitchen", 4),))
    assert (await b.store.claim("kitchen")).dismissed == (2, 4)


async def test_profiles_are_listed_in_order_and_piece_by_piece(world: World):
    a, b = await world.join("a"), await world.join("b")
    names = sorted(f"d{i:02}" for i in range(25))
    await asyncio.gather(*(a.store.put_device(d, b"", version=0, token=None) for d in names))
    await b.store.claim("d07.unstored")
    assert await b.store.devices("", 100) == names
    assert await b.store.devices("", 10) == names[:10]
    assert await b.store.devices(names[9], 10) == names[10:20]
    assert await b.store.devices(names[-1], 10) == []


async def test_what_a_node_holds_is_known_to_all(world: World):
    a, b = await world.join("a"), await world.join("b")
    claims = await asyncio.gather(*(a.store.claim(f"d{i:02}") for i in range(20)))
    assert await b.store.held_by("a") == [f"d{i:02}" for i in range(20)]
    await a.store.put_device("d03", b"", version=0, token=claims[3].token, release=True)
    await b.store.claim("d04")
    assert len(await b.store.held_by("a")) == 18
    assert await a.store.held_by("b") == ["d04"]


async def test_a_device_may_be_called_like_a_key_of_the_store(world: World):
    a = await world.join("a")
    for name in ("all", "count", "d:x", "x:d", "h:a", "a.b-c_d:e"):
        claim = await a.store.claim(name)
        assert claim.clean
        written = await a.store.put_device(name, name.encode(), version=0, token=claim.token)
        assert isinstance(written, Written)
    assert len(await a.store.devices("", 10)) == 6


# ---- Nodes


async def test_nodes_hear_who_is_alive(world: World):
    a = await world.join("a")
    await eventually(lambda: a.heard.nodes == {"a"})
    b = await world.join("b")
    await eventually(lambda: a.heard.nodes == b.heard.nodes == {"a", "b"})
    await world.leave("b")
    await eventually(lambda: a.heard.nodes == {"a"})


async def test_two_nodes_of_one_name_are_not_let_in_until_the_first_is_gone(world: World):
    await world.join("a")
    second = world.store()
    with pytest.raises(StoreError, match="named a uses this store already"):
        await second.join("a", world.nodes["a"].heard)
    await world.leave("a")
    await world.join("a")


async def test_what_is_told_reaches_all_others_once_and_in_order(world: World):
    a, b, c = await world.join("a"), await world.join("b"), await world.join("c")
    for index in range(300):
        a.store.tell("count", b"%d" % index)
    b.store.tell("other", b"x")
    expected = [("count", b"%d" % index, "a") for index in range(300)]
    await eventually(lambda: len(c.heard.told_of) == 301)
    assert [each for each in c.heard.told_of if each[2] == "a"] == expected
    await eventually(lambda: b.heard.told_of == expected)
    await eventually(lambda: a.heard.told_of == [("other", b"x", "b")])
    assert a.heard.times_missed == b.heard.times_missed == 0


async def test_a_node_that_joins_is_not_told_what_was_said_before(world: World):
    a = await world.join("a")
    a.store.tell("old", b"")
    await a.store.post("nobody", [])
    b = await world.join("b")
    a.store.tell("new", b"")
    await eventually(lambda: b.heard.told_of == [("new", b"", "a")])
    assert b.heard.times_missed == 0


async def test_letters_to_a_node_come_in_order_and_wait_for_it(world: World):
    a, b = await world.join("a"), await world.join("b")
    await a.store.post("c", [b"0", b"1"])
    for index in range(2, 200, 2):
        last = a.store.post("c", [b"%d" % index, b"%d" % (index + 1)])
    await last
    c = await world.join("c")
    await a.store.post("c", [b"200"])
    await eventually(lambda: c.heard.letters == [b"%d" % index for index in range(201)])
    assert a.heard.letters == b.heard.letters == []
    await world.leave("c")
    again = await world.join("c")
    await a.store.post("c", [b"201"])
    await eventually(lambda: again.heard.letters == [b"201"])


async def test_a_lease_is_one_nodes_until_it_ends_and_its_token_tells_holders_apart(world: World):
    a, b = await world.join("a"), await world.join("b")
    first = await a.store.lease("trainer", 0.5)
    assert await a.store.lease("trainer", 0.5) == first
    assert await b.store.lease("trainer", 0.5) is None
    assert await b.store.lease("ingest", 60) is not None
    second = None
    async with asyncio.timeout(10):
        while second is None:
            world.now += 0.1
            second = await b.store.lease("trainer", 60)
            await asyncio.sleep(0.02)
    assert second > first
    assert await a.store.lease("trainer", 1) is None


# ---- Learning


async def test_feedback_is_given_out_once_and_in_order(world: World):
    a, b = await world.join("a"), await world.join("b")
    for index in range(100):
        a.store.feedback(b"%d" % index)
    read: list[bytes] = []
    async with asyncio.timeout(10):
        while len(read) < 100:
            read += await b.store.read_feedback(30)
    assert read == [b"%d" % index for index in range(100)]
    assert await a.store.read_feedback(10) == []
    assert b.store.feedback_waiting == a.store.feedback_dropped == 0


async def test_how_much_feedback_waits_is_told_with_what_is_read(world: World):
    a = await world.join("a")
    for _ in range(10):
        a.store.feedback(b"x")
    await a.store.post("a", [])  # said after it, so there when this is
    assert len(await a.store.read_feedback(4)) == 4
    assert a.store.feedback_waiting == 6


async def test_a_published_value_replaces_the_one_before_and_is_fenced(world: World):
    a, b = await world.join("a"), await world.join("b")
    assert await b.store.latest("model", 0) is None
    assert await a.store.publish("model", b"1", token=3)
    number, blob = await b.store.latest("model", 0)
    assert blob == b"1"
    assert await b.store.latest("model", number) is None
    assert await b.store.publish("model", b"2" * 3_000_000, token=4)
    assert not await a.store.publish("model", b"3", token=3)
    later, blob = await a.store.latest("model", number)
    assert (later > number, blob) == (True, b"2" * 3_000_000)
    assert await a.store.latest("other", 0) is None


# ---- Opening and closing


async def test_a_store_that_nodes_use_is_not_opened_alone(world: World):
    await world.join("a")
    with pytest.raises(StoreError):
        world.store().open()


async def test_what_was_stored_alone_is_there_for_nodes_and_the_reverse(world: World):
    a = await world.join("a")
    await a.store.put_item(record(1), None)
    claim = await a.store.claim("kitchen")
    await a.store.put_device("kitchen", b"1", version=0, token=claim.token, release=True)
    await a.store.submit((Dismiss("kitchen", 1),))
    await world.leave("a")
    alone = world.store()
    loaded = alone.open()
    assert loaded.records == [record(1)]
    assert loaded.devices == [("kitchen", b"1")]
    assert loaded.dismissed == [("kitchen", 1)]
    await alone.submit((PutDevice("attic", b"2"),))
    await alone.close(clean=True)
    b = await world.join("b")
    assert (await b.store.fetch(["attic"]))["attic"].blob == b"2"
    assert b.store.number() >= loaded.next_n


async def test_a_node_that_has_left_takes_nothing(world: World):
    a = await world.join("a")
    await world.leave("a")
    asks = [
        lambda: a.store.put_item(record(1), None),
        lambda: a.store.claim("kitchen"),
        lambda: a.store.fetch(["kitchen"]),
        lambda: a.store.tell("kind", b""),
        lambda: a.store.submit(()),
    ]
    for ask in asks:
        with pytest.raises(StoreError, match="not open"):
            ask()


async def test_what_was_asked_before_the_end_is_done(world: World):
    a, b = await world.join("a"), await world.join("b")
    puts = [a.store.put_item(record(n), None) for n in range(1, 200)]
    letter = a.store.post("b", [b"last"])
    await world.leave("a")
    assert [put.result() for put in puts] == [None] * 199
    assert letter.done()
    await eventually(lambda: len(b.heard.records) == 199)
    await eventually(lambda: b.heard.letters == [b"last"])


async def test_a_future_that_nobody_waits_for_any_more_disturbs_no_other(world: World):
    a = await world.join("a")
    a.store.put_item(record(1), None).cancel()
    a.store.claim("kitchen").cancel()
    assert await a.store.put_item(record(2), None) is None
    assert (await world.join("b")).loaded.records == [record(1), record(2)]


async def test_records_keep_all_that_they_have(world: World):
    a = await world.join("a")
    full = replace(
        record(1),
        version=65_535,
        retracted=True,
        earlier=(b"1" * 16, b"2" * 16),
        publisher="météo",
    )
    await a.store.put_item(full, None)
    assert (await world.join("b")).loaded.records == [full]
