"""What all commands share: how they fail, how they print, the options that several have."""

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from broker.config import Config
    from broker.config_layers import Resolved


class Code(IntEnum):
    """Exit codes."""

    OK = 0
    FAILED = 1
    """The operation was understood and did not succeed."""
    INVALID = 2
    """The command line, the configuration or an item is wrong: trying again will not help."""
    UNREACHABLE = 3
    """No server there: trying again may help."""


class Failure(Exception):  # noqa: N818 - named for what it ends
    """A command ends with one sentence on stderr: whose fault it is and what to do."""

    def __init__(self, sentence: str, code: Code = Code.FAILED) -> None:
        super().__init__(sentence)
        self.code = code


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", envvar="FLEETFEED_CONFIG", help="TOML file with settings."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Data directory of the server.", show_default="fleetfeed-data"),
]
Http = Annotated[
    str | None,
    typer.Option(
        "--http",
        metavar="HOST:PORT",
        help="Where to show metrics, health and the live page; port 0 lets the system choose.",
        show_default="nowhere",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Host = Annotated[str, typer.Option(help="Where the server is.")]
Port = Annotated[
    int | None,
    typer.Option(min=1, max=65_535, help="Its MQTT port.", show_default="1883, with TLS 8883"),
]
Username = Annotated[str | None, typer.Option(help="User name, where the server wants one.")]
Password = Annotated[
    str | None,
    typer.Option(
        envvar="FLEETFEED_PASSWORD",
        help="Its password. Other users of this machine can see it here, but not in the variable.",
    ),
]
Tls = Annotated[
    bool, typer.Option("--tls", help="Encrypt; trust the authorities that this machine trusts.")
]
Ca = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Encrypt; trust the authorities in this PEM file alone."),
]
Cert = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Encrypt; show the server this client certificate (PEM)."),
]
Key = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Its key.", show_default="in the file of --cert"),
]
Prefix = Annotated[str, typer.Option(help="The server's topic prefix (its setting feed.prefix).")]


def resolved(file: Path | None, flags: Mapping[str, Any]) -> "Resolved":
    """Merge file, this process's environment and flags; never fails."""
    from broker.config_layers import resolve  # noqa: PLC0415 - pydantic is slow to import

    return resolve(file, os.environ, flags)


def configuration(file: Path | None, **flags: Any) -> "Config":
    """Return the effective configuration.

    Raises:
        Failure: it is invalid.
    """
    found = resolved(file, flags)
    if found.config is None:
        fail_invalid(found.problems)
    return found.config


def begin_log(found: "Resolved") -> None:
    """Log as the configuration says, from its own warnings on; `found` has one."""
    import logging  # noqa: PLC0415 - only processes that serve

    from broker.run import logs  # noqa: PLC0415 - likewise

    assert found.config is not None
    logs.configure(found.config)
    for warning in found.warnings:
        logging.getLogger(__name__).warning("%s", warning)


def fail_invalid(problems: tuple[str, ...]) -> NoReturn:
    """End the command over an invalid configuration, on one line for each problem."""
    more = f" (and {len(problems) - 1} more; see fleetfeed check-config)" if problems[1:] else ""
    raise Failure(f"the configuration is wrong: {problems[0]}{more}", Code.INVALID)


def topic_prefix(prefix: str) -> str:
    """Return the prefix with its closing slash, as the server reads its own setting."""
    if any(c in prefix for c in "+#\0"):
        raise Failure(f"--prefix {prefix!r} has a wildcard: give plain topic levels", Code.INVALID)
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"


def print_json(value: Any) -> None:
    """Print one JSON value on one line, bytes as `{"b64": …}`."""
    from broker.control import dumps  # noqa: PLC0415 - asyncio is slow to import

    sys.stdout.write(dumps(value).decode() + "\n")
    sys.stdout.flush()  # a line that another program waits for must not stay in a buffer


def console() -> "Console":
    """Return the console of stdout."""
    from rich.console import Console  # noqa: PLC0415 - only when something is printed

    return Console(highlight=False)


def readable(payload: str | bytes) -> str:
    """Show a payload to a person: text as it is, a msgpack map as JSON, other bytes as hex.

    Control characters are escaped: a payload is the publisher's, the terminal is the operator's.
    """
    text = payload if isinstance(payload, str) else _text(payload)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _text(payload: bytes) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        return payload.decode()
    import msgpack  # noqa: PLC0415 - only here

    with contextlib.suppress(ValueError, TypeError, msgpack.UnpackException):
        value = msgpack.unpackb(payload)
        if isinstance(value, dict):
            return json.dumps(value, ensure_ascii=False)
    return payload.hex(" ")
