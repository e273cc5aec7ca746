"""What a season takes place at: one server, or several nodes; who connects to where, and what can go wrong."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from math import inf
from typing import TYPE_CHECKING, Protocol

from simulator.facts import ServerClock
from simulator.faults.node_trouble import NodeTrouble
from simulator.faults.plan import Kind
from simulator.faults.route import Route
from simulator.faults.server import CLOCK_LAG
from simulator.faults.server_trouble import ServerTrouble
from simulator.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.faults.plan import Plan
    from simulator.faults.server import FleetUnderTest, ServerUnderTest, UnderTest
    from simulator.faults.trouble import Clients, Trouble

_NOWHERE = ("127.0.0.1", 0)
_DEVICES_PER_NODE = 2
_IMPATIENCE = 2.0
"""Seconds without news after which a healthy client tries another node: a keep-alive of so much."""


class Site(Protocol):
    """See the module.

    Attributes:
        clock: What the wall clock of servers says.
        places: How many servers clients can choose from.
        healthy: How many healthy devices there are, and as many publishers as places.
        impatience: Seconds without news after which a healthy client connects anew.
        hellos_unheard: How many hellos of a device in a row may be lost.
    """

    clock: ServerClock
    places: int
    healthy: int
    impatience: float
    hellos_unheard: int

    @property
    def server(self) -> UnderTest:
        """What clients connect to."""

    @property
    def proxies(self) -> Sequence[Proxy]:
        """Before half of the clients."""

    def route(self, first: int, *, far: bool) -> Route:
        """Of a client that begins at a place; far ones go through a proxy."""

    def trouble(self, plan: Plan, clients: Clients) -> Trouble:
        """What happens in a round."""

    async def prepare(self, plan: Plan) -> None:
        """Makes ready what a round needs, before anything goes wrong."""

    async def open(self, stack: AsyncExitStack) -> None:
        """Starts everything; the stack ends it."""


class ServerSite:
    """One server on one data directory; see `Site`.

    Args:
        server: Not started.
        seed: Of what the network does.
    """

    def __init__(self, server: ServerUnderTest, seed: int) -> None:
        self.server = server
        self.clock = ServerClock(CLOCK_LAG)
        self.proxies = [Proxy(_NOWHERE, seed)]
        self.places = 1
        self.healthy = 1
        self.impatience = inf
        self.hellos_unheard = 4

    def route(self, first: int, *, far: bool) -> Route:
        """Always to the one server."""
        proxy = self.proxies[0]
        return Route([(lambda: proxy.address) if far else (lambda: self.server.address)], first)

    def trouble(self, plan: Plan, clients: Clients) -> Trouble:
        """Everything that can happen to one server."""
        return ServerTrouble(plan, clients, self.server, self.clock)

    async def prepare(self, plan: Plan) -> None:
        """Starts the server anew with a clock that can be set, or with the true one.

        Only where it is needed: the library that fakes the clock also slows down how threads wait for each other.
        """
        wanted = Kind.CLOCK in plan.kinds
        if wanted != self.server.fakes_clock:
            await self.server.stop()
            now = time.time()
            self.clock.step(0.0, now)
            self.clock.restart(now)
            self.server.fake_clock(wanted)
            await self.server.start()

    async def open(self, stack: AsyncExitStack) -> None:
        """Starts the server."""
        stack.push_async_callback(self.server.close)
        await self.server.start()
        self.proxies[0].target = self.server.address
        await stack.enter_async_context(self.proxies[0])


class NodeSite:
    """Several nodes over one Redis; see `Site`.

    Args:
        fleet: Not started.
        seed: Of what the network does.
    """

    def __init__(self, fleet: FleetUnderTest, seed: int) -> None:
        self.server = fleet
        self.clock = ServerClock(0.0)
        self.proxies = [Proxy(node.address, seed + place) for place, node in enumerate(fleet.nodes)]
        self.places = len(fleet.nodes)
        self.healthy = _DEVICES_PER_NODE * self.places
        self.impatience = _IMPATIENCE
        self.hellos_unheard = 64  # all that are said to a node that is cut off

    def route(self, first: int, *, far: bool) -> Route:
        """To one node after the other."""
        addresses = [
            (lambda proxy=proxy: proxy.address) if far else (lambda node=node: node.address)
            for node, proxy in zip(self.server.nodes, self.proxies, strict=True)
        ]
        return Route(addresses, first)

    def trouble(self, plan: Plan, clients: Clients) -> Trouble:
        """Everything that can happen to nodes and their Redis."""
        return NodeTrouble(plan, clients, self.server)

    async def prepare(self, plan: Plan) -> None:
        """All nodes are there."""

    async def open(self, stack: AsyncExitStack) -> None:
        """Starts Redis and the nodes."""
        stack.push_async_callback(self.server.close)
        await self.server.start()
        for proxy in self.proxies:
            await stack.enter_async_context(proxy)
