"""`fleetfeed simulate` and `fleetfeed compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.commands import shell
from broker.commands.shell import Code, Failure

if TYPE_CHECKING:
    from simulator.results import Result


def simulate(
    scenario: Annotated[
        str | None,
        typer.Argument(
            help="A scenario by name (see --list), or a .toml file.", show_default=False
        ),
    ] = None,
    *,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the scenarios that come along.")
    ] = False,
    devices: Annotated[
        int | None,
        typer.Option(min=1, max=50_000, help="How many.", show_default="as in the scenario"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=5,
            max=86_400,
            help="How long all phases take together.",
            show_default="as in the scenario",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of everything drawn.", show_default="as in the scenario"),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="What is there already, like mqtt://127.0.0.1:1883 or mqtts://user@feed.example.com, in place of a "
            "server of its own. Publishers log in as the user, and devices without credentials of their own.",
            show_default="a server of its own",
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With mqtts://, trust the authorities in this PEM file alone.",
            show_default="those that this machine trusts",
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --target: file with the user's password, on its first line.",
            show_default="FLEETFEED_PASSWORD, or the URL's",
        ),
    ] = None,
    credentials: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="With --target: secrets of devices, as fleetfeed device import writes them with --secrets; each device "
            "in it logs in as itself.",
            show_default="devices log in as the user",
        ),
    ] = None,
    print_devices: Annotated[
        bool,
        typer.Option(
            "--print-devices",
            help="Only print the devices as CSV for fleetfeed device import, to make --credentials with.",
        ),
    ] = False,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway", help="With --target: an outside broker with a gateway beside it."
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="With --target: data directory of that server or gateway, to ask what devices should show.",
            show_default="it is not asked, and G1 to G3 are not judged",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The report.", show_default="NAME.html in this directory"
        ),
    ] = None,
    as_json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            metavar="FILE",
            help="The same as figures.",
            show_default="NAME.json in this directory",
        ),
    ] = None,
) -> None:
    """Run a scenario with thousands of devices over real MQTT, judge it, and write a report.

    Checks the guarantees G1 to G6 and what the scenario expects. The exit code
    is 1 if anything was not kept. Ctrl-C ends it and writes what was measured.

    A password in --target can be seen by other users of this machine;
    --password-file and FLEETFEED_PASSWORD cannot.
    """
    if list_:
        _print_list()
        return
    if scenario is None:
        raise Failure(
            "which scenario? --list shows those that come along, or give a .toml file", Code.INVALID
        )
    if target is None and (gateway or data):
        raise Failure("--gateway and --data belong to --target", Code.INVALID)
    if target is None and (ca or password_file or credentials):
        raise Failure("--ca, --password-file and --credentials belong to --target", Code.INVALID)
    from broker.commands import simulate_server  # noqa: PLC0415 - needs nearly everything
    from broker.commands.simulate_target import target_of  # noqa: PLC0415 - likewise

    if print_devices:
        typer.echo(simulate_server.table(scenario, devices=devices, seed=seed), nl=False)
        return
    there = None
    if target is not None:
        there = target_of(
            target,
            ca=ca,
            password_file=password_file,
            credentials=credentials,
            gateway=gateway,
            data=data,
        )
    code = simulate_server.run(
        scenario,
        devices=devices,
        seconds=seconds,
        seed=seed,
        target=there,
        html=html,
        as_json=as_json,
    )
    raise typer.Exit(code)


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="Figures of a simulation.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Figures of another.")],
    *,
    html: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path("compare.html"),
) -> None:
    """Set two simulations side by side: the same charts, and which differences are more than noise."""
    from simulator.report import compare as drawn  # noqa: PLC0415 - matplotlib is slow to import

    text = drawn(_read(before), _read(after))
    try:
        html.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{html} cannot be written: {error.strerror or error}") from error
    typer.echo(f"comparison: {html}")


def _read(file: Path) -> "Result":
    from simulator.report import BadReport, from_json  # noqa: PLC0415 - not for --help

    try:
        return from_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror or error}", Code.INVALID) from None
    except (BadReport, UnicodeDecodeError) as error:
        raise Failure(f"{file}: {error}", Code.INVALID) from None


def _print_list() -> None:
    from rich.table import Table  # noqa: PLC0415 - only when something is printed

    from simulator.scenario.loading import shipped  # noqa: PLC0415 - pydantic is slow to import

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 1, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, about in shipped().items():
        table.add_row(name, about)
    shell.console().print(table)
