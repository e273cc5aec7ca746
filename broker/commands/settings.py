"""`fleetfeed check-config`: what a server started now would use, and from where."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.commands import shell
from broker.commands.shell import Code

if TYPE_CHECKING:
    from broker.config_layers import Resolved


def check_config(
    file: Annotated[
        Path | None,
        typer.Argument(
            envvar="FLEETFEED_CONFIG", help="TOML file; without it the environment alone."
        ),
    ] = None,
    *,
    example: Annotated[
        bool, typer.Option("--example", help="Print a file with every setting explained.")
    ] = False,
    as_json: shell.AsJson = False,
) -> None:
    """Show the effective configuration, where each value comes from, and what is wrong with it."""
    if example:
        from broker.config_layers import example as explained  # noqa: PLC0415 - pydantic is slow

        typer.echo(explained(), nl=False)
        return
    found = shell.resolved(file, {})
    if as_json:
        result = {
            "valid": not found.problems,
            "settings": {
                name: {"value": value, "origin": origin.layer, "from": origin.name}
                for name, (value, origin) in found.values.items()
            },
            "problems": found.problems,
            "warnings": found.warnings,
        }
        # Paths, and dates that a file may hold by mistake, as text.
        typer.echo(json.dumps(result, default=str))
    else:
        _print_table(found)
    if found.problems:
        for problem in found.problems:
            typer.echo(f"fleetfeed: {problem}", err=True)
        raise typer.Exit(Code.INVALID)


def _print_table(found: "Resolved") -> None:
    from rich.table import Table  # noqa: PLC0415 - only when something is printed
    from rich.text import Text  # noqa: PLC0415 - likewise

    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for name, (value, origin) in found.values.items():
        style = "dim" if origin.layer == "default" else ""
        table.add_row(*(Text(cell, style) for cell in (name, _shown(value), str(origin))))
    console = shell.console()
    console.print(table)
    for warning in found.warnings:
        console.print(Text(f"Warning: {warning}"))
    if not found.problems:
        console.print("The configuration is valid.")


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple | list):
        return ", ".join(str(each) for each in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value) or "none"
