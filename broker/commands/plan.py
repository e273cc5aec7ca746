"""`fleetfeed plan`: how many nodes, how much Redis and which network a fleet needs, on paper."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.commands import shell
from broker.commands.shell import Code, Failure
from broker.plan_demand import GIB, Demand, Site

if TYPE_CHECKING:
    from rich.table import Table

    from broker.plan import Plan
    from broker.plan_costs import Costs
    from broker.plan_growth import Grown

_SUFFIXES = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9}
_CURVE = "item_qos1_to_0"
_SITE, _FLEET = "What it runs on", "The fleet"


def parse_number(text: str) -> float:
    """Read a number as people write large ones: 250, 12K, 1.5M, 1B."""
    scale = _SUFFIXES.get(text[-1:], 1.0)
    try:
        return float(text[:-1] if scale > 1 else text) * scale
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number; 250, 12K, 1.5M, 1B are") from None


def _number(metavar: str, told: str, panel: str = _FLEET) -> Any:
    return typer.Option(parser=parse_number, metavar=metavar, help=told, rich_help_panel=panel)


def plan(
    *,
    devices: Annotated[Any, _number("N", "Devices, connected or not; 100M is a number.")],
    items_per_s: Annotated[Any, _number("RATE", "Items published a second, mean of a day.")],
    followers: Annotated[Any, _number("N", "Devices that follow one item, on average.")],
    connected_share: Annotated[Any, _number("SHARE", "Of devices, connected at a time.")] = "0.1",
    requests_per_s: Annotated[
        Any, _number("RATE", "Device requests a second: connections and up messages.")
    ] = "0",
    connect_share: Annotated[Any, _number("SHARE", "Of requests, connections.")] = "0.3",
    feedback_per_s: Annotated[Any, _number("RATE", "Feedback events a second.")] = "0",
    peak_factor: Annotated[Any, _number("TIMES", "Rates at the peak, over the mean.")] = "3",
    spike_factor: Annotated[Any, _number("TIMES", "Rates in a spike, over the peak.")] = "10",
    ttl: Annotated[Any, _number("SECONDS", "An item lives.")] = "86400",
    payload: Annotated[Any, _number("BYTES", "Of an item.")] = "100",
    qos: Annotated[int, typer.Option(min=0, max=1, help="Of frames.", rich_help_panel=_FLEET)] = 1,
    keep_alive: Annotated[Any, _number("SECONDS", "Between pings of a device.")] = "300",
    tls: Annotated[
        bool, typer.Option("--tls", help="Devices connect by TLS.", rich_help_panel=_FLEET)
    ] = False,
    target: Annotated[Any, _number("SHARE", "Of everything, in use at the peak.", _SITE)] = "0.6",
    node_memory: Annotated[Any, _number("GIB", "For one node, a process.", _SITE)] = "4",
    node_connections: Annotated[Any, _number("N", "limits.max_connections.", _SITE)] = "50000",
    node_bandwidth: Annotated[Any, _number("MBIT/S", "Of one node, each way.", _SITE)] = "1000",
    redis_memory: Annotated[Any, _number("GIB", "For data of one master.", _SITE)] = "16",
    redis_bandwidth: Annotated[Any, _number("MBIT/S", "Of one master.", _SITE)] = "10000",
    costs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Unit costs that benchmarks/costs.py measured on your own machine.",
            show_default="those of this release",
            rich_help_panel=_SITE,
        ),
    ] = None,
    growth: Annotated[
        bool, typer.Option("--growth/--no-growth", help="Say what breaks first as inputs grow.")
    ] = True,
    as_json: shell.AsJson = False,
) -> None:
    """Plan a fleet: nodes, Redis and network, from measured unit costs, and what breaks first.

    A node is one server process, which uses one core. Rates are means of a day;
    the plan is for the peak, with headroom, and says what a spike does to it.
    """
    from broker.plan import plan as computed  # noqa: PLC0415 - only here
    from broker.plan_costs import CostError  # noqa: PLC0415 - likewise
    from broker.plan_growth import growth as grown  # noqa: PLC0415 - likewise

    try:
        demand = Demand(
            devices=int(devices),
            items_per_s=items_per_s,
            followers=followers,
            connected=connected_share,
            requests_per_s=requests_per_s,
            connects=connect_share,
            feedback_per_s=feedback_per_s,
            peak=peak_factor,
            spike=spike_factor,
            ttl=ttl,
            payload=int(payload),
            qos=qos,
            keep_alive=keep_alive,
            tls=tls,
        )
        site = Site(
            target=target,
            node_memory=node_memory * GIB,
            node_connections=int(node_connections),
            node_bandwidth=node_bandwidth * 1e6,
            redis_memory=redis_memory * GIB,
            redis_bandwidth=redis_bandwidth * 1e6,
        )
        measured = _costs(costs)
        found = computed(demand, site, measured)
        larger = list(grown(demand, site, measured)) if growth else []
    except CostError as error:
        raise Failure(str(error), Code.INVALID) from error
    except ValueError as error:
        raise Failure(f"there is no such fleet: {error}", Code.INVALID) from error
    if as_json:
        shell.print_json(_as_json(found, larger, measured))
        return
    _print_plan(found)
    _print_sentences(found, measured)
    if larger:
        _print_growth(larger)


def _costs(file: Path | None) -> "Costs":
    from broker.plan_costs import load, parse  # noqa: PLC0415 - only here

    if file is None:
        return load()
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"--costs {file}: {error}", Code.INVALID) from error


def _as_json(found: "Plan", larger: "Iterable[Grown]", measured: "Costs") -> dict[str, Any]:
    """Return everything that the tables say; infinite times are null."""
    from broker.plan_growth import breaks, remarks  # noqa: PLC0415 - only here

    plain = asdict(found)
    plain["binding"], plain["possible"] = found.binding, found.possible
    if found.numbers_last == float("inf"):
        plain["numbers_last"] = None
    plain["growth"] = [
        {
            "what": each.what,
            "factor": each.factor,
            "nodes": each.plan and each.plan.nodes,
            "masters": each.plan and each.plan.redis and each.plan.redis.masters,
            "breaks": each.plan and breaks(each.plan),
            "remarks": each.plan and remarks(each.plan),
        }
        for each in larger
    ]
    plain["costs_of"] = {"machine": measured.machine, "date": measured.entries[_CURVE].date}
    return plain


# ---- Tables


def _table(*columns: str) -> "Table":
    from rich import box  # noqa: PLC0415 - only when something is printed
    from rich.table import Table  # noqa: PLC0415 - likewise

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at else "left", no_wrap=True)
    return table


def _print_plan(found: "Plan") -> None:
    console = shell.console()
    demand = found.demand
    console.print(
        f"[bold]{_count(demand.devices)} devices[/], {_count(demand.connections)} connected; "
        f"{_count(demand.live)} live items of {demand.payload} bytes"
    )
    rates = _table("a second", "mean", "peak", "spike")
    for name, told in (
        ("items", "items"),
        ("pushes", f"frames, QoS {demand.qos}"),
        ("connects", "connections with a snapshot"),
        ("ups", "up messages"),
        ("feedback", "feedback events"),
        ("pings", "pings"),
    ):
        each = (getattr(flow, name) for flow in (found.mean, found.peak, found.spike))
        rates.add_row(told, *map(_rate, each))
    console.print(rates)
    _print_nodes(found)
    if found.redis is not None:
        _print_redis(found)


def _print_nodes(found: "Plan") -> None:
    console = shell.console()
    if found.alone:
        console.print("[bold]1 process[/], with its own SQLite store; Redis is not needed")
    elif found.nodes is None:
        console.print("[bold red]No number of nodes is enough[/]")
    else:
        console.print(f"[bold]{_count(found.nodes)} nodes[/], one core each")
    has = {
        "CPU": "1 core",
        "memory": _size(found.site.node_memory),
        "connections": _count(found.site.node_connections),
        "bandwidth": _bits(found.site.node_bandwidth),
    }
    table = _table("of one node, at the peak", "in use", "of", "nodes needed", "")
    for need in found.needs:
        mark = "[yellow]◀ binds[/]" if need.resource == found.binding else ""
        needed = "[red]no number[/]" if need.number is None else _count(need.number)
        table.add_row(need.resource, f"{need.share:.1%}", has[need.resource], needed, mark)
    console.print(table)
    console.print(_parts("CPU", found.cpu))


def _print_redis(found: "Plan") -> None:
    console, redis = shell.console(), found.redis
    assert redis is not None
    if redis.masters is None:
        console.print(f"\n[bold red]No number of Redis masters is enough[/]: {redis.why}")
    else:
        many = "1 Redis server" if redis.masters == 1 else f"{redis.masters} Redis masters"
        console.print(f"\n[bold]{many}[/], a replica for each")
    has = {
        "CPU": "1 core",
        "memory": _size(found.site.redis_memory),
        "bandwidth": _bits(found.site.redis_bandwidth),
    }
    table = _table("of one master, at the peak", "in use", "of", "masters needed", "")
    for need in redis.needs:
        mark = "[yellow]◀ binds[/]" if need.resource == redis.binding else ""
        needed = "[red]no number[/]" if need.masters is None else _count(need.masters)
        table.add_row(need.resource, f"{need.share:.1%}", has[need.resource], needed, mark)
    console.print(table)
    console.print(_parts("CPU", redis.cpu))
    memory = ", ".join(f"{name} {_size(size)}" for name, size in redis.memory.items())
    console.print(f"  memory: {memory}")


def _parts(what: str, parts: Mapping[str, float]) -> str:
    """Say what a sum is made of, the largest part first; what is less than half a percent of it is not."""
    whole = sum(parts.values()) or 1.0
    shown = sorted(parts.items(), key=lambda part: -part[1])
    told = ", ".join(f"{name} {part / whole:.0%}" for name, part in shown if part / whole >= 0.005)
    return f"  {what}: {told}"


def _print_sentences(found: "Plan", measured: "Costs") -> None:
    out, into = _bits(found.out_bits), _bits(found.in_bits)
    said = [f"Network, all nodes, at the peak: {out} to devices, {into} from them."]
    if found.spike_nodes is None:
        more = "no number of nodes works it all off at once"
    elif found.spike_share <= 1:
        more = "nothing waits"
    else:
        more = f"work waits, urgent items first; {_count(found.spike_nodes)} nodes would not let it"
    said.append(f"Spike: {found.spike_share:.0%} of a node's CPU, items taken in batches: {more}.")
    if found.demand.feedback_per_s:
        all_of_it = "all feedback" if found.learned == 1 else f"{found.learned:.1%} of feedback"
        said.append(f"Trainer: learns from {all_of_it} at the peak.")
    if found.demand.items_per_s:
        said.append(f"Item numbers: last {_time(found.numbers_last)} at the mean rate.")
    entry = measured.entries[_CURVE]
    python, kernel = (measured.machine.get(name, "?") for name in ("python", "kernel"))
    said.append(f"Unit costs: {entry.date}, Python {python}, Linux {kernel}.")
    console = shell.console()
    console.print()
    for sentence in said:
        console.print(sentence)


def _print_growth(larger: "Iterable[Grown]") -> None:
    from broker.plan_growth import GROWING, breaks, remarks  # noqa: PLC0415 - only here

    table = _table("if this grows", "", "nodes", "masters")
    table.add_column("what binds, or breaks")
    name = ""
    for each in larger:
        told = GROWING[each.what] if each.what != name else ""
        name = each.what
        if each.plan is None:
            table.add_row(told, f"x{each.factor}", "-", "-", "no such fleet")
            continue
        redis = each.plan.redis
        nodes = "-" if each.plan.nodes is None else _count(each.plan.nodes)
        masters = "-" if redis is None or redis.masters is None else _count(redis.masters)
        why = "; ".join([breaks(each.plan), *remarks(each.plan)])
        style = None if each.plan.possible else "red"
        table.add_row(told, f"x{each.factor}", nodes, masters, why, style=style)
    shell.console().print("\n[bold]What breaks first[/]")
    shell.console().print(table)


# ---- Numbers


def _count(number: float) -> str:
    """Write a count with a space between thousands, as the documentation does."""
    return f"{number:,.0f}".replace(",", " ")


def _rate(rate: float) -> str:
    return _count(rate) if rate >= 10 or rate == 0 else f"{rate:.2g}"


def _scaled(value: float, units: Mapping[str, float]) -> str:
    for unit, size in units.items():
        if value >= size:
            return f"{value / size:.3g} {unit}"
    unit = list(units)[-1]
    return f"{value / units[unit]:.2g} {unit}"


def _size(octets: float) -> str:
    return _scaled(octets, {"TiB": 2.0**40, "GiB": 2.0**30, "MiB": 2.0**20, "KiB": 2.0**10})


def _bits(rate: float) -> str:
    return _scaled(rate, {"Tbit/s": 1e12, "Gbit/s": 1e9, "Mbit/s": 1e6, "kbit/s": 1e3})


def _time(seconds: float) -> str:
    return _scaled(seconds, {"years": 365.25 * 86_400, "days": 86_400.0, "hours": 3600.0})
