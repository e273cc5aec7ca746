"""Capacity on paper: how many nodes and Redis masters a fleet needs, from measured unit costs.

Everything is linear in rates but the cost of an item (`Costs.item`): seconds of CPU, bytes of memory and
bits per second are unit costs times how often, and a node or a master is full when one of them reaches
the target share of what it has. The number of nodes is the smallest at which none does. What a further
node does not make smaller, because every node has all of it, can make a plan impossible; such a need
has no number.

What is left out makes a plan larger than needed: items arrive one by one (together they cost less), and
every connected follower of an item gets a frame (in truth those whose window it enters).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from broker.plan_demand import Demand, Flow, Site
from broker.plan_nodes import busier_way, cpu_of_a_node, memory_of_a_node, traffic
from broker.plan_redis import RedisPlan, plan_redis
from broker.plan_search import fewest, most_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.plan_costs import Costs

MOST = 100_000
"""Nodes beyond which a plan is none."""
NUMBERS = 1 << 32
"""Item numbers that a fleet has; none is ever used again."""
Resource = Literal["CPU", "memory", "connections", "bandwidth"]


@dataclass(frozen=True, slots=True)
class Need:
    """One resource of nodes or masters.

    Attributes:
        resource: What it is.
        number: How many the resource alone asks for; None if no number is enough.
        share: Of what one has, in use at the planned number and the peak; 1 is all.
    """

    resource: Resource
    number: int | None
    share: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fleet needs, at its peak.

    Attributes:
        demand: What it was computed for.
        site: And on what.
        alone: Whether one process with its own SQLite store is enough.
        nodes: Server processes, one core each; None if no number is enough.
        needs: Of nodes, by resource.
        cpu: Seconds of CPU a second on one node at the peak, by what for.
        redis: The masters; None where no number of nodes is enough, or one process is.
        mean: Rates at the mean.
        peak: Rates at the peak.
        spike: Rates in the spike.
        out_bits: Bits a second to devices, at the peak, from all nodes.
        in_bits: Bits a second from devices and publishers, likewise.
        spike_share: CPU of one node in the spike, 1 is all of its core; above it, work waits.
        spike_nodes: Nodes at which nothing waits in the spike; None if no number is enough.
        learned: Share of feedback that the trainer learns from at the peak, weighted by its inverse.
        numbers_last: Seconds until item numbers are used up at the mean rate.
    """

    demand: Demand
    site: Site
    alone: bool
    nodes: int | None
    needs: tuple[Need, ...]
    cpu: dict[str, float]
    redis: RedisPlan | None
    mean: Flow
    peak: Flow
    spike: Flow
    out_bits: float
    in_bits: float
    spike_share: float
    spike_nodes: int | None
    learned: float
    numbers_last: float

    @property
    def binding(self) -> Resource:
        """What asks for the most nodes; of several the first."""
        return max(self.needs, key=_wanted).resource

    @property
    def possible(self) -> bool:
        """Whether some number of nodes and masters is enough."""
        return self.nodes is not None and (self.redis is None or self.redis.masters is not None)


def _wanted(need: Need) -> tuple[float, float]:
    return MOST + 1 if need.number is None else need.number, need.share


def plan(demand: Demand, site: Site, costs: Costs) -> Plan:
    """Compute what a fleet needs.

    Raises:
        CostError: A unit cost is missing.
    """
    peak, spike = demand.flow(demand.peak), demand.flow(demand.peak * demand.spike)
    alone = _fits_one_process(demand, peak, site, costs)
    uses: dict[Resource, Callable[[int], float]] = {
        "CPU": lambda n: sum(cpu_of_a_node(demand, peak, n, costs, alone=alone).values()),
        "memory": lambda n: memory_of_a_node(demand, n, costs, alone=alone) / site.node_memory,
        "connections": lambda n: demand.connections / n / site.node_connections,
        "bandwidth": lambda n: (
            busier_way(demand, peak, n, costs, alone=alone) / site.node_bandwidth
        ),
    }
    numbers = {name: fewest(use, site.target, MOST) for name, use in uses.items()}
    nodes = most_of(numbers.values())
    shown = nodes or MOST
    ways = traffic(demand, peak, costs)

    def in_the_spike(n: int) -> float:
        return sum(cpu_of_a_node(demand, spike, n, costs, alone=alone, flooded=True).values())

    return Plan(
        demand=demand,
        site=site,
        alone=alone,
        nodes=nodes,
        needs=tuple(Need(name, numbers[name], use(shown)) for name, use in uses.items()),
        cpu=cpu_of_a_node(demand, peak, shown, costs, alone=alone),
        redis=None if alone or nodes is None else plan_redis(demand, peak, nodes, site, costs),
        mean=demand.flow(1),
        peak=peak,
        spike=spike,
        out_bits=8 * ways[0],
        in_bits=8 * ways[1],
        spike_share=in_the_spike(shown),
        spike_nodes=fewest(in_the_spike, 1.0, MOST),
        learned=learned_share(peak, site, costs),
        numbers_last=NUMBERS / demand.items_per_s if demand.items_per_s else float("inf"),
    )


def _fits_one_process(demand: Demand, peak: Flow, site: Site, costs: Costs) -> bool:
    """Tell whether one process with SQLite stays within the target of everything that it has."""
    return (
        sum(cpu_of_a_node(demand, peak, 1, costs, alone=True).values()) <= site.target
        and memory_of_a_node(demand, 1, costs, alone=True) <= site.target * site.node_memory
        and demand.connections <= site.target * site.node_connections
        and busier_way(demand, peak, 1, costs, alone=True) <= site.target * site.node_bandwidth
    )


def learned_share(flow: Flow, site: Site, costs: Costs) -> float:
    """Return the share p of feedback that one trainer can learn from; each counts 1/p.

    The trainer may take `Site.trainer` of its core, and an event takes it `event_learned`.
    """
    wanted = flow.feedback * costs["event_learned"]
    return min(1.0, site.trainer / wanted) if wanted else 1.0
