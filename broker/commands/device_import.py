"""`fleetfeed device import`: a whole fleet out of one table.

The file is read twice. The first time every line is looked at, and nothing happens if one is wrong.
The second time the devices are made in batches. Secrets that are made here are on disk before the
server hears of them: whatever breaks off, none is lost.
"""

import contextlib
import csv
import os
import stat
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from broker.commands import shell
from broker.commands.administration import Administration, tell
from broker.commands.shell import Code, Failure

if TYPE_CHECKING:
    from broker.admin.fleet_file import Fault, Row

_BATCH = 1_000
_BATCH_BYTES = 512 << 10  # of JSON: half of what the control socket takes as one line
_SHOWN = 20


def import_(
    file: Annotated[Path, typer.Argument(help="CSV file; the first line names the columns.")],
    *,
    secrets: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.csv",
            help="Where the passwords go that are made; readable by you alone.",
            show_default="needed where one is made",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.csv if it is there.")] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Change devices that exist; their passwords stay.")
    ] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="With --update: give them new passwords too.")
    ] = False,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Add many devices at once, from a table.

    Columns: device, and if you like follow, publish, may_follow (filters,
    parted by spaces), secret and attr.NAME. An empty secret is made, "none"
    is none, any other is the device's own, of at least 128 bits.

    Nothing is imported if any line is wrong. A column that is not there
    changes nothing in devices that exist.
    """
    if rotate and not update:
        raise Failure("--rotate goes with --update", Code.INVALID)
    if secrets is not None and os.path.lexists(secrets) and not force:
        raise _in_the_way(secrets)
    with Administration(data, config) as administration:
        job = _Import(file, administration, update=update, rotate=rotate)
        found = job.survey()
        if found.faults:
            _tell_faults(file, found)
            raise typer.Exit(Code.INVALID)
        with _secrets_file(secrets, found.secrets, force=force) as out:
            result = job.apply(found.devices, out)
    result["secrets"] = 0 if out is None else out.made
    kept = f"; {out.made} passwords in {secrets}" if out is not None else ""
    sentence = f"{result['added']} devices added, {result['changed']} changed{kept}"
    tell(result, sentence, as_json=as_json)


@dataclass(slots=True)
class _Survey:
    """What a file holds: how many devices, how many secrets to make, and its first faults."""

    devices: int = 0
    secrets: int = 0
    faults: int = 0
    shown: list[tuple[int, str]] = field(default_factory=list)

    def fault(self, line: int, reason: str) -> None:
        self.faults += 1
        if len(self.shown) < _SHOWN:
            self.shown.append((line, reason))


class _Import:
    """One file on its way into a server or a data directory."""

    def __init__(
        self, file: Path, administration: Administration, *, update: bool, rotate: bool
    ) -> None:
        self._file = file
        self._administration = administration
        self._update = update
        self._rotate = rotate

    def survey(self) -> _Survey:
        """Look at every line, and ask which devices exist."""
        found = _Survey()
        seen = array("q")
        with self._lines() as lines:
            for rows in _batches(_sound(lines, found.fault)):
                known = self._known(rows)
                for row in rows:
                    seen.append(hash(row.device))
                    found.secrets += row.secret == "" and self._gets_secret(row, known)
                    if row.device in known and not self._update:
                        found.fault(row.line, f"device {row.device} exists already; see --update")
                found.devices += len(rows)
        self._find_repeated(seen, found)
        found.shown.sort()
        return found

    def apply(self, total: int, out: "_Secrets | None") -> dict[str, int]:
        """Carry the devices over, batch by batch.

        Raises:
            Failure: something broke off; it says how far this came.
        """
        result = {"added": 0, "changed": 0}
        progress = _Progress(total)
        with self._lines() as lines:
            for rows in _batches(_sound(lines, self._changed_meanwhile)):
                known = self._known(rows) if self._update else frozenset[str]()
                said = [self._said(row, known, out) for row in rows]
                if out is not None:
                    out.keep()
                for part in _portions(said):
                    self._send(part, result)
                    progress.show(sum(result.values()))
        return result

    def _send(self, part: list[dict[str, Any]], result: dict[str, int]) -> None:
        try:
            done = self._administration.call("device.import", rows=part, update=self._update)
        except Failure as failure:
            raise Failure(
                f"{failure} (at least {sum(result.values())} devices are imported: run it again with"
                " --update, and another file for --secrets)",
                failure.code,
            ) from failure
        for name in result:
            result[name] += done[name]

    def _said(self, row: "Row", known: frozenset[str], out: "_Secrets | None") -> dict[str, Any]:
        """Return a row as the server takes it, with its secret if it gets one."""
        said = {"device": row.device, **row.said}
        if not self._gets_secret(row, known):
            return said
        secret = row.secret
        if secret == "":
            if out is None:  # the survey saw none to make: the device was there
                raise Failure(
                    f"device {row.device} was removed meanwhile: run it again, with --secrets"
                )
            secret = out.make(row.device)
        return {**said, "secret": secret}

    def _gets_secret(self, row: "Row", known: frozenset[str]) -> bool:
        return self._rotate or row.device not in known

    def _known(self, rows: list["Row"]) -> frozenset[str]:
        """Ask which of these devices exist. Where there is no data yet, none does."""
        if not self._administration.settings.data.is_dir():
            return frozenset()
        devices = [row.device for row in rows]
        return frozenset(self._administration.call("device.known", devices=devices)["known"])

    def _find_repeated(self, seen: "array[int]", found: _Survey) -> None:
        """Find devices that are there twice.

        By eight bytes a line, as the ids of a million devices take a hundred million. Which ids they
        are is only looked up where there are such.
        """
        import numpy as np  # noqa: PLC0415 - only here

        hashes = np.sort(np.frombuffer(seen, np.int64)) if seen else np.zeros(0, np.int64)
        repeated = frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not repeated:
            return
        first: dict[str, int] = {}
        with self._lines() as lines:
            for row in _sound(lines, lambda _line, _reason: None):
                if hash(row.device) not in repeated:
                    continue
                line = first.setdefault(row.device, row.line)
                if line != row.line:
                    found.fault(row.line, f"device {row.device} is in line {line} already")

    @contextlib.contextmanager
    def _lines(self) -> "Iterator[Iterator[Row | Fault]]":
        from broker.admin.fleet_file import BadTable, read  # noqa: PLC0415 - the registry

        with _opened(self._file) as text:
            try:
                yield read(text)
            except BadTable as error:
                raise Failure(f"{self._file}: {error}", Code.INVALID) from error

    def _changed_meanwhile(self, line: int, reason: str) -> None:
        raise Failure(f"{self._file}:{line} was changed while it was read: {reason}")


class _Secrets:
    """The file of the secrets that are made: each is on disk before its device exists."""

    def __init__(self, file: TextIO) -> None:
        self.made = 0
        self._file = file
        self._table = csv.writer(file, lineterminator="\n")
        self._table.writerow(("device", "secret"))

    def make(self, device: str) -> str:
        from devices.registry import new_secret  # noqa: PLC0415 - the registry

        secret = new_secret()
        self.made += 1
        self._table.writerow((device, secret))
        return secret

    def keep(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


class _Progress:
    """How far it is, on stderr, at most once a second."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._next = time.monotonic() + 1

    def show(self, done: int) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 1
            typer.echo(f"{done} of {self._total} devices", err=True)


@contextlib.contextmanager
def _secrets_file(path: Path | None, secrets: int, *, force: bool) -> Iterator[_Secrets | None]:
    """Give the file for so many secrets, or None where none is made."""
    if not secrets:
        yield None
        return
    if path is None:
        raise Failure(
            f"{secrets} passwords are to be made: say with --secrets in which file", Code.INVALID
        )
    try:
        if force and path.is_file():
            path.unlink()  # and not written into: its mode, or a link, may be another's choice
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise _in_the_way(path) from error
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        yield _Secrets(file)


def _in_the_way(path: Path) -> Failure:
    return Failure(
        f"{path} is there already, and may hold passwords: name another file, or use --force",
        Code.INVALID,
    )


def _opened(path: Path) -> TextIO:
    """Open a table; it is read twice, which only a regular file lets one do."""
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", Code.INVALID) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Failure(f"{path} must be a regular file, as it is read twice", Code.INVALID)
    return file


def _sound(lines: "Iterator[Row | Fault]", fault: Callable[[int, str], None]) -> "Iterator[Row]":
    """Pass rows on and report faults."""
    from broker.admin.fleet_file import Row  # noqa: PLC0415 - the registry

    for each in lines:
        if isinstance(each, Row):
            yield each
        else:
            fault(each.line, each.reason)


def _batches(rows: "Iterator[Row]") -> "Iterator[list[Row]]":
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _portions(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Divide rows until each part fits one request."""
    from broker.control import dumps  # noqa: PLC0415 - asyncio is slow to import

    if len(rows) == 1 or len(dumps(rows)) <= _BATCH_BYTES:
        yield rows
    else:
        half = len(rows) // 2
        yield from _portions(rows[:half])
        yield from _portions(rows[half:])


def _tell_faults(file: Path, found: _Survey) -> None:
    for line, reason in found.shown:
        typer.echo(f"fleetfeed: {file}:{line}: {reason}", err=True)
    more = found.faults - len(found.shown)
    rest = f"{more} more lines are wrong; " if more else ""
    typer.echo(f"fleetfeed: {rest}nothing was imported", err=True)
