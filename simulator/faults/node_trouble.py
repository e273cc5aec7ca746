"""Faults of several nodes, of the Redis that they share, and of the way between."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from simulator.faults.plan import Kind
from simulator.faults.server import NODE_LEASE
from simulator.faults.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from simulator.faults.plan import Plan
    from simulator.faults.server import FleetUnderTest, NodeUnderTest
    from simulator.faults.trouble import Clients, Fault

_DOWN = 1.0
"""Seconds that a node or a Redis server stays down at most before it is started again."""
_BEYOND_LEASE = (1.05, 1.4)
"""Leases that a node stands still, or is cut off: the others surely count it as dead."""
_WITHIN_LEASE = (0.2, 0.5)
"""The same where they must not notice."""
_SHORT = 0.4
"""Share of freezes and partitions that end within the lease."""
_RACE_PACE = 0.01


class NodeTrouble(Trouble):
    """Faults of one round with several nodes.

    Args:
        plan: What goes wrong.
        clients: Of all nodes.
        fleet: The nodes and their Redis.
    """

    def __init__(self, plan: Plan, clients: Clients, fleet: FleetUnderTest) -> None:
        super().__init__(plan, clients)
        self._fleet = fleet
        self._redis = fleet.redis

    async def heal(self) -> None:
        """Until all of Redis is there."""
        await self._redis.well()

    def _faults(self) -> Mapping[Kind, Fault]:
        return {
            **super()._faults(),
            Kind.KILL: self._kill,
            Kind.TERM: self._term,
            Kind.ROLLING: self._roll,
            Kind.FREEZE: self._freeze,
            Kind.PARTITION: self._cut_off,
            Kind.REDIS_KILL: self._kill_redis,
            Kind.REDIS_OUTAGE: self._kill_all_redis,
            Kind.FAILOVER: self._fail_over,
            Kind.HANDOVER: self._hand_over,
            Kind.RACE: self._race,
        }

    # ---- Nodes

    def _any(self, rng: Random) -> tuple[int, NodeUnderTest]:
        place = rng.randrange(len(self._fleet.nodes))
        return place, self._fleet.nodes[place]

    async def _kill(self, rng: Random) -> None:
        place, node = self._any(rng)
        self._clients.struck(place)
        await node.kill()
        for publisher, _ in self._publishers:
            if rng.random() < 0.2:
                publisher.die()
        # Half of the time the others count it as dead before it is back.
        await asyncio.sleep(rng.choice((rng.random() * _DOWN, 1.2 * NODE_LEASE)))
        await node.start()

    async def _term(self, rng: Random) -> None:
        place, node = self._any(rng)
        self._clients.struck(place)
        await node.stop()
        await asyncio.sleep(rng.random() * _DOWN)
        await node.start()

    async def _roll(self, rng: Random) -> None:
        for place, node in rng.sample(list(enumerate(self._fleet.nodes)), len(self._fleet.nodes)):
            self._clients.struck(place)
            await node.stop()
            await node.start()

    async def _freeze(self, rng: Random) -> None:
        place, node = self._any(rng)
        self._clients.struck(place)
        with node.freeze():
            await asyncio.sleep(_around_lease(rng))

    async def _cut_off(self, rng: Random) -> None:
        place, node = self._any(rng)
        self._clients.struck(place)
        with node.cut_off():
            await asyncio.sleep(_around_lease(rng))

    # ---- Redis

    async def _kill_redis(self, rng: Random) -> None:
        self._clients.struck(None)
        await self._redis.kill(rng.randrange(self._redis.places))
        await self._redis.start_again()

    async def _kill_all_redis(self, rng: Random) -> None:
        self._clients.struck(None)
        await self._redis.kill_all()
        await asyncio.sleep(rng.random() * _DOWN)
        await self._redis.start_again()
        await self._redis.well()

    async def _fail_over(self, rng: Random) -> None:
        place = rng.randrange(self._redis.places)
        self._clients.struck(None)
        await self._redis.kill(place)
        await self._redis.promoted(place)
        await self._redis.start_again()
        await self._redis.well()

    async def _hand_over(self, rng: Random) -> None:
        self._clients.struck(None)
        await self._redis.fail_over(rng.randrange(self._redis.places))

    # ---- Items

    async def _race(self, rng: Random) -> None:
        """Two publishers say different things, or the same, of one item, each to another node."""
        until = time.monotonic() + 4 * self._plan.lasts
        while time.monotonic() < until:
            (one, source), (other, other_source) = rng.sample(list(self._publishers), 2)
            if one.ready and other.ready:
                key = source.contested(rng)
                first = source.about(key)
                same = rng.random() < 0.3
                second = first if same else other_source.about(key)
                one.publish(first)
                other.publish(second)
            await asyncio.sleep(2 * rng.random() * _RACE_PACE)


def _around_lease(rng: Random) -> float:
    """Seconds of a fault that the other nodes notice, or do not."""
    share = _WITHIN_LEASE if rng.random() < _SHORT else _BEYOND_LEASE
    return NODE_LEASE * rng.uniform(*share)
