"""`fleetfeed backup` and `fleetfeed restore`: a server's data in one file, and back."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.commands import shell
from broker.commands.shell import Failure

if TYPE_CHECKING:
    from feedgen.store.sqlite_backup import Contents

Replace = Annotated[bool, typer.Option("--replace", help="Replace what is there already.")]


def backup(
    file: Annotated[Path, typer.Argument(help="Where to put it.")],
    *,
    replace: Replace = False,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Copy items, devices, credentials and what the ranking learned to one file, while the server runs.

    The file is checked from end to end before it gets its name. Keep it as
    safe as the data directory: it holds what is stored there. Run it as the
    server's user. The decision log is not in it.
    """
    from broker.run import backup as backups  # noqa: PLC0415 - the store is slow to import

    settings = shell.configuration(config, data=data)
    contents = _carried_out(lambda: backups.back_up(settings, file, replace=replace))
    _tell(
        contents,
        {"file": str(file), "bytes": file.stat().st_size},
        f"{file} has {_counted(contents)}.",
        as_json=as_json,
    )


def restore(
    file: Annotated[Path, typer.Argument(help="A backup.")],
    *,
    replace: Replace = False,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Put a backup into a data directory that no server uses.

    It is checked first; one of a newer version is refused. With --replace
    the store that was there is kept beside it, as fleetfeed.db.replaced. What
    was revoked, removed or erased since the backup is there again: do that
    again before the server starts.
    """
    from broker.run import backup as backups  # noqa: PLC0415 - the store is slow to import

    settings = shell.configuration(config, data=data)
    contents = _carried_out(lambda: backups.restore(settings, file, replace=replace))
    _tell(
        contents,
        {"data": str(settings.data)},
        f"{settings.data} has {_counted(contents)} of {_time(contents)}. What was revoked, removed or erased "
        "since then is there again: do that again before the server starts.",
        as_json=as_json,
    )


def _carried_out(deed: "Callable[[], Contents]") -> "Contents":
    from feedgen.store.base import StoreError  # noqa: PLC0415 - the store is slow to import

    try:
        return deed()
    except StoreError as error:
        raise Failure(str(error)) from error


def _tell(contents: "Contents", more: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    from dataclasses import asdict  # noqa: PLC0415 - only here

    if as_json:
        shell.print_json({**asdict(contents), **more})
    else:
        typer.echo(sentence)


def _counted(contents: "Contents") -> str:
    learned = " and what the ranking learned" if contents.files else ""
    items = "1 item" if contents.items == 1 else f"{contents.items} items"
    devices = (
        "1 device or user" if contents.devices == 1 else f"{contents.devices} devices and users"
    )
    return f"{items}, {devices}{learned}"


def _time(contents: "Contents") -> str:
    from datetime import UTC, datetime  # noqa: PLC0415 - only here

    return f"{datetime.fromtimestamp(contents.made, UTC):%Y-%m-%d %H:%M} UTC"
