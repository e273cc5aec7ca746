"""The Redis masters of a plan: what nodes ask of them, in CPU, memory and bandwidth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from broker.plan_search import fewest, most_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.plan_costs import Costs
    from broker.plan_demand import Demand, Flow, Site

MOST_MASTERS = 500
"""Redis names about 1 000 nodes as the size of a cluster; each master has a replica here."""

READING, BEATING = "items read by nodes", "heartbeats of nodes"
"""What one master may have more of than others."""

Short = Literal["CPU", "memory", "bandwidth"]


@dataclass(frozen=True, slots=True)
class RedisNeed:
    """One resource of masters.

    Attributes:
        resource: What it is.
        masters: How many it asks for; None if no number is enough.
        share: Of what one master has, in use at the planned number; 1 is all.
    """

    resource: Short
    masters: int | None
    share: float


@dataclass(frozen=True, slots=True)
class RedisPlan:
    """What the store of the nodes needs, at the peak; every master has a replica besides.

    Attributes:
        masters: One is a single server, more are a cluster; None if no number is enough.
        needs: By resource.
        cpu: Seconds of CPU a second on all masters together, by what for.
        memory: Bytes of data on all masters together, items and devices.
        why: What no number of masters cures; empty if there is one that is enough.
    """

    masters: int | None
    needs: tuple[RedisNeed, ...]
    cpu: dict[str, float]
    memory: dict[str, float]
    why: str

    @property
    def binding(self) -> Short:
        """What asks for the most masters; of several the first."""

        def wanted(need: RedisNeed) -> tuple[float, float]:
            return need.masters or MOST_MASTERS + 1, need.share

        return max(self.needs, key=wanted).resource


def plan_redis(demand: Demand, flow: Flow, nodes: int, site: Site, costs: Costs) -> RedisPlan:
    """Compute the masters for as many nodes.

    Work and data spread evenly over masters by their keys, with two exceptions. Which nodes are alive is
    known to one master alone. And what nodes read of items is `Site.partitions` streams, which so many
    masters share at most. So of m masters the busiest one has all heartbeats, 1 / min(m, partitions) of
    what is read, and 1 / m of everything else.
    """
    cpu = cpu_of_redis(flow, nodes, costs)
    memory = memory_of_redis(demand, costs)
    sent = bytes_from_redis(flow, nodes, costs)
    beating: dict[Short, float] = {"CPU": cpu[BEATING], "memory": 0.0, "bandwidth": 0.0}
    reading: dict[Short, float] = {"CPU": cpu[READING], "memory": 0.0, "bandwidth": sent[0]}
    other: dict[Short, float] = {
        "CPU": sum(cpu.values()) - cpu[READING] - cpu[BEATING],
        "memory": sum(memory.values()),
        "bandwidth": sent[1],
    }
    has: dict[Short, float] = {
        "CPU": 1.0,
        "memory": site.redis_memory,
        "bandwidth": site.redis_bandwidth / 8,
    }

    def share(what: Short, masters: int) -> float:
        streams = reading[what] / min(masters, site.partitions)
        return (beating[what] + streams + other[what] / masters) / has[what]

    numbers: dict[Short, int | None] = {
        "CPU": fewest(lambda m: share("CPU", m), site.target, MOST_MASTERS),
        "memory": fewest(lambda m: share("memory", m), site.target, MOST_MASTERS),
        "bandwidth": fewest(lambda m: share("bandwidth", m), site.target, MOST_MASTERS),
    }
    masters = most_of(numbers.values())
    needs = tuple(
        RedisNeed(what, number, share(what, masters or MOST_MASTERS))
        for what, number in numbers.items()
    )
    return RedisPlan(masters, needs, cpu, memory, _why(numbers, beating, reading, has, site))


def _why(
    numbers: Mapping[Short, int | None],
    beating: Mapping[Short, float],
    reading: Mapping[Short, float],
    has: Mapping[Short, float],
    site: Site,
) -> str:
    """Say what no number of masters is enough for."""
    for what, number in numbers.items():
        room = site.target * has[what]
        if number is None and beating[what] > room / 2:
            return f"Redis {what}: heartbeats of all nodes go to one master"
        if number is None and reading[what] / site.partitions > room / 2:
            return f"Redis {what}: every node reads every item, from {site.partitions} partitions"
        if number is None:
            return f"Redis {what}: more than {MOST_MASTERS} masters"
    return ""


def cpu_of_redis(flow: Flow, nodes: int, costs: Costs) -> dict[str, float]:
    """Return the CPU seconds a second of all masters together: rate · cost; items are read by each node."""
    return {
        "items stored": flow.items * costs["redis_put_item"],
        READING: flow.items * nodes * costs["redis_read_item"],
        "devices claimed": flow.connects * costs["redis_claim"],
        "devices released": flow.connects * costs["redis_release"],
        "feedback": flow.feedback * costs["redis_feedback"],
        BEATING: nodes * costs["redis_node"],
    }


def memory_of_redis(demand: Demand, costs: Costs) -> dict[str, float]:
    """Return the bytes of all masters together: live items and all devices, away ones too."""
    item = costs["redis_item_bytes"] + demand.payload - 100
    return {
        "items": demand.live * max(item, 0.0),
        "devices": demand.devices * costs["redis_device_bytes"],
    }


def bytes_from_redis(flow: Flow, nodes: int, costs: Costs) -> tuple[float, float]:
    """Return the bytes a second that masters send: items that nodes read, and everything else."""
    return (
        flow.items * nodes * costs["redis_read_bytes"],
        flow.connects * costs["redis_claim_bytes"] + flow.feedback * costs["redis_feedback_bytes"],
    )


def traffic_of_a_node(demand: Demand, flow: Flow, n: int, costs: Costs) -> tuple[float, float]:
    """Return the bytes a second that one of `n` nodes sends to Redis, and reads from it."""
    sent = (
        flow.items * (costs["redis_read_bytes"] + demand.payload)
        + 2 * flow.connects * costs["redis_claim_bytes"]
        + flow.feedback * costs["redis_feedback_bytes"]
    )
    read, other = bytes_from_redis(flow, 1, costs)
    return sent / n, read + other / n
