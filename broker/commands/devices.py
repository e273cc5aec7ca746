"""`fleetfeed device …` and `fleetfeed watch`: who the devices are and what they see."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.commands import shell
from broker.commands.shell import Code, Failure

if TYPE_CHECKING:
    from broker.config import Config

app = typer.Typer(
    no_args_is_help=True,
    help="Add, show and change devices: in the running server, or in its data if none runs.",
)

Device = Annotated[str, typer.Argument(help="The device's id.")]
Filters = Annotated[list[str] | None, typer.Option(metavar="FILTER", help="Repeatable.")]


@app.command()
def add(
    device: Device,
    *,
    follow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILTER",
            help="What it follows, like alerts/+/ca; repeatable.",
            show_default="the server's default_follow",
        ),
    ] = None,
    attr: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An attribute that it cannot change itself; repeatable. Whole numbers are numbers.",
        ),
    ] = None,
    secret: Annotated[
        bool, typer.Option("--secret/--no-secret", help="Make a password for it.")
    ] = True,
    publish: Annotated[bool, typer.Option("--publish", help="It may publish items too.")] = False,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Add a device and print its password, which is shown only now."""
    result = _call(
        *(data, config, "device.add"),
        device=device,
        follow=follow or None,
        attrs=_attributes(attr or []),
        secret=secret,
        publish=publish,
    )
    if as_json:
        shell.print_json(result)
    else:
        typer.echo(f"added {device}" + (f", password {result['secret']}" if secret else ""))


@app.command()
def show(
    device: Device,
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Show what is known of a device: profile, position, window."""
    result = _call(data, config, "device.show", device=device)
    if as_json:
        shell.print_json(result)
    else:
        _print_facts(result)


@app.command("list")
def list_(
    *,
    after: Annotated[str, typer.Option(help="Only ids that sort after this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """List devices by id."""
    result = _call(data, config, "device.list", after=after, limit=limit)
    if as_json:
        shell.print_json(result)
        return
    for device in result["devices"]:
        typer.echo(device if isinstance(device, str) else device["device"])
    if result["more"]:
        typer.echo("There are more: use --after with the last of these, or --limit.", err=True)


@app.command()
def follow(
    device: Device,
    filters: Annotated[list[str] | None, typer.Argument(help="Filters to follow.")] = None,
    *,
    unfollow: Filters = None,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Change what a device follows."""
    if not (filters or unfollow):
        raise Failure("nothing to change: give filters, or --unfollow FILTER", Code.INVALID)
    result = _call(
        *(data, config, "device.follow"),
        device=device,
        follow=filters or [],
        unfollow=unfollow or [],
    )
    if as_json:
        shell.print_json(result)
    else:
        typer.echo(f"changed what {device} follows")


@app.command()
def remove(
    device: Device,
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Remove a device, its password and its feed."""
    result = _call(data, config, "device.remove", device=device)
    if as_json:
        shell.print_json(result)
    else:
        typer.echo(f"removed {device}")


def watch(
    device: Device,
    *,
    k: Annotated[
        int, typer.Option("-k", min=1, max=64, help="Window length to tell the server.")
    ] = 8,
    budget: Annotated[
        int, typer.Option(min=96, max=65_536, help="Bytes of the longest packet, likewise.")
    ] = 256,
    host: shell.Host = "127.0.0.1",
    port: shell.Port = 1883,
    username: shell.Username = None,
    password: shell.Password = None,
    prefix: shell.Prefix = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for every change.")
    ] = False,
) -> None:
    """See a device's window as the device does, live, until Ctrl-C.

    This connects as that device and so TAKES ITS PLACE: MQTT allows one
    connection for an id, and the real device is disconnected. The server
    also takes -k and --budget for the device's own.
    Use it for a device that is not there, or one of your own making.
    """
    from broker.commands.live import watch as run  # noqa: PLC0415 - paho, rich and the replica

    run(
        device=device,
        k=k,
        budget=budget,
        agent="fleetfeed watch",
        host=host,
        port=port,
        username=username,
        password=password,
        prefix=shell.topic_prefix(prefix),
        as_json=as_json,
    )


def _call(data: Path | None, config: Path | None, do: str, **args: Any) -> Any:
    """Ask the server on that data directory; if none runs, work on the store itself."""
    from broker.control import (  # noqa: PLC0415 - asyncio is slow to import
        SOCKET_NAME,
        ControlClient,
        ControlError,
        NoServer,
    )

    settings = shell.configuration(config, data=data)
    try:
        return ControlClient(settings.data / SOCKET_NAME).call(do, **args)
    except NoServer:
        return _call_offline(settings, do, args)
    except ControlError as error:
        raise Failure(str(error)) from error


def _call_offline(settings: "Config", do: str, args: dict[str, Any]) -> Any:
    # Preparing devices before the first start makes the directory; looking for one does not.
    if do != "device.add" and not settings.data.is_dir():
        raise Failure(f"there is no data directory {settings.data}: give the server's with --data")
    from broker.admin import Offline  # noqa: PLC0415 - the store and the registry
    from broker.control import ControlError  # noqa: PLC0415 - see above
    from feedgen.store.base import StoreError  # noqa: PLC0415 - likewise

    try:
        return Offline(settings).call(do, **args)
    except (ControlError, StoreError) as error:
        raise Failure(str(error)) from error


def _attributes(pairs: list[str]) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (name and sign):
            raise Failure(f"--attr {pair!r} is not NAME=VALUE", Code.INVALID)
        whole = value.removeprefix("-").isdecimal() and str(int(value)) == value
        attributes[name] = int(value) if whole else value
    return attributes


def _print_facts(facts: dict[str, Any]) -> None:
    """Print a device as lines of name and value, its window as a numbered list."""
    from rich.table import Table  # noqa: PLC0415 - only when something is printed
    from rich.text import Text  # noqa: PLC0415 - likewise

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        if name == "window":
            lines = [f"{rank}  {_entry(entry)}" for rank, entry in enumerate(value, start=1)]
            table.add_row(name, Text("\n".join(lines) or "empty"))
        else:
            table.add_row(name.replace("_", " "), Text(_fact(value)))
    shell.console().print(table)


def _entry(entry: Any) -> str:
    """Show one place of a window, which comes as `[n, payload]`."""
    number, payload = entry
    return f"#{number}  {shell.readable(payload)}"


def _fact(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
