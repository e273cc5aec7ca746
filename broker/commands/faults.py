"""`fleetfeed faults`."""

from pathlib import Path
from typing import Annotated

import typer

from broker.commands import shell
from broker.commands.shell import Code, Failure


def faults(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds of trouble.")] = 50,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the first round; the next have the next seeds.")
    ] = 1,
    devices: Annotated[
        int, typer.Option(min=2, max=500, help="How many devices go through it.")
    ] = 30,
    only: Annotated[
        str | None, typer.Option(metavar="KIND", help="One kind of fault, like kill or slicer.")
    ] = None,
    nodes: Annotated[
        int,
        typer.Option(
            min=0,
            max=9,
            metavar="N",
            help="So many nodes over a Redis Cluster of three masters and their replicas.",
            show_default="one server alone",
        ),
    ] = 0,
    redis: Annotated[
        str,
        typer.Option(
            metavar="HOW", help="With --nodes: how Redis keeps its data, always, everysec or none."
        ),
    ] = "always",
    wait: Annotated[
        int, typer.Option(min=0, max=1, help="With --nodes: replicas that must have a change.")
    ] = 1,
    losses: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Instead: kill N Redis masters under every setting, and count what was lost.",
            show_default="none",
        ),
    ] = 0,
    keep: Annotated[
        Path | None,
        typer.Option(help="Where to keep the data and the log of a server that broke a promise."),
    ] = None,
    as_json: shell.AsJson = False,
) -> None:
    """Kill, cut, delay, fill the disk, step the clock, and prove that every promise holds.

    Starts servers of its own on loopback, with devices and publishers, and lets one thing after the
    other go wrong. With --nodes those are several over a Redis Cluster, which fails, too. After each round every window is compared, and what was acknowledged must be there.
    The exit code is 1 if anything was lost, with the seed that does it again.
    """
    if losses:
        from broker.commands import fault_losses  # noqa: PLC0415 - needs nearly everything

        raise typer.Exit(fault_losses.run(kills=losses, as_json=as_json))
    from simulator.faults.plan import AT_NODES, AT_ONE_SERVER, Kind  # noqa: PLC0415 - not for --help

    possible = AT_NODES if nodes else AT_ONE_SERVER
    if only is not None and only not in {kind.value for kind in possible}:
        kinds = ", ".join(kind.value for kind in possible)
        raise Failure(f"there is no fault {only!r} here; there are {kinds}", Code.INVALID)
    chosen = None if only is None else Kind(only)
    if nodes:
        from broker.commands import fault_nodes  # noqa: PLC0415 - needs nearly everything

        if redis not in fault_nodes.DURABILITY:
            raise Failure(
                f"--redis is one of {', '.join(fault_nodes.DURABILITY)}, not {redis!r}",
                Code.INVALID,
            )
        code = fault_nodes.run(
            nodes=nodes,
            rounds=rounds,
            seed=seed,
            devices=devices,
            only=chosen,
            keep=keep,
            as_json=as_json,
            redis=redis,
            wait=wait,
        )
    else:
        from broker.commands import fault_server  # noqa: PLC0415 - needs nearly everything

        code = fault_server.run(
            rounds=rounds, seed=seed, devices=devices, only=chosen, keep=keep, as_json=as_json
        )
    raise typer.Exit(code)
