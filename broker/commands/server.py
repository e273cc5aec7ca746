"""`fleetfeed serve` and `fleetfeed demo`."""

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from broker.commands import shell
from broker.commands.shell import Failure

if TYPE_CHECKING:
    from broker.config import Config
    from broker.config_layers import Resolved


def serve(
    *,
    bind: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to listen; port 0 lets the system choose.",
            show_default="127.0.0.1:1883",
        ),
    ] = None,
    data: shell.DataDir = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A Redis that several servers share; one with a password goes into FLEETFEED_STORE__URL.",
            show_default="the data directory, for one server alone",
        ),
    ] = None,
    open_: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open",
            help="Let unknown devices register themselves.",
            show_default="only on loopback",
        ),
    ] = None,
    http: shell.Http = None,
    config: shell.ConfigFile = None,
    log_level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="debug, info, warning or error.", show_default="info"),
    ] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    It prints one line when it is ready, and logs to stderr.
    Flags win over the environment (FLEETFEED_…), that over the file.
    Use check-config to see what a server would use, and from where.
    On SIGHUP it looks at the configuration and its certificates again.
    """
    from broker.run import hang_up  # noqa: PLC0415 - not for --help

    hang_up.remember()
    flags = {
        "bind": bind,
        "data": data,
        "store.url": store,
        "open": open_,
        "log_level": log_level,
        "http.bind": http,
    }
    found = shell.resolved(config, flags)
    if found.config is None:
        shell.fail_invalid(found.problems)
    shell.begin_log(found)
    raise typer.Exit(_run(found.config, lambda: shell.resolved(config, flags)))


def _run(config: "Config", read: "Callable[[], Resolved]") -> int:
    from broker.app import run  # noqa: PLC0415 - everything hangs on it
    from broker.config_layers import InvalidConfig  # noqa: PLC0415 - likewise
    from broker.control import ControlError  # noqa: PLC0415 - likewise
    from feedgen.store.base import StoreError  # noqa: PLC0415 - likewise

    try:
        return run(config, read)
    except InvalidConfig as error:
        shell.fail_invalid(error.problems)
    except (ControlError, StoreError) as error:
        raise Failure(str(error)) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Failure(
                f"another program listens on {config.bind}: stop it, or choose another --bind"
            ) from error
        why = os.strerror(error.errno) if error.errno else error
        raise Failure(f"the server cannot listen on {config.bind} ({why}): check --bind") from error


def demo(
    *,
    seconds: Annotated[float, typer.Option(min=1, help="How long it runs.")] = 60.0,
    devices: Annotated[int, typer.Option(min=1, max=20_000, help="How many devices.")] = 200,
    seed: Annotated[int, typer.Option(help="The same seed gives the same fleet.")] = 1,
    as_json: shell.AsJson = False,
) -> None:
    """Start a server, a fleet of devices and real news, and check that every feed is right.

    It listens on loopback, keeps nothing, and takes no settings from here.
    """
    from broker.commands.demonstration import run  # noqa: PLC0415 - needs nearly everything

    raise typer.Exit(run(seconds=seconds, devices=devices, seed=seed, as_json=as_json))
