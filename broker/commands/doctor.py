"""`fleetfeed doctor`: what is wrong with an installation, and what to do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.commands import shell
from broker.commands.shell import Code

if TYPE_CHECKING:
    from broker.run.findings import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    *,
    broker: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="FLEETFEED_BROKER",
            help="Of a gateway: its broker, as for fleetfeed gateway.",
            show_default="a server of its own",
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the broker's password, on its first line.",
            show_default="FLEETFEED_PASSWORD, or the URL's",
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With mqtts://, trust the authorities in this PEM file."),
    ] = None,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Examine an installation, running or not, and say what to do about what is wrong.

    Looks at the configuration, the data directory, its disk and store, the
    limit on open files, the clock, certificates, ports, Redis, a gateway's
    broker and versions. Run it as the server's user, with the server's
    configuration. Exits with 1 if something fails, 2 if that is the
    configuration; warnings alone are 0.
    """
    from broker.commands.gateway import address_of  # noqa: PLC0415 - only here
    from broker.run.doctor import examine  # noqa: PLC0415 - everything hangs on it
    from broker.run.findings import Level  # noqa: PLC0415 - likewise

    outside = None if broker is None else address_of(broker, password_file, ca)
    resolved = shell.resolved(config, {"data": data})
    found = examine(resolved, outside)
    if as_json:
        shell.print_json([_plain(each) for each in found])
    else:
        for each in found:
            _print(each)
    if resolved.config is None:
        raise typer.Exit(Code.INVALID)
    if any(each.level is Level.FAIL for each in found):
        raise typer.Exit(Code.FAILED)


def _plain(finding: "Finding") -> dict[str, str]:
    return {
        "subject": finding.subject,
        "level": finding.level.name.lower(),
        "said": finding.said,
        "advice": finding.advice,
    }


def _print(finding: "Finding") -> None:
    level = finding.level.name.lower()
    word = typer.style(f"{level:4}", _COLOURS[level])
    typer.echo(f"{word}  {finding.subject}: {finding.said}")
    if finding.advice:
        typer.echo(f"      {finding.advice}")
