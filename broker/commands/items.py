"""`fleetfeed publish` and `fleetfeed replay`: items into a running server."""

import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.commands import receipts, shell
from broker.commands.asking import ask
from broker.commands.shell import Code, Failure

if TYPE_CHECKING:
    from broker.commands.publisher import Publisher
    from feedgen.items import Item

Timeout = Annotated[
    float, typer.Option(min=0.1, help="Seconds to wait for the server's confirmation.")
]
_PRIORITIES = {name: level for level, name in enumerate(("low", "normal", "high", "urgent"))}


def parse_priority(text: str) -> int:
    """Read a priority by name or number."""
    level = _PRIORITIES.get(text.lower(), int(text) if text in {"0", "1", "2", "3"} else None)
    if level is None:
        raise typer.BadParameter(f"{text!r} is not low, normal, high, urgent or 0 to 3")
    return level


def publish(
    channel: Annotated[str, typer.Argument(help="Where it belongs, like alerts/weather/ca.")],
    payload: Annotated[
        str | None, typer.Argument(help="What devices show; '-' reads it from stdin.")
    ] = None,
    *,
    id: Annotated[  # noqa: A002 - the option is called --id, as the key of an item is
        str | None,
        typer.Option(help="Your key: publishing it again with other content is an update."),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            parser=parse_priority,
            metavar="LEVEL",
            help="low, normal, high or urgent (0 to 3).",
            show_default="normal",
        ),
    ] = None,
    ttl: Annotated[
        int | None,
        typer.Option(help="Seconds until it leaves every feed.", show_default="a day"),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="What it is about; repeatable.")] = None,
    collapse: Annotated[
        str | None, typer.Option(help="Of all items with this key a feed shows the newest.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Only devices whose attribute matches; repeatable, and repeated for one name "
            "any of the values will do.",
        ),
    ] = None,
    brief: Annotated[
        str | None, typer.Option(help="A shorter payload for devices with small buffers.")
    ] = None,
    retract: Annotated[
        bool, typer.Option("--retract", help="Remove the item --id from every feed.")
    ] = False,
    qos: Annotated[
        int, typer.Option(min=0, max=2, help="At 0 nobody says whether it arrived.")
    ] = 1,
    host: shell.Host = "127.0.0.1",
    port: shell.Port = None,
    tls: shell.Tls = False,
    ca: shell.Ca = None,
    cert: shell.Cert = None,
    key: shell.Key = None,
    username: shell.Username = None,
    password: shell.Password = None,
    prefix: shell.Prefix = "",
    timeout: Timeout = 30.0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Send nothing: ask the server of --data who would get it, and at which place.",
        ),
    ] = False,
    samples: Annotated[
        int, typer.Option(min=0, max=1_000, help="Devices that a dry run names.")
    ] = 5,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Publish one item and wait until the server has stored it."""
    from broker.commands.publisher import connected  # noqa: PLC0415 - paho is slow to import
    from broker.commands.reaching import server  # noqa: PLC0415 - only where it is reached

    if payload is None and not retract:
        raise Failure("a PAYLOAD is needed (or --retract with --id)", Code.INVALID)
    if retract and id is None:
        raise Failure("--retract needs --id: which item is to leave", Code.INVALID)
    sent: dict[str, Any] = {
        "id": id,
        "payload": None if payload is None else _payload(payload),
        "brief": None if brief is None else _content(os.fsencode(brief)),
        "priority": priority,
        "ttl": ttl,
        "tags": tag or None,
        "collapse": collapse,
        "where": _conditions(where or []) or None,
        "retract": retract or None,
    }
    topic = f"{shell.topic_prefix(prefix)}items/{channel}"
    packet, item = _encode(
        channel, {key: value for key, value in sent.items() if value is not None}
    )
    if dry_run:
        told = {"channel": channel, "packet": packet, "publisher": username, "samples": samples}
        found = ask(data, config, "item.trial", **told)
        shell.print_json(found) if as_json else receipts.print_trial(found)
        return
    at = server(
        *(host, port), username=username, password=password, tls=tls, ca=ca, cert=cert, key=key
    )
    with connected(at) as publisher:
        number = publisher.send(topic, packet, qos)
        publisher.wait(number, timeout)
    if as_json:
        shell.print_json(
            {"channel": channel, "id": item.id, "bytes": len(packet), "stored": qos > 0}
        )
    else:
        did = "retracted" if retract else "published"
        typer.echo(f"{did} {item.id} on {channel}{', unconfirmed' if qos == 0 else ''}")


def replay(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON lines (channel, at and the keys of an item), USGS or NWS GeoJSON, or a CAP "
            "message; also with .gz."
        ),
    ],
    *,
    speed: Annotated[
        float, typer.Option(min=0.001, help="Seconds of the file that pass in one second.")
    ] = 1.0,
    host: shell.Host = "127.0.0.1",
    port: shell.Port = None,
    tls: shell.Tls = False,
    ca: shell.Ca = None,
    cert: shell.Cert = None,
    key: shell.Key = None,
    username: shell.Username = None,
    password: shell.Password = None,
    prefix: shell.Prefix = "",
    timeout: Timeout = 30.0,
    as_json: shell.AsJson = False,
) -> None:
    """Publish a file of items at the pace at which they happened."""
    from broker.commands.publisher import connected  # noqa: PLC0415 - paho is slow to import
    from broker.commands.reaching import server  # noqa: PLC0415 - only where it is reached
    from simulator.publishers import Schedule, SourceError, replay_file  # noqa: PLC0415 - likewise

    try:
        schedule = Schedule(replay_file(file), speed=speed)
    except SourceError as error:
        raise Failure(f"{error}; nothing was published", Code.INVALID) from error
    above = shell.topic_prefix(prefix)
    packets = [
        (due.offset, f"{above}items/{due.channel}", _encode(due.channel, dict(due.item))[0])
        for due in schedule
    ]
    at = server(
        *(host, port), username=username, password=password, tls=tls, ca=ca, cert=cert, key=key
    )
    started = time.monotonic()
    with connected(at) as publisher:
        _send_all(publisher, packets, timeout)
    seconds = time.monotonic() - started
    if as_json:
        shell.print_json({"items": len(packets), "seconds": round(seconds, 3)})
    else:
        typer.echo(f"published {len(packets)} items in {seconds:.1f} s, all confirmed")


def _send_all(
    publisher: "Publisher", packets: list[tuple[float, str, bytes]], timeout: float
) -> None:
    """Send each packet when it is due, and wait for the last acknowledgements."""
    from broker.commands.publisher import MAX_INFLIGHT  # noqa: PLC0415 - see above

    started = time.monotonic()
    unconfirmed: deque[int] = deque()
    for offset, topic, packet in packets:
        time.sleep(max(0.0, started + offset - time.monotonic()))
        unconfirmed.append(publisher.send(topic, packet))
        if len(unconfirmed) > MAX_INFLIGHT:
            publisher.wait(unconfirmed.popleft(), timeout)
    for number in unconfirmed:
        publisher.wait(number, timeout)


def _encode(channel: str, sent: dict[str, Any]) -> tuple[bytes, "Item"]:
    """Return the packet's payload and what the server will make of it.

    The server's own rule is applied here, before sending: MQTT 3.1.1 gives it no way to refuse.
    """
    import msgpack  # noqa: PLC0415 - only when an item is made

    from feedgen.items import InvalidItem, decode_item  # noqa: PLC0415 - likewise

    try:
        packet: bytes = msgpack.packb(sent)
        return packet, decode_item(channel, packet)
    except InvalidItem as error:
        raise Failure(
            f"the server would refuse this item on {channel}: {error}", Code.INVALID
        ) from error
    except (OverflowError, ValueError, UnicodeEncodeError) as error:
        raise Failure(f"this item on {channel} cannot be sent: {error}", Code.INVALID) from error


def _payload(argument: str) -> str | bytes:
    return _content(sys.stdin.buffer.read() if argument == "-" else os.fsencode(argument))


def _content(data: bytes) -> str | bytes:
    """Return text where the data is UTF-8, else the bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _conditions(pairs: list[str]) -> dict[str, list[str | int]]:
    """Read `name=value` pairs. A whole number is meant as number or as text, whichever a device has."""
    where: dict[str, list[str | int]] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (name and sign):
            raise Failure(f"--where {pair!r} is not NAME=VALUE", Code.INVALID)
        values = where.setdefault(name, [])
        values.append(value)
        if value.removeprefix("-").isdecimal() and str(int(value)) == value:
            values.append(int(value))
    return where
