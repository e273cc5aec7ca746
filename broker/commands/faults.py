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
    keep: Annotated[
        Path | None,
        typer.Option(help="Where to keep the data and the log of a server that broke a promise."),
    ] = None,
    as_json: shell.AsJson = False,
) -> None:
    """Kill, cut, delay, fill the disk, step the clock, and prove that every promise holds.

    Starts servers of its own on loopback, with devices and publishers, and lets one thing after the
    other go wrong. After each round every window is compared, and what was acknowledged must be there.
    The exit code is 1 if anything was lost, with the seed that does it again.
    """
    from broker.commands.fault_server import run  # noqa: PLC0415 - needs nearly everything
    from simulator.faults.plan import Kind  # noqa: PLC0415 - likewise

    if only is not None and only not in {kind.value for kind in Kind}:
        kinds = ", ".join(kind.value for kind in Kind)
        raise Failure(f"there is no fault {only!r}; there are {kinds}", Code.INVALID)
    chosen = None if only is None else Kind(only)
    code = run(rounds=rounds, seed=seed, devices=devices, only=chosen, keep=keep, as_json=as_json)
    raise typer.Exit(code)
