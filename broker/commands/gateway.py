"""`fleetfeed gateway`: the feed beside a broker that exists already."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.commands import shell
from broker.commands.shell import Code, Failure

if TYPE_CHECKING:
    from broker.config import Config
    from broker.config_layers import Resolved
    from broker.gateway.address import BrokerAddress


def gateway(
    *,
    broker: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="FLEETFEED_BROKER",
            show_default=False,
            help="The broker, like mqtt://user@127.0.0.1:1883; mqtts:// encrypts.",
        ),
    ],
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the password, on its first line.",
            show_default="FLEETFEED_PASSWORD, or the URL's",
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With mqtts://, trust the authorities in this PEM file alone."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A store that several gateways share, like redis://127.0.0.1:6379.",
            show_default="the data directory",
        ),
    ] = None,
    data: shell.DataDir = None,
    open_: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open",
            help="Let unknown devices register themselves.",
            show_default="only with a broker on loopback",
        ),
    ] = None,
    http: shell.Http = None,
    config: shell.ConfigFile = None,
    log_level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="debug, info, warning or error.", show_default="info"),
    ] = None,
) -> None:
    """Run the feed beside an MQTT broker that exists already, until SIGTERM or Ctrl-C.

    Devices and publishers stay with that broker; its ACL must let each device
    read f/<itself> and write u/<itself> alone. A password in the URL can be
    seen by other users of this machine; --password-file and FLEETFEED_PASSWORD
    cannot. One line is printed when it is ready.
    """
    from broker.run import hang_up  # noqa: PLC0415 - not for --help

    hang_up.remember()
    address = address_of(broker, password_file, ca)
    flags = {
        "store.url": store,
        "data": data,
        "open": open_,
        "log_level": log_level,
        "http.bind": http,
    }
    found = shell.resolved(config, flags)
    if found.config is None:
        shell.fail_invalid(found.problems)
    shell.begin_log(found)
    raise typer.Exit(_run(found.config, address, lambda: shell.resolved(config, flags)))


def address_of(url: str, password_file: Path | None, ca: Path | None) -> "BrokerAddress":
    """Put the address together; no sentence of a failure repeats the URL, which may hold a password."""
    from broker.gateway.address import BadAddress, parse_address  # noqa: PLC0415 - not for --help

    password = os.environ.get("FLEETFEED_PASSWORD") or None
    if password_file is not None:
        password = password_in(password_file)
    try:
        return parse_address(url, password=password, ca=ca)
    except BadAddress as error:
        raise Failure(f"{error} (--broker)", Code.INVALID) from error


def password_in(file: Path) -> str:
    """The first line of a file.

    Raises:
        Failure: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Failure(f"{file} cannot be read: {why}", Code.INVALID) from error


def _run(config: "Config", address: "BrokerAddress", read: "Callable[[], Resolved]") -> int:
    from broker.control import ControlError  # noqa: PLC0415 - everything hangs on it
    from broker.gateway.app import run  # noqa: PLC0415 - likewise
    from broker.gateway.link import UplinkRefused  # noqa: PLC0415 - likewise
    from feedgen.store.base import StoreError  # noqa: PLC0415 - likewise

    try:
        return run(config, address, read)
    except (ControlError, StoreError, UplinkRefused) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        raise Failure(f"the gateway cannot start ({why}): check --ca and --data") from error
