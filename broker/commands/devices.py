"""`fleetfeed device …` and `fleetfeed watch`: who the devices are and what they see."""

from typing import Annotated, Any

import typer

from broker.commands import device_import, shell
from broker.commands.administration import call, tell
from broker.commands.shell import Code, Failure

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
    publish: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILTER",
            help="Channels that it may publish items on, like alerts/#; repeatable.",
            show_default="none",
        ),
    ] = None,
    may_follow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILTER",
            help="Channels that it may choose to follow by itself; repeatable.",
            show_default="the server's permitted",
        ),
    ] = None,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Add a device and print its password, which is shown only now."""
    result = call(
        *(data, config, "device.add"),
        device=device,
        follow=follow or None,
        attrs=_attributes(attr or []),
        secret=secret,
        publish=publish or [],
        may_follow=may_follow or None,
    )
    tell(
        result,
        f"added {device}" + (f", password {result['secret']}" if secret else ""),
        as_json=as_json,
    )


@app.command()
def show(
    device: Device,
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Show what is known of a device: profile, position, window."""
    result = call(data, config, "device.show", device=device)
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
    result = call(data, config, "device.list", after=after, limit=limit)
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
    result = call(
        *(data, config, "device.follow"),
        device=device,
        follow=filters or [],
        unfollow=unfollow or [],
    )
    tell(result, f"changed what {device} follows", as_json=as_json)


@app.command()
def rotate(
    device: Device,
    *,
    now: Annotated[
        bool, typer.Option("--now", help="End the old password at once, and the connection.")
    ] = False,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Give a device a new password, which is shown only now.

    The old one stays valid until the device first comes with the new one.
    """
    result = call(data, config, "device.rotate", device=device, now=now)
    until = "; the old one is valid until it is first used" if result["old_secret_valid"] else ""
    tell(result, f"{device}, new password {result['secret']}{until}", as_json=as_json)


@app.command()
def revoke(
    device: Device,
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Refuse a device from now on and disconnect it; what is known of it is kept."""
    result = call(data, config, "device.revoke", device=device)
    tell(result, f"revoked {device}; 'fleetfeed device restore' lets it in again", as_json=as_json)


@app.command()
def restore(
    device: Device,
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Let a revoked device in again."""
    result = call(data, config, "device.restore", device=device)
    tell(result, f"restored {device}", as_json=as_json)


@app.command()
def erase(
    device: Device,
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Forget a device: its credentials, its feed, everything stored of it.

    Where devices enroll themselves it may come back, as a new one: see revoke.
    """
    result = call(data, config, "device.erase", device=device)
    tell(result, f"erased {device}: {', '.join(result['removed'])}", as_json=as_json)


@app.command()
def remove(
    device: Device,
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Remove a device: another name for erase."""
    result = call(data, config, "device.remove", device=device)
    tell(result, f"removed {device}", as_json=as_json)


app.command("import")(device_import.import_)


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
    port: shell.Port = None,
    tls: shell.Tls = False,
    ca: shell.Ca = None,
    cert: shell.Cert = None,
    key: shell.Key = None,
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
    from broker.commands.reaching import server  # noqa: PLC0415 - only where it is reached

    at = server(
        *(host, port), username=username, password=password, tls=tls, ca=ca, cert=cert, key=key
    )
    run(
        at,
        device=device,
        k=k,
        budget=budget,
        agent="fleetfeed watch",
        prefix=shell.topic_prefix(prefix),
        as_json=as_json,
    )


def _attributes(pairs: list[str]) -> dict[str, str | int]:
    from broker.admin.arguments import attribute_value  # noqa: PLC0415 - slow to import

    attributes: dict[str, str | int] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (name and sign):
            raise Failure(f"--attr {pair!r} is not NAME=VALUE", Code.INVALID)
        attributes[name] = attribute_value(value)
    return attributes


def _print_facts(facts: dict[str, Any]) -> None:
    """Print a device as lines of name and value, its window as a numbered list."""
    from rich.table import Table  # noqa: PLC0415 - only when something is printed
    from rich.text import Text  # noqa: PLC0415 - likewise

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        if name == "window" and value is not None:  # None: it has not come since the server started
            lines = [f"{rank}  {_entry(entry)}" for rank, entry in enumerate(value, start=1)]
            table.add_row(name, Text("\n".join(lines) or "empty"))
        elif name == "allowance":
            table.add_row(name, Text(_allowance(value)))
        else:
            table.add_row(name.replace("_", " "), Text(_fact(value)))
    shell.console().print(table)


def _entry(entry: Any) -> str:
    """Show one place of a window, which comes as `[n, payload]`."""
    number, payload = entry
    return f"#{number}  {shell.readable(payload)}"


def _allowance(found: dict[str, Any] | None) -> str:
    """Show what is left of hourly budgets, and what keeps changes from a device."""
    if found is None:
        return "no limit"
    said = [
        f"{each['left']} of {each['at_once']} {name} left ({each['an_hour']} an hour)"
        for name in ("frames", "bytes")
        if (each := found[name]) is not None
    ]
    if found["quiet"]:
        said.append("quiet hours now")
    if found["waiting"]:
        said.append("changes wait")
    return ", ".join(said) or "no limit"


def _fact(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name}={_within(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _within(value: Any) -> str:
    """Show a value that stands among others: filters have no spaces, so these part them."""
    if isinstance(value, list):
        return " ".join(str(each) for each in value) or "none"
    return _fact(value)
