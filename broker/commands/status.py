"""`fleetfeed status`: how a running server is, and what happened since it started."""

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from broker.commands import shell
from broker.commands.asking import ask
from broker.commands.ranking import RUNGS

# The groups in the order in which a message passes them, losses last. They and the counts in them are
# called as in the server: documentation and JSON use the same names.
_GROUPS = {
    "connections": "of clients",
    "items": "from publishers",
    "up": "from devices",
    "frames": "to devices",
    "topics": "all other topics",
    "engine": "windows",
    "ranking": "what it learned",
    "rejected": "refused items",
    "dropped": "not carried out",
    "closed": "by the server",
}
_DEVICES = {
    "total": "known",
    "with_row": "with a window",
    "subscribed": "subscribed",
    "stalled": "stalled",
}
_NOT_READ = {
    "publishers_over_budget": "over the budget of a publisher",
    "publishers_choked": "they send most, and the server is overloaded",
    "devices_over_budget": "over the budget of what a device may say",
}
_NAMED = 5
_LOSSES = frozenset({"rejected", "dropped", "closed"})


def status(
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Show how the running server is: what it has now, and each count since its start that is not 0."""
    result = ask(data, config, "status")
    if as_json:
        shell.print_json(result)
        return
    _print_present(result)
    _print_counts({**result["counters"], "engine": result["engine"]})


def _print_present(result: Mapping[str, Any]) -> None:
    from rich.table import Table  # noqa: PLC0415 - only when something is printed
    from rich.text import Text  # noqa: PLC0415 - likewise

    devices, store = result["devices"], result["store"]
    table = Table(box=None, show_header=False, pad_edge=False)
    ports = [
        f"{each['host']}:{each['port']}" + (" with TLS" if each.get("tls") else "")
        for each in result["listening"]
    ]
    if ports:
        table.add_row("listening on", ", ".join(ports))
        table.add_row("connections", _number(result["connections"]))
    else:
        table.add_row("gateway", "clients are connected to its broker")
    parts = [f"{_number(devices[key])} {said}" for key, said in _DEVICES.items() if devices[key]]
    table.add_row("devices", ", ".join(parts) or "0")
    table.add_row("items", _number(result["items"]))
    state = Text("up") if store["up"] else Text("DOWN: no item is acknowledged", "bold red")
    if store["pending"]:
        state.append(f", {_number(store['pending'])} changes waiting")
    if store.get("fault"):
        state.append(f" ({store['fault']})")
    table.add_row("store", state)
    if store.get("durability"):
        table.add_row("", store["durability"])
    if (cluster := result.get("cluster")) is not None:
        others = _others(cluster)
        beside = f"beside {', '.join(others)}" if others else "the only one"
        table.add_row(
            "node", f"{cluster['node']}, {beside}; holds {_number(cluster['held'])} devices"
        )
    for name, said in _pressed(result.get("overload", {}), result.get("budgets", {})):
        table.add_row(name, Text(said, "yellow"))
    ranking = result["ranking"]
    table.add_row("ranked by", RUNGS[ranking.get("rung", ranking["model"])])
    shell.console().print(table)


def _pressed(overload: Mapping[str, Any], budgets: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """What is given up or put off for overload, budgets and quiet hours; nothing where nothing is."""
    if overload.get("level"):
        held = overload["items_held"]
        waits = f"; {_number(held)} items held" if held else ""
        yield "overload", f"level {overload['level']}, {overload['name']}{waits}"
    for key, why in _NOT_READ.items():
        if names := [shell.readable(each) for each in overload.get(key, ())]:
            yield "not read", f"{', '.join(names)}: {why}"
    if waiting := overload.get("connects_waiting"):
        yield "let in soon", f"{_number(waiting)} clients wait for it"
    if put_off := budgets.get("devices_waiting"):
        yield "put off", f"changes of {_number(put_off)} devices, by budget or quiet hours"


def _others(cluster: Mapping[str, Any]) -> list[str]:
    """The other nodes, the first few by name."""
    names = [name for name in cluster["members"] if name != cluster["node"]]
    return names if len(names) <= _NAMED else [*names[:_NAMED], f"{len(names) - _NAMED} more"]


def _print_counts(counters: Mapping[str, Mapping[str, int]]) -> None:
    """Print the counts by group, the largest of each first; groups that this command does not know last."""
    from rich.table import Table  # noqa: PLC0415 - only when something is printed
    from rich.text import Text  # noqa: PLC0415 - likewise

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    for group in (*_GROUPS, *sorted(counters.keys() - _GROUPS)):
        counts = counters.get(group, {})
        name, meaning = group, _GROUPS.get(group, "")
        style = "yellow" if group in _LOSSES else ""
        for each, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            if count:
                table.add_row(
                    Text(name, style), each, Text(_number(count), style), Text(meaning, "dim")
                )
                name = meaning = ""
    typer.echo(
        "\nSince its start:" if table.row_count else "\nNothing has happened since its start."
    )
    if table.row_count:
        shell.console().print(table)


def _number(count: int) -> str:
    """Write a count with a space between thousands, as the documentation does."""
    return f"{count:,}".replace(",", " ")
