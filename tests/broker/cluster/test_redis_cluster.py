"""Three nodes over a real Redis Cluster of three masters with a replica each."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from devices.packets import Puback, Publish
from tests.broker.cluster.conftest import RedisFleet
from tests.broker.support import eventually, item
from tests.redis_servers import redis_cluster, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.broker.cluster.conftest import NodeServed
    from tests.redis_servers import RedisCluster

ITEMS = 300


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
async def nodes(tmp_path: Path, cluster: RedisCluster) -> AsyncIterator[list[NodeServed]]:
    """Three that know each other, and have a replica confirm what they acknowledge."""
    async with AsyncExitStack() as stack:
        fleet = RedisFleet(tmp_path, stack, cluster.url, wait_replicas=1)
        started = [await fleet.node() for _ in range(3)]
        for each in started:
            await eventually(lambda each=each: len(each.node.alive), lambda count: count == 3)
        yield started


async def test_a_device_goes_around_three_nodes_by_its_position(nodes: list[NodeServed]) -> None:
    await nodes[0].publish(item("0", "item 0"))
    device = await nodes[0].subscribed("kitchen", clean=False)
    for turn in range(1, 4):
        await nodes[turn % 3].publish(item(str(turn), f"item {turn}"))
        device = await nodes[turn % 3].device("kitchen", device.replica, clean=False)
        assert device.session_present
        device.hello()
        await device.shows(*(f"item {number}" for number in range(turn, -1, -1)))


async def test_a_failover_under_load_loses_nothing_that_was_acknowledged(
    nodes: list[NodeServed], cluster: RedisCluster
) -> None:
    watcher = await nodes[2].subscribed("kitchen")
    publishers = [await node.connect("") for node in nodes[:2]]

    async def publish(index: int) -> set[str]:
        peer, acknowledged = publishers[index], set[str]()
        for number in range(ITEMS):
            name = f"{index}-{number}"
            payload = json.dumps(item(name, name)).encode()
            peer.send(Publish("items/news", payload, 1, number + 1))
            puback = await peer.read(within=60)
            assert isinstance(puback, Puback)
            assert puback.packet_id == number + 1
            acknowledged.add(name)
        return acknowledged

    publishing = [asyncio.ensure_future(publish(index)) for index in range(2)]
    await eventually(lambda: len(nodes[2].server.service.catalog), lambda count: count > ITEMS / 4)
    victim = cluster.masters[0]
    replica = cluster.replica_of(victim)
    await asyncio.to_thread(victim.kill)
    await asyncio.to_thread(until, lambda: replica in cluster.masters, "a new master")
    await asyncio.to_thread(cluster.heal)  # until then the new master has no replica to confirm
    acknowledged = set().union(*[await each for each in publishing])
    assert len(acknowledged) == 2 * ITEMS
    for node in nodes:
        catalog = node.server.service.catalog
        await eventually(
            lambda catalog=catalog: {record.item.id for record in catalog} >= acknowledged,
            within=20,
        )
    numbers = [{r.item.id: r.n for r in node.server.service.catalog} for node in nodes]
    assert numbers[0] == numbers[1] == numbers[2]
    await watcher.peer.drop()
