"""`fleetfeed check-config`: what a server started now would use, from where, and how safe that is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.commands import shell
from broker.commands.shell import Code

if TYPE_CHECKING:
    from broker.config import Config
    from broker.config_layers import Resolved
    from broker.insecurities import Insecurity


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
    production: Annotated[
        bool,
        typer.Option("--production", help="Fail over whatever leaves the door open, too."),
    ] = False,
    as_json: shell.AsJson = False,
) -> None:
    """Show the effective configuration, where each value comes from, and what is wrong with it.

    Files that it names are tried, as this user may read them. What is valid
    and yet insecure is named with the setting; --production makes that a
    failure.
    """
    if example:
        from broker.config_layers import example as explained  # noqa: PLC0415 - pydantic is slow

        typer.echo(explained(), nl=False)
        return
    found = shell.resolved(file, {})
    problems = found.problems
    insecure: tuple[Insecurity, ...] = ()
    if found.config is not None:
        from broker.insecurities import insecurities  # noqa: PLC0415 - pydantic is slow

        problems = _unusable_files(found.config)
        insecure = insecurities(found.config)
    if as_json:
        _print_json(found, problems, insecure)
    else:
        _print_table(found, problems, () if production else insecure)
    for problem in problems:
        typer.echo(f"fleetfeed: {problem}", err=True)
    if production:
        for each in insecure:
            typer.echo(f"fleetfeed: not for production: {each}", err=True)
    if problems or (production and insecure):
        raise typer.Exit(Code.INVALID)


def _unusable_files(config: "Config") -> tuple[str, ...]:
    """Say which certificates, keys and tokens the server could not start with."""
    from broker.access.tls import server_context  # noqa: PLC0415 - only where there is a configuration
    from broker.config_layers import InvalidConfig  # noqa: PLC0415 - pydantic is slow

    problems: list[str] = []
    try:
        if config.tls.bind is not None:
            server_context(config.tls)
    except InvalidConfig as error:
        problems += error.problems
    try:
        if config.token.key is not None:
            from broker.access.tokens import TokenVerifier  # noqa: PLC0415 - few need cryptography

            TokenVerifier(config.token)
    except InvalidConfig as error:
        problems += error.problems
    try:
        if config.http.enabled:
            from broker.web.opening import require  # noqa: PLC0415 - few have that port

            require(config.http)
    except InvalidConfig as error:
        problems += error.problems
    if config.store.url is not None:
        from broker.cluster.stores import shared_store  # noqa: PLC0415 - only nodes need its client
        from feedgen.store.base import StoreError  # noqa: PLC0415 - likewise

        try:
            shared_store(config.store)
        except StoreError as error:
            problems.append(f"store.url: {error}")
    return tuple(problems)


def _print_json(
    found: "Resolved", problems: tuple[str, ...], insecure: "tuple[Insecurity, ...]"
) -> None:
    result = {
        "valid": not problems,
        "settings": {
            name: {"value": value, "origin": origin.layer, "from": origin.name}
            for name, (value, origin) in found.values.items()
        },
        "problems": problems,
        "warnings": found.warnings,
        "insecure": [
            {"setting": each.setting, "value": each.value, "advice": each.advice}
            for each in insecure
        ],
    }
    # Paths, and dates that a file may hold by mistake, as text.
    typer.echo(json.dumps(result, default=str))


def _print_table(
    found: "Resolved", problems: tuple[str, ...], insecure: "tuple[Insecurity, ...]"
) -> None:
    from rich.table import Table  # noqa: PLC0415 - only when something is printed
    from rich.text import Text  # noqa: PLC0415 - likewise

    table = Table("setting", "value", "from", box=None, pad_edge=False)
    for name, (value, origin) in found.values.items():
        style = "dim" if origin.layer == "default" else ""
        table.add_row(*(Text(cell, style) for cell in (name, _shown(value), str(origin))))
    shell.console().print(table)
    for each in insecure:  # all that the server would warn of in its log is among these
        typer.echo(f"Insecure: {each}")
    if not problems:
        typer.echo("The configuration is valid.")


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple | list):
        return ", ".join(str(each) for each in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value) or "none"
