"""What Redis and the network do to a store: nothing acknowledged is lost, and nothing happens twice."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

import hiredis
import pytest
import trustme
import uvloop

from feedgen.store import Dismiss, StoreError
from feedgen.store.redis import RedisSettings, RedisStore, scripts
from feedgen.store.redis.keys import slot_of
from feedgen.store.shared import Claim, Fenced, OutOfNumbers, Written
from tests.broker.support import eventually
from tests.feedgen.store.redis_proxy import RedisProxy
from tests.feedgen.store.shared_worlds import Heard, World, record
from tests.redis_servers import RedisServer, free_port, redis_sentinels, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from feedgen.items import Record
    from feedgen.store.shared import SharedStore
    from tests.redis_servers import RedisCluster

PATIENCE = 30.0


@pytest.fixture
async def proxy(redis: RedisServer) -> AsyncIterator[RedisProxy]:
    async with RedisProxy(redis.port) as proxy:
        yield proxy


@pytest.fixture
async def world(redis: RedisServer, proxy: RedisProxy) -> AsyncIterator[World]:  # noqa: ARG001
    world = World(redis.url, RedisSettings(timeout=0.5))
    yield world
    await world.end()  # while the proxy is still there


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test, which that may kill."""
    with redis_server(tmp_path / "own") as server:
        yield server


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test, which after its death knows what it did at its last `SAVE`."""
    with redis_server(tmp_path / "forgetful", "appendonly no", 'save ""') as server:
        yield server


def restart(server: RedisServer) -> None:
    server.kill()
    server.start()


class Writing:
    """Items put one after the other, and updates of one id, until it is told to stop.

    Attributes:
        acknowledged: What was durable when it resolved.
    """

    def __init__(self, store: SharedStore) -> None:
        self.acknowledged: list[Record] = []
        self.last: Record | None = None
        self._store = store
        self._goes_on = True
        self._tasks = [asyncio.create_task(self._new()), asyncio.create_task(self._updates())]

    async def stop(self) -> None:
        self._goes_on = False
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self._tasks)

    async def _new(self) -> None:
        while self._goes_on:
            puts = [record(self._store.number()) for _ in range(5)]
            assert (
                await asyncio.gather(*(self._store.put_item(r, None) for r in puts)) == [None] * 5
            )
            self.acknowledged += puts

    async def _updates(self) -> None:
        version = 0
        while self._goes_on:
            new = record(4_000_000, version, name="updated", payload=b"%d" % version)
            # Refused, if an attempt before had been carried out without our knowing of it.
            assert await self._store.put_item(new, self.last) is None
            self.last, version = new, version + 1


async def nothing_lost(world: World, writing: Writing) -> None:
    """All that was acknowledged is what the next node finds."""
    found = {r.n: r for r in (await world.join("later")).loaded.records}
    assert {r.n for r in writing.acknowledged} <= found.keys()
    assert found[4_000_000] == writing.last


async def test_what_was_acknowledged_survives_kill_9_of_redis(own: RedisServer):
    world = World(own.url, RedisSettings(timeout=0.5))
    a, b = await world.join("a"), await world.join("b")
    writing = Writing(a.store)
    for _ in range(2):
        before = len(writing.acknowledged)
        await eventually(lambda before=before: len(writing.acknowledged) > before + 50)
        own.kill()
        await eventually(lambda: not a.store.up)
        assert a.store.fault is not None
        assert f"127.0.0.1:{own.port}" in a.store.fault
        own.start()
        await eventually(lambda: a.store.up)
    await writing.stop()
    await nothing_lost(world, writing)
    wanted = {r.n for r in writing.acknowledged}
    await eventually(lambda: wanted <= {r.n for r in b.heard.records}, within=PATIENCE)
    await eventually(lambda: b.heard.latest()["alerts/weather", "updated"] == writing.last)
    versions = b.heard.versions()[4_000_000]
    assert versions == sorted(versions)
    assert a.store.errors > 0
    await world.end()


async def test_connections_that_are_cut_lose_nothing_and_repeat_nothing(
    world: World, redis: RedisServer
):
    a, b = await world.join("a"), await world.join("b")
    writing = Writing(a.store)
    for _ in range(10):
        before = len(writing.acknowledged)
        await eventually(lambda before=before: len(writing.acknowledged) > before + 20)
        with contextlib.suppress(OSError):
            redis.ask("CLIENT", "KILL", "TYPE", "normal")
    await writing.stop()
    await nothing_lost(world, writing)
    wanted = {r.n for r in writing.acknowledged}
    await eventually(lambda: wanted <= {r.n for r in b.heard.records})


async def test_a_server_that_halts_is_waited_for(world: World, redis: RedisServer):
    a = await world.join("a")
    with redis.halted():
        put = a.store.put_item(record(1), None)
        claim = a.store.claim("kitchen")
        await eventually(lambda: not a.store.up)
        assert "has not answered for 0.5 s" in (a.store.fault or "")
        assert not put.done()
    assert await asyncio.wait_for(put, PATIENCE) is None
    assert (await asyncio.wait_for(claim, PATIENCE)).clean
    await eventually(lambda: a.store.up)


async def test_a_put_whose_answer_was_lost_is_known_to_be_done(world: World, proxy: RedisProxy):
    a, b = await world.join("a", proxy.url), await world.join("b")
    proxy.lose_answer_to(scripts.PUT_ITEM.sha)
    assert await a.store.put_item(record(1), None) is None
    assert proxy.lost == 1
    update = record(1, 1, payload=b"gale")
    proxy.lose_answer_to(scripts.PUT_ITEM.sha)
    put = a.store.put_item(update, record(1))
    await eventually(lambda: proxy.lost == 2)
    # Another node goes on from there before the first can ask again.
    later = record(1, 2, payload=b"calm")
    assert await b.store.put_item(later, update) is None
    assert await put is None
    assert (await world.join("c")).loaded.records == [later]


async def test_a_claim_whose_answer_was_lost_is_not_made_twice(world: World, proxy: RedisProxy):
    a = await world.join("a", proxy.url)
    proxy.lose_answer_to(scripts.CLAIM.sha)
    claim = await a.store.claim("kitchen")
    assert proxy.lost == 1
    assert claim.clean
    proxy.lose_answer_to(scripts.PUT_DEVICE.sha)
    written = await a.store.put_device("kitchen", b"1", version=0, token=claim.token)
    assert proxy.lost == 2
    assert isinstance(written, Written)
    assert (await a.store.fetch(["kitchen"]))["kitchen"].version == written.version


async def test_a_claim_that_is_asked_again_tells_when_another_node_had_it_as_the_first_time(
    world: World, proxy: RedisProxy
):
    a, b = await world.join("a", proxy.url), await world.join("b")
    await b.store.claim("kitchen")
    before = monotonic()
    proxy.lose_answer_to(scripts.CLAIM.sha)
    claim = await a.store.claim("kitchen")
    assert proxy.lost == 1
    assert isinstance(claim, Claim)
    assert 0 <= claim.ago <= monotonic() - before


async def test_a_claim_that_was_held_up_on_its_way_is_late_for_what_happened_meanwhile(
    world: World, proxy: RedisProxy
):
    a, b = await world.join("a", proxy.url), await world.join("b")
    asked = monotonic()
    proxy.hold()
    held_up = a.store.claim("kitchen")
    assert isinstance(await b.store.claim("kitchen"), Claim)
    proxy.let_go()
    # Granted if it was on its way, refused if it was sent again: both tell.
    assert (await asyncio.wait_for(held_up, PATIENCE)).ago < monotonic() - asked


async def test_a_claim_of_a_time_that_has_not_come_yet_makes_nobody_late(
    world: World, redis: RedisServer
):
    """The clock of a server that took over may be behind that of the one before."""
    a, b = await world.join("a"), await world.join("b")
    await a.store.claim("kitchen")
    (key,) = redis.ask("KEYS", f"{world.settings.prefix}*:d:kitchen")
    redis.ask("HSET", key, "token", (1 << 53) - 1)
    claim = await b.store.claim("kitchen", 0.0, 3600.0)
    assert isinstance(claim, Claim)
    assert claim.ago == inf


async def test_words_whose_answer_was_lost_are_said_once(world: World, proxy: RedisProxy):
    a, b = await world.join("a", proxy.url), await world.join("b")
    for index in range(1, 4):
        proxy.lose_answer_to(scripts.SAY.sha)
        a.store.tell("count", b"%d" % index)
        a.store.feedback(b"%d" % index)
        await a.store.post("b", [b"%d" % index])
        assert proxy.lost == index
    await eventually(lambda: b.heard.letters == [b"1", b"2", b"3"])
    await eventually(lambda: [body for _, body, _ in b.heard.told_of] == [b"1", b"2", b"3"])
    proxy.lose_answer_to(scripts.READ_FEEDBACK.sha)
    assert await a.store.read_feedback(2) == [b"1", b"2"]
    assert await a.store.read_feedback(2) == [b"3"]
    proxy.lose_answer_to(scripts.PUBLISH.sha)
    assert await a.store.publish("model", b"1", token=1)
    number, blob = await b.store.latest("model", 0) or (0, b"")
    assert blob == b"1"
    assert await b.store.latest("model", number) is None
    assert proxy.lost == 5


async def test_a_node_that_is_cut_off_hears_all_that_it_missed(world: World, proxy: RedisProxy):
    a, b = await world.join("a"), await world.join("b", proxy.url)
    await proxy.shut()
    puts = [record(n) for n in range(1, 100)]
    await asyncio.gather(*(a.store.put_item(each, None) for each in puts))
    a.store.tell("kind", b"body")
    waiting = b.store.put_item(record(500), None)
    await eventually(lambda: not b.store.up)
    assert "refuses connections" in (b.store.fault or "")
    assert a.store.up
    assert not waiting.done()
    assert b.heard.records == []
    await proxy.open()
    assert await waiting is None
    await eventually(
        lambda: b.heard.latest().keys() == {("alerts/weather", f"item-{n}") for n in range(1, 100)}
    )
    await eventually(lambda: b.heard.told_of == [("kind", b"body", "a")])
    await eventually(lambda: a.heard.records == [record(500)])


async def test_a_node_is_not_told_its_own_record_that_it_put_over_the_one_it_hears_of(
    world: World, proxy: RedisProxy
):
    a, b = await world.join("a", proxy.url), await world.join("b")
    proxy.hold()
    await b.store.put_item(record(1), None)
    mine = a.store.put_item(record(1, 1, payload=b"gale"), record(1))
    proxy.let_go()
    assert await mine is None
    await b.store.put_item(record(2), None)
    await eventually(lambda: record(2) in a.heard.records)
    assert record(1, 1, payload=b"gale") not in a.heard.records


async def test_a_node_without_numbers_is_given_some_also_if_it_asks_for_none(world: World):
    a = await world.join("a")
    while a.store.numbers_left:  # all of a block, in the turn in which it came
        a.store.number()
    for _ in range(20):
        await eventually(lambda: a.store.numbers_left)
        while a.store.numbers_left:
            a.store.number()


async def test_numbers_last_for_a_while_without_redis_and_then_end(world: World, proxy: RedisProxy):
    a = await world.join("a", proxy.url)
    await proxy.shut()
    left = a.store.numbers_left
    given = {a.store.number() for _ in range(left)}
    assert len(given) == left == world.settings.number_block
    with pytest.raises(OutOfNumbers):
        a.store.number()
    await proxy.open()
    await eventually(lambda: a.store.numbers_left)
    assert a.store.number() not in given


async def test_a_node_that_is_too_far_behind_reads_everything_anew(redis: RedisServer):
    world = World(redis.url)
    world.settings = replace(world.settings, stream_length=10, word_length=10)
    async with RedisProxy(redis.port) as proxy:
        a, b = await world.join("a"), await world.join("b", proxy.url)
        await proxy.shut()
        for n in range(1, 3000, 100):
            await asyncio.gather(*(a.store.put_item(record(m), None) for m in range(n, n + 100)))
            for _ in range(100):
                a.store.tell("kind", b"body")
        await a.store.post("a", [])
        length = redis.ask("XLEN", f"{world.settings.prefix}{{i0}}:new")
        assert length < 500  # of 700 or so: it was cut
        await proxy.open()
        await eventually(lambda: len(b.heard.latest()) == 3000, within=PATIENCE)
        await eventually(lambda: b.heard.times_missed >= 1)
        await a.store.put_item(record(5000), None)
        await eventually(lambda: b.heard.records[-1] == record(5000))
        await world.end()


async def test_a_redis_that_lost_everything_gives_no_number_again(own: RedisServer):
    world = World(own.url)
    a, b = await world.join("a"), await world.join("b")
    numbers = {a.store.number() for _ in range(30)}
    await asyncio.gather(*(a.store.put_item(record(n), None) for n in numbers))
    await eventually(lambda: len(b.heard.records) == 30)
    own.ask("FLUSHALL")
    own.ask("CLIENT", "KILL", "TYPE", "normal")
    for _ in range(300):
        store = (a if len(numbers) % 2 else b).store
        if not store.numbers_left:
            await eventually(lambda store=store: store.numbers_left)
        n = store.number()
        assert n not in numbers
        numbers.add(n)
    # What was decided over an item that is gone is stored, for there is nothing against it.
    update = record(min(numbers), 1, payload=b"gale")
    assert await a.store.put_item(update, record(min(numbers))) is None
    await eventually(lambda: b.heard.records[-1] == update)
    await world.end()


async def test_a_redis_that_lost_its_last_writes_gives_no_number_again(forgetful: RedisServer):
    """As a replica in a master's place: no node that asks now has heard of what is lost."""
    world = World(forgetful.url)
    a, b = await world.join("a"), await world.join("b")
    forgetful.ask("SAVE")
    given = [a.store.number() for _ in range(a.store.numbers_left)]
    await eventually(lambda: a.store.numbers_left)
    given += [a.store.number() for _ in range(20)]
    restart(forgetful)
    for _ in range(200):
        if not b.store.numbers_left:
            await eventually(lambda: b.store.numbers_left, within=PATIENCE)
        given.append(b.store.number())
    assert len(set(given)) == len(given)
    await world.end()


async def test_a_node_that_joins_after_a_loss_is_given_numbers_above_those_of_the_others(
    forgetful: RedisServer,
):
    world = World(forgetful.url)
    a = await world.join("a")
    given = {a.store.number() for _ in range(10)}
    restart(forgetful)
    await eventually(lambda: forgetful.ask("EXISTS", f"{world.settings.prefix}{{m}}:number"))
    b = await world.join("b")
    assert given.isdisjoint(b.store.number() for _ in range(b.store.numbers_left))
    await world.end()


async def test_tokens_and_versions_only_grow_though_redis_has_lost_some(forgetful: RedisServer):
    world = World(forgetful.url)
    a, b = await world.join("a"), await world.join("b")
    forgetful.ask("SAVE")
    lost = await a.store.claim("kitchen")
    written = await a.store.put_device("kitchen", b"1", version=0, token=lost.token)
    restart(forgetful)
    claim = await asyncio.wait_for(b.store.claim("kitchen"), PATIENCE)
    assert claim.token > lost.token
    assert await a.store.put_device("kitchen", b"2", version=0, token=lost.token) == Fenced()
    again = await b.store.put_device("kitchen", b"3", version=0, token=claim.token)
    assert isinstance(written, Written)
    assert isinstance(again, Written)
    assert again.version > written.version
    await world.end()


async def test_what_is_learned_is_still_news_though_redis_has_lost_what_was_before(
    forgetful: RedisServer,
):
    world = World(forgetful.url)
    a, b = await world.join("a"), await world.join("b")
    forgetful.ask("SAVE")
    old = await a.store.lease("trainer", 0.01)
    assert old is not None
    for blob in (b"1", b"2", b"3"):
        assert await a.store.publish("weights", blob, old)
    seen = await b.store.latest("weights", 0)
    assert seen is not None
    restart(forgetful)
    token = await asyncio.wait_for(b.store.lease("trainer", 5), PATIENCE)
    assert token is not None
    assert token > old
    assert await b.store.publish("weights", b"4", token)
    news = await b.store.latest("weights", seen[0])
    assert news is not None
    assert news[1] == b"4"
    assert not await a.store.publish("weights", b"5", old)
    await world.end()


async def test_a_block_of_numbers_is_taken_once_while_replicas_do_not_confirm(own: RedisServer):
    world = World(own.url)
    a = await world.join("a")
    key = f"{world.settings.prefix}{{m}}:number"
    a.store._session.settings = a.store._session.pipelines._settings = replace(  # type: ignore[attr-defined]
        world.settings, wait_replicas=1, wait_timeout=0.01
    )
    before = int(own.ask("GET", key))
    while a.store.numbers_left:
        a.store.number()
    errors = a.store.errors
    await eventually(lambda: a.store.errors > errors + 3)
    assert int(own.ask("GET", key)) == before + world.settings.number_block
    await world.kill("a")


async def test_a_node_that_counted_as_dead_looks_at_all_it_holds(world: World, proxy: RedisProxy):
    a, b = await world.join("a", proxy.url), await world.join("b")
    await a.store.claim("kitchen")
    await proxy.shut()
    await eventually(lambda: b.heard.nodes == {"b"}, within=PATIENCE)
    await b.store.claim("kitchen")
    assert a.heard.times_missed == 0
    await proxy.open()
    await eventually(lambda: a.heard.times_missed == 1, within=PATIENCE)
    await eventually(lambda: a.heard.taken_from == ["kitchen"])


async def test_scripts_that_were_flushed_are_loaded_again(world: World, redis: RedisServer):
    a, b = await world.join("a"), await world.join("b")
    redis.ask("SCRIPT", "FLUSH")
    assert await a.store.put_item(record(1), None) is None
    await eventually(lambda: b.heard.records == [record(1)])
    assert a.store.up


async def test_a_redis_that_is_full_is_said_to_be_so_and_waited_for(own: RedisServer):
    world = World(own.url)
    a = await world.join("a")
    own.ask("CONFIG", "SET", "maxmemory", "1")
    put = a.store.put_item(record(1), None)
    await eventually(lambda: not a.store.up)
    assert "Its memory is full: raise its maxmemory" in (a.store.fault or "")
    own.ask("CONFIG", "SET", "maxmemory", "0")
    assert await asyncio.wait_for(put, PATIENCE) is None
    await eventually(lambda: a.store.up)
    await world.end()


async def test_closing_while_redis_is_away_gives_up_and_says_so(own: RedisServer):
    world = World(own.url)
    a = await world.join("a")
    own.kill()
    put = a.store.put_item(record(1), None)
    claim = a.store.claim("kitchen", wait=30)
    submitted = a.store.submit((Dismiss("kitchen", 1),))
    letter = a.store.post("b", [b""])
    await eventually(lambda: not a.store.up)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StoreError, match="refuses connections"):
            await world.leave("a")
    for future in (put, claim, submitted, letter):
        with pytest.raises(StoreError):
            await future


async def test_a_claim_that_waits_ends_with_the_store(world: World):
    a, b = await world.join("a"), await world.join("b")
    await a.store.claim("kitchen")
    claim = b.store.claim("kitchen", wait=60)
    await eventually(lambda: a.heard.taken_from == ["kitchen"])
    await world.leave("b")
    with pytest.raises(StoreError, match="closed before the device was claimed"):
        await claim


async def test_too_few_replicas_hold_back_what_is_to_be_durable(own: RedisServer):
    settings = RedisSettings(wait_replicas=1, wait_timeout=0.05, prefix="waiting:")
    world = World(own.url, settings)
    joining = asyncio.create_task(world.join("a"))
    await asyncio.sleep(0)
    store = RedisStore(own.url, settings)
    joined = asyncio.create_task(store.join("b", Heard()))
    await eventually(lambda: store.fault)
    assert "0 of 1 replicas have confirmed" in (store.fault or "")
    assert "Too few replicas" in (store.fault or "")
    for task in (joining, joined):
        task.cancel()
    await asyncio.gather(joining, joined, return_exceptions=True)


def test_a_store_works_on_uvloop_as_on_asyncio(redis: RedisServer):
    async def run() -> None:
        world = World(redis.url)
        a, b = await world.join("a"), await world.join("b")
        assert await a.store.put_item(record(1), None) is None
        assert (await b.store.claim("kitchen")).clean
        await eventually(lambda: b.heard.records == [record(1)])
        await world.end()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


async def test_connections_are_encrypted_and_servers_known_by_their_certificates(tmp_path: Path):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    port = free_port()
    options = (
        f"tls-port {port}",
        f"tls-cert-file {tmp_path / 'cert.pem'}",
        f"tls-key-file {tmp_path / 'key.pem'}",
        f"tls-ca-cert-file {tmp_path / 'ca.pem'}",
        "tls-auth-clients no",
        "appendonly yes",
    )
    url = f"rediss://127.0.0.1:{port}"
    with redis_server(tmp_path / "tls", *options):
        world = World(url, RedisSettings(ca_file=tmp_path / "ca.pem"))
        a, b = await world.join("a"), await world.join("b")
        await a.store.put_item(record(1, payload=b"x" * 60_000), None)
        await eventually(lambda: len(b.heard.records) == 1)
        await world.end()
        with pytest.raises(StoreError, match="certificate verify failed"):
            await RedisStore(url).join("a", Heard())


# ---- Sentinel


async def test_a_master_that_dies_is_followed_to_where_the_sentinels_say(tmp_path: Path):
    with redis_sentinels(tmp_path) as servers:
        world = World(servers.url, RedisSettings(timeout=0.5, wait_replicas=0))
        a, b = await world.join("a"), await world.join("b")
        await a.store.put_item(record(1), None)
        await eventually(lambda: servers.replica.ask("DBSIZE") == servers.master.ask("DBSIZE"))
        servers.master.kill()
        put = a.store.put_item(record(2), None)
        assert await asyncio.wait_for(put, PATIENCE) is None
        assert servers.master_port() == servers.replica.port
        await eventually(lambda: record(2) in b.heard.records, within=PATIENCE)
        assert [r.n for r in (await world.join("c")).loaded.records] == [1, 2]
        await world.end()


# ---- Cluster


@pytest.fixture
async def spread(cluster: RedisCluster) -> AsyncIterator[World]:
    """Nodes on a cluster, of which every master has its replica's confirmation."""
    cluster.heal()
    world = World(cluster.url, RedisSettings(timeout=1.0, wait_replicas=1))
    yield world
    await world.end()
    cluster.heal()


async def test_a_master_of_the_cluster_hands_over_amid_writes(spread: World, cluster: RedisCluster):
    a, b = await spread.join("a"), await spread.join("b")
    writing = Writing(a.store)
    await eventually(lambda: len(writing.acknowledged) > 50)
    for master in cluster.masters:
        replica = await asyncio.to_thread(cluster.replica_of, master)
        await asyncio.to_thread(cluster.fail_over, replica)
        before = len(writing.acknowledged)
        await eventually(
            lambda before=before: len(writing.acknowledged) > before + 50, within=PATIENCE
        )
    await writing.stop()
    await nothing_lost(spread, writing)
    wanted = {r.n for r in writing.acknowledged}
    await eventually(lambda: wanted <= {r.n for r in b.heard.records}, within=PATIENCE)


async def test_what_a_replica_has_confirmed_survives_kill_9_of_a_master(
    spread: World, cluster: RedisCluster
):
    a, b = await spread.join("a"), await spread.join("b")
    claims = await asyncio.gather(*(a.store.claim(f"d{i}") for i in range(50)))
    writing = Writing(a.store)
    await eventually(lambda: len(writing.acknowledged) > 50)
    master = next(each for each in cluster.masters if has_items(each, spread))
    master.kill()
    puts = [
        a.store.put_device(f"d{i}", b"kept", version=0, token=claim.token)
        for i, claim in enumerate(claims)
    ]
    # With its replica in its place nobody can confirm there, so nothing is acknowledged.
    await eventually(lambda: len(cluster.masters) == 3, within=PATIENCE)
    await eventually(lambda: "Too few replicas" in (a.store.fault or ""), within=PATIENCE)
    before = len(writing.acknowledged)
    master.start()
    written = await asyncio.wait_for(asyncio.gather(*puts), PATIENCE)
    assert all(isinstance(answer, Written) for answer in written)
    await eventually(lambda: len(writing.acknowledged) > before + 50, within=PATIENCE)
    await writing.stop()
    await nothing_lost(spread, writing)
    wanted = {r.n for r in writing.acknowledged}
    await eventually(lambda: wanted <= {r.n for r in b.heard.records}, within=PATIENCE)
    assert len(await b.store.devices("", 100)) == 50


def has_items(master: RedisServer, world: World) -> bool:
    return bool(master.ask("KEYS", f"{world.settings.prefix}*:new"))


async def test_slots_that_move_to_another_master_take_their_items_along(
    spread: World, cluster: RedisCluster
):
    a, b = await spread.join("a"), await spread.join("b")
    writing = Writing(a.store)
    await eventually(lambda: len(writing.acknowledged) > 50)
    slot = slot_of(f"{spread.settings.prefix}{{i0}}:")
    for _ in range(2):  # there and back
        source, target = two_masters(cluster, slot)
        await asyncio.to_thread(move_slot, slot, source, target)
        before = len(writing.acknowledged)
        await eventually(
            lambda before=before: len(writing.acknowledged) > before + 50, within=PATIENCE
        )
    await writing.stop()
    await nothing_lost(spread, writing)
    wanted = {r.n for r in writing.acknowledged}
    await eventually(lambda: wanted <= {r.n for r in b.heard.records}, within=PATIENCE)


def two_masters(cluster: RedisCluster, slot: int) -> tuple[RedisServer, RedisServer]:
    """Who has a slot, and who has not."""
    for first, last, (_, port, *_), *_ in cluster.servers[0].ask("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            owner = next(each for each in cluster.masters if each.port == port)
            return owner, next(each for each in cluster.masters if each.port != port)
    raise AssertionError(slot)


def move_slot(slot: int, source: RedisServer, target: RedisServer) -> None:
    """What `redis-cli --cluster reshard` does for one slot."""
    names = {each.port: each.ask("CLUSTER", "MYID") for each in (source, target)}
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source.port])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target.port])
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 20):
        with contextlib.suppress(hiredis.ReplyError):  # one that has expired since
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for each in (target, source):
        each.ask("CLUSTER", "SETSLOT", slot, "NODE", names[target.port])
