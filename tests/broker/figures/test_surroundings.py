"""What one of several servers, and a gateway, tell of what is around them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from broker.figures import tree
from broker.figures.reading import FRESH, Reading
from tests.broker.cluster.conftest import FaultyFleet, NodeServed
from tests.broker.gateway.stage import Beside
from tests.broker.support import eventually
from tests.outside_brokers import BROKERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker.figures.reading import Figures


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[FaultyFleet]:
    """Nodes over one store in memory."""
    async with AsyncExitStack() as stack:
        yield FaultyFleet(tmp_path, stack)


@pytest.fixture
async def beside(tmp_path: Path) -> AsyncIterator[Beside]:
    """A gateway beside a Mosquitto."""
    with BROKERS["mosquitto"]() as broker:
        found = Beside(broker, tmp_path, {"ranking.model": "popularity"})
        await found.start()
        yield found
        await found.drop_peers()
        await found.stop()


def anew(figures: Figures) -> Reading:
    """A look that is not the last one."""
    at = figures.read().at + FRESH
    figures._clock = lambda: at
    return figures.read()


def moves(served: NodeServed) -> dict[str, float]:
    return {**anew(served.server.figures).numbers["fleetfeed_cluster_handovers_total"]}


async def test_a_node_tells_who_else_is_there_and_what_it_holds(fleet: FaultyFleet) -> None:
    here, there = await fleet.pair()
    await here.subscribed("kitchen")
    found = anew(here.server.figures)
    assert found.number("fleetfeed_cluster_members") == 2
    assert found.number("fleetfeed_cluster_devices") == 1
    assert anew(there.server.figures).number("fleetfeed_cluster_devices") == 0


async def test_a_device_that_goes_elsewhere_is_released_here_and_claimed_there(
    fleet: FaultyFleet,
) -> None:
    here, there = await fleet.pair()
    device = await here.subscribed("kitchen")
    await device.peer.leave()
    await fleet.free("kitchen")
    await there.subscribed("kitchen")
    assert moves(here) == {"claimed": 1, "unclean": 0, "released": 1, "lost": 0}
    assert moves(there) == {"claimed": 1, "unclean": 0, "released": 0, "lost": 0}


async def test_a_device_of_a_node_that_died_is_claimed_unclean(fleet: FaultyFleet) -> None:
    here, there = await fleet.pair()
    await here.subscribed("kitchen")
    await here.kill()
    await there.subscribed("kitchen")
    assert moves(there) == {"claimed": 1, "unclean": 1, "released": 0, "lost": 0}


async def test_one_of_the_nodes_that_learn_trains_for_all(fleet: FaultyFleet) -> None:
    pair = await fleet.pair(ranking__model="learned")

    def trainers() -> float:
        looks = [anew(each.server.figures) for each in pair]
        return sum(look.number("fleetfeed_cluster_trainer") for look in looks)

    await eventually(trainers, lambda count: count == 1)
    look = anew(pair[0].server.figures)
    assert look.number("fleetfeed_ranking_age_seconds") >= 0
    assert "ranking/age" in dict(tree.leaves(look))


async def test_a_gateway_tells_how_its_connections_are(beside: Beside) -> None:
    found = anew(beside.gateway.figures)
    assert found.numbers["fleetfeed_uplink_up"] == {"frames": 1, "items": 1, "ups": 1}
    assert found.number("fleetfeed_uplink_unacknowledged") == 0
    beside.gateway.ingest.pause_items()
    await beside.gateway.ingest.stop()
    found = anew(beside.gateway.figures)
    assert found.numbers["fleetfeed_uplink_up"] == {"frames": 1}
    assert found.number("fleetfeed_uplink_items_paused") == 1
    assert {"up", "uplink/unacknowledged", "uplink/bytes"} <= dict(beside.gateway.leaves()).keys()
