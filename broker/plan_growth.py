"""What breaks first: a plan for the same fleet with one of its inputs many times as large."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from broker.plan import MOST, Plan, plan
from broker.plan_demand import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.plan_costs import Costs
    from broker.plan_demand import Demand, Site

GROWING = {
    "devices": "devices",
    "items_per_s": "items a second",
    "followers": "followers of an item",
    "requests_per_s": "device requests a second",
    "feedback_per_s": "feedback a second",
    "ttl": "time to live of items",
    "payload": "payload of an item",
}
"""What may grow, and how it is called."""
FACTORS = (2, 10, 100)
YEAR = 365.25 * 86_400
LITTLE = 0.1
"""A share of feedback that is learned from, below which it is worth a remark."""


@dataclass(frozen=True, slots=True)
class Grown:
    """The plan with one input `factor` times as large; None where that is no fleet."""

    what: str
    factor: int
    plan: Plan | None


def growth(demand: Demand, site: Site, costs: Costs) -> Iterator[Grown]:
    """Yield the plan for each input and factor; inputs that are 0 do not grow."""
    for what in GROWING:
        if getattr(demand, what):
            for factor in FACTORS:
                yield Grown(what, factor, _grown(demand, what, factor, site, costs))


def _grown(demand: Demand, what: str, factor: int, site: Site, costs: Costs) -> Plan | None:
    try:
        return plan(replace(demand, **{what: factor * getattr(demand, what)}), site, costs)
    except ValueError:  # more followers than devices, a payload that no item may have
        return None


def breaks(found: Plan) -> str:
    """Say in a few words what makes a plan impossible, or what asks for the most."""
    if found.nodes is None:
        short = next(need for need in found.needs if need.number is None)
        if short.resource == "CPU":
            return "no: CPU, every node reads every item"
        if short.resource == "memory":
            least = short.share * found.site.node_memory / found.site.target / GIB
            return f"no: memory, every node holds every item; over {least:.3g} GiB each"
        return f"no: {short.resource}, more than {MOST} nodes"
    if found.redis is not None and found.redis.masters is None:
        return f"no: {found.redis.why}"
    return found.binding if found.redis is None else f"{found.binding}; Redis {found.redis.binding}"


def remarks(found: Plan) -> list[str]:
    """Return what grows worse without making a plan impossible."""
    said = []
    if found.numbers_last < YEAR:
        said.append(f"item numbers last {found.numbers_last / 86_400:.0f} days")
    if found.learned < LITTLE:
        said.append(f"learns from {found.learned:.1%}")
    return said
