"""`fleetfeed decisions`: what the ranking decided, for whom, and what came of it."""

import re
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.commands import shell
from broker.commands.shell import Failure

if TYPE_CHECKING:
    from feedgen.ranking.decisions import Decision

_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_TICKS_PER_MINUTE = 6000
# The bar of a row that has room: the lowest int32.
_NO_BAR = -(1 << 31)


def parse_since(text: str) -> float:
    """Read a moment, as a time or as an age like 15m; returns Unix seconds."""
    if age := _AGE.fullmatch(text):
        return time.time() - float(age[1]) * _SECONDS[age[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is neither a time like 2027-01-31T12:00 (UTC) nor an age like 90s, 15m, 2h, 3d"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def decisions(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where the decision log is.", show_default=False)
    ],
    *,
    device: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this device.", show_default="all")
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(
            parser=parse_since,
            metavar="WHEN",
            help="Only from then on: a time like 2027-01-31T12:00 (UTC), or 90s, 15m, 2h, 3d ago.",
            show_default="the beginning",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows at most, the latest.")] = 50,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines, one for each row.")
    ] = False,
) -> None:
    """Show the decision log: who was given which item, how probable that was, and what came of it.

    Works without the server, and beside it. The log knows devices by a hash of their id.
    """
    unread: Counter[str] = Counter()
    rows = _latest(_records(directory, since, device, unread), limit)
    if as_json:
        for row in rows:
            shell.print_json(_named(row, device))
    else:
        _print(rows, device)
    if unread:
        said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in unread.items())
        typer.echo(f"fleetfeed: not all could be read: {said}", err=True)


def _records(
    directory: Path, since: float | None, device: str | None, unread: Counter[str]
) -> "Iterator[Decision]":
    from feedgen.ranking.decisions import select  # noqa: PLC0415 - numpy is slow to import
    from feedgen.ranking.tokens import device_token  # noqa: PLC0415 - likewise
    from feedgen.store.base import StoreError  # noqa: PLC0415 - likewise
    from feedgen.store.decision_reading import read  # noqa: PLC0415 - likewise

    token = None if device is None else device_token(device)
    try:
        for record in read(directory, since, unread=unread):
            yield record if token is None else select(record, record.device == token)
    except (StoreError, OSError) as error:
        raise Failure(str(error)) from error


def _latest(records: "Iterable[Decision]", limit: int) -> list[dict[str, Any]]:
    """Return the last rows of many records, without making rows of all of them."""
    kept: deque[Decision] = deque()
    count = 0
    for record in records:
        kept.append(record)
        count += len(record)
        while count - len(kept[0]) >= limit:
            count -= len(kept.popleft())
    return [row for record in kept for row in _rows(record)][-limit:]


def _rows(record: "Decision") -> Iterator[dict[str, Any]]:
    scalars = {name: getattr(record, name) for name in record.SCALARS}
    columns = {name: getattr(record, name).tolist() for name in record.COLUMNS}
    for row in range(len(record)):
        values = {name: column[row] for name, column in columns.items()}
        yield {"kind": record.KIND.removesuffix("s"), **scalars, **values}


def _named(row: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    """Return a row for JSON: devices by name or as hex, numbers that are none as null."""
    finite = {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in row.items()
    }
    return {**finite, "device": device or f"{row['device']:016x}"}


def _print(rows: list[dict[str, Any]], device: str | None) -> None:
    from rich.table import Table  # noqa: PLC0415 - only when something is printed

    if not rows:
        typer.echo("Nothing is logged.")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("item", justify="right", no_wrap=True)
    table.add_column("device", no_wrap=True)
    table.add_column("what")
    for row in rows:
        said = _admission(row) if row["kind"] == "admission" else _outcome(row)
        name = shell.readable(device) if device else f"{row['device']:016x}"
        table.add_row(_clock(row["t"]), str(row["n"]), name, said)
    console = shell.console()
    # In a file or a pipe a line is a row, however long.
    console.print(table, width=None if sys.stdout.isatty() else 200)


def _admission(row: Mapping[str, Any]) -> str:
    from feedgen.ranking.decisions import How  # noqa: PLC0415 - numpy is slow to import

    how = {How.OFFER: "offered", How.REBUILD: "window built"}.get(row["how"], "?")
    chance = "certain" if row["propensity"] == 1 else f"probability {row['propensity']:.2f}"
    worth = f"worth {row['mean'] / _TICKS_PER_MINUTE:+.1f}"
    spread = f" ± {row['sd'] / _TICKS_PER_MINUTE:.1f}" if row["sd"] else ""
    over = (row["key"] - row["bar"]) / _TICKS_PER_MINUTE
    bar = f"{over:.1f} min over the bar" if row["bar"] > _NO_BAR else "nothing to beat"
    return (
        f"admitted, {chance}; {worth}{spread} min, {bar};"
        f" {how}, model {row['model']}, rung {row['rung']}"
    )


def _outcome(row: Mapping[str, Any]) -> str:
    done = "dismissed" if row["dismissed"] else "opened" if row["opened"] else "not opened"
    dwell = f" for {row['dwell']:.1f} s" if row["dwell"] >= 0 else ""
    rank = f" at rank {row['rank'] + 1}" if row["rank"] >= 0 else ""
    return (
        f"{done}{dwell}; shown {_clock(row['shown'])}{rank};"
        f" predicted {row['p']:.3f}, model {row['model']}"
    )


def _clock(seconds: float) -> str:
    """Show a moment; what a device with a mad clock said may be no date at all."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return "?"
