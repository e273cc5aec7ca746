"""The command line: the composition root, which alone may import every package, and does so lazily.

Commands fail with `shell.Failure`: one sentence on stderr and an exit code (0 done, 1 failed,
2 wrong usage or configuration, 3 no server there). Nobody meets a traceback; who wants one sets
FLEETFEED_DEBUG=1.
"""

# typer reads annotations at run time, hence no `from __future__ import annotations`.

import os
import sys
from typing import Annotated

import typer

from broker.commands import (
    backup,
    broker_files,
    check_device,
    decisions,
    devices,
    doctor,
    evaluate,
    explain,
    faults,
    gateway,
    items,
    plan,
    ranking,
    receipts,
    server,
    settings,
    simulate,
    status,
    top,
    users,
)
from broker.commands.shell import Failure

_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""numpy reads these when it is imported. Its matrices here are small: several threads of them would
wait for each other, and for whoever else has the cores."""

app = typer.Typer(
    name="fleetfeed",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - only here

        typer.echo(f"fleetfeed {version('fleetfeed')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """A personal, ranked, always-current feed on every device of a fleet, pushed over MQTT."""


for _command in (
    server.serve,
    server.demo,
    gateway.gateway,
    broker_files.broker_files,
    faults.faults,
    simulate.simulate,
    simulate.compare,
    check_device.check_device,
    items.publish,
    items.replay,
    devices.watch,
    status.status,
    top.top,
    explain.explain,
    decisions.decisions,
    evaluate.evaluate,
    plan.plan,
    settings.check_config,
    backup.backup,
    backup.restore,
    doctor.doctor,
):
    app.command()(_command)
app.add_typer(devices.app, name="device")
app.add_typer(users.app, name="user")
app.add_typer(receipts.app, name="item")
app.add_typer(ranking.app, name="ranking")


def main() -> None:
    """Run the command line on `sys.argv` and exit."""
    for threads in _ONE_THREAD:
        os.environ.setdefault(threads, "1")
    try:
        app(prog_name="fleetfeed")
    except Failure as failure:
        typer.echo(f"fleetfeed: {failure}", err=True)
        sys.exit(failure.code)
    except Exception as error:
        if os.environ.get("FLEETFEED_DEBUG"):
            raise
        typer.echo(
            f"fleetfeed: a defect of fleetfeed, not of yours ({type(error).__name__}: {error}); "
            "FLEETFEED_DEBUG=1 shows where",
            err=True,
        )
        sys.exit(1)
