"""Copies of the SQLite store in one file: made while a server runs, checked, put back.

A backup is a database like the store's own, as it was at one moment, with two tables more: `backup_facts`
says when and by what it was made, `backup_files` holds files that belong to the store but are kept beside
it. SQLite's online backup reads the store in one go as of one commit; a server goes on writing meanwhile,
and only its log cannot be cut until the copy is done.

What a store that was put back must not do is to repeat itself. Since the backup, item numbers were given
out and positions reached that devices still hold; so a restored store goes on at a number far above its
own (`NUMBERS_SKIPPED`) and counts as one whose server was killed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from feedgen.items import BadRecord, unpack_record
from feedgen.store.base import StoreError
from feedgen.store.sqlite_file import FILE, explain, lock
from feedgen.store.sqlite_migrations import APPLICATION_ID, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

NUMBERS_SKIPPED = 1 << 24
"""Item numbers that count as given out since a backup was made, of 2^32 that there are: those of a week
at 27 items a second."""

ASIDE = ".replaced"
"""Behind the name of the store that a restored one has replaced."""

_PATIENCE = 5.0
"""Seconds to wait for a lock of another program."""

_LAST_NUMBER = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup holds.

    Attributes:
        made: When, in Unix seconds.
        program: The version of the program that made it.
        version: Of the store's schema.
        items: How many items, tombstones included.
        devices: How many devices and users.
        files: Names of the files that were kept beside the store.
    """

    made: int
    program: str
    version: int
    items: int
    devices: int
    files: tuple[str, ...]


def back_up(
    directory: Path,
    target: Path,
    *,
    program: str,
    files: Mapping[str, bytes],
    replace: bool = False,
    now: float | None = None,
) -> Contents:
    """Copy the store in `directory` to the file `target`, whether a server uses it or not.

    `target` is there whole and on the disk, or not at all. Only its owner can read it: it holds the hashes
    of the devices' secrets.

    Args:
        directory: The data directory.
        target: The backup.
        program: The version of the program that makes it.
        files: What else belongs to it, by name.
        replace: Whether a file that is there already may be replaced.
        now: Unix seconds; None for the clock's.

    Raises:
        StoreError: There is no store, it is damaged, or the backup cannot be written.
    """
    if not (directory / FILE).is_file():
        raise StoreError(f"There is no store in {directory}: give the server's data directory.")
    if target.exists() and not replace:
        raise StoreError(
            f"{target} exists already: choose another name, or replace it (--replace)."
        )
    part = target.with_name(f"{target.name}.part")
    facts = {"made": int(time.time() if now is None else now), "program": program}
    try:
        with _removed_at_end(part):
            _make(part)
            _copy(directory / FILE, part)
            with _opened(part, "rw") as copy:
                _complete(copy, facts, files)
            contents = inspect(part)
            _put(part, target)
    except sqlite3.Error as error:
        raise StoreError(explain(error, directory)) from error
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror or error}.") from error
    return contents


def inspect(path: Path) -> Contents:
    """Check a backup from end to end, and say what it holds.

    Raises:
        StoreError: It is no backup, damaged, of a newer version, or cannot be read.
    """
    if not path.is_file():
        raise StoreError(f"There is no file {path}.")
    try:
        with _opened(path, "ro&immutable=1") as backup:
            return _checked(backup, path)
    except sqlite3.Error as error:
        raise StoreError(f"{path} is no whole backup ({error}): use another one.") from error


def restore(
    path: Path,
    directory: Path,
    *,
    renew: Callable[[str, bytes], bytes],
    take: Callable[[str], bool],
    replace: bool = False,
) -> Contents:
    """Put a backup in the place of the store in `directory`, while no server uses it.

    Whatever happens meanwhile, the old store or the new one is there. The old one is kept beside it, under
    its name with `ASIDE`.

    Args:
        path: The backup.
        directory: The data directory, made if need be.
        renew: What to put in the place of a device's profile; it raises ValueError for one that cannot
            be read.
        take: Whether a file of this name that was kept with the backup is to be put back, too.
        replace: Whether a store that is there already may be replaced.

    Raises:
        StoreError: The backup cannot be used, a server uses the directory, there is a store already, or
            the disk fails.
    """
    contents = inspect(path)
    try:
        holder = lock(directory)
    except OSError as error:
        raise StoreError(explain(error, directory)) from error
    store, fresh = directory / FILE, directory / f"{FILE}.restored"
    try:
        if store.exists() and not replace:
            raise StoreError(
                f"{directory} has a store already: choose another data directory, or replace it (--replace)."
            )
        with _removed_at_end(fresh):
            _make(fresh)
            _copy(path, fresh)
            with _opened(fresh, "rw") as copy:
                files = dict(copy.execute("SELECT name, content FROM backup_files"))
                _renew(copy, max(_next_number(store), 1), renew)
            for name in filter(take, files):
                _write(directory / name, files[name])
            _set_aside(store)
            _put(fresh, store)  # from here on it is restored
    except sqlite3.Error as error:
        raise StoreError(explain(error, directory)) from error
    except ValueError as error:
        raise StoreError(f"{path} holds a device that cannot be read ({error}).") from error
    except OSError as error:
        raise StoreError(explain(error, directory)) from error
    finally:
        os.close(holder)
    return contents


# ---- Inside the database


def _complete(
    copy: sqlite3.Connection, facts: Mapping[str, object], files: Mapping[str, bytes]
) -> None:
    """Make a backup of a copy of the store."""
    copy.execute("PRAGMA journal_mode = DELETE")  # one file, whatever becomes of it
    copy.execute("BEGIN")
    copy.execute("CREATE TABLE backup_facts (name TEXT PRIMARY KEY, value NOT NULL)")
    copy.execute("CREATE TABLE backup_files (name TEXT PRIMARY KEY, content BLOB NOT NULL)")
    copy.executemany("INSERT INTO backup_facts VALUES (?, ?)", facts.items())
    copy.executemany("INSERT INTO backup_files VALUES (?, ?)", files.items())
    # Somebody may copy the file into a data directory by hand: positions do not hold there either.
    copy.execute("UPDATE meta SET value = 0 WHERE name = 'clean'")
    copy.execute("COMMIT")


def _checked(backup: sqlite3.Connection, path: Path) -> Contents:
    application = backup.execute("PRAGMA application_id").fetchone()[0]
    marked = backup.execute("SELECT count(*) FROM sqlite_master WHERE name = 'backup_facts'")
    if application != APPLICATION_ID or not marked.fetchone()[0]:
        raise StoreError(f"{path} was not made by fleetfeed backup.")
    version = version_of(backup, str(path))
    faults = [row[0] for row in backup.execute("PRAGMA integrity_check(1)")]
    if faults != ["ok"]:
        raise StoreError(f"{path} is damaged ({faults[0]}): use another backup.")
    try:
        for (record,) in backup.execute("SELECT record FROM items"):
            unpack_record(record)
    except BadRecord as error:
        raise StoreError(f"{path} holds an item that cannot be read ({error}).") from error
    facts = dict(backup.execute("SELECT name, value FROM backup_facts"))
    items, devices = (
        int(backup.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - our own names
        for table in ("items", "devices")
    )
    files = tuple(name for (name,) in backup.execute("SELECT name FROM backup_files ORDER BY name"))
    made, program = int(facts.get("made", 0)), str(facts.get("program", "unknown"))
    return Contents(made, program, version, items, devices, files)


def _renew(copy: sqlite3.Connection, given_out: int, renew: Callable[[str, bytes], bytes]) -> None:
    """Make a store of a copy of a backup that repeats nothing."""
    copy.execute("PRAGMA secure_delete = ON")
    copy.execute("BEGIN")
    copy.execute("DROP TABLE backup_facts")
    copy.execute("DROP TABLE backup_files")
    profiles = copy.execute("SELECT device, profile FROM devices").fetchall()
    copy.executemany(
        "UPDATE devices SET profile = ? WHERE device = ?",
        ((renew(device, profile), device) for device, profile in profiles),
    )
    own = _highest(copy) + NUMBERS_SKIPPED
    copy.execute(
        "UPDATE meta SET value = ? WHERE name = 'next_n'", (min(max(own, given_out), _LAST_NUMBER),)
    )
    copy.execute("UPDATE meta SET value = 0 WHERE name = 'clean'")
    copy.execute("COMMIT")
    copy.execute("VACUUM")  # the room of the two tables


def _next_number(store: Path) -> int:
    """The next number of the store that is to be replaced, as far as it can be read; else 0."""
    with contextlib.suppress(sqlite3.Error, OSError), _opened(store, "rw") as replaced:
        return _highest(replaced)
    return 0


def _highest(connection: sqlite3.Connection) -> int:
    """The number that follows all that the store says were given out."""
    (following,) = connection.execute("SELECT value FROM meta WHERE name = 'next_n'").fetchone()
    (last,) = connection.execute("SELECT coalesce(max(n), 0) FROM items").fetchone()
    return max(int(following), int(last) + 1)


# ---- Files


@contextlib.contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
    with closing(connection):
        yield connection


def _copy(source: Path, target: Path) -> None:
    """Copy a database in one go: in several, a store that is written all the time would never be done."""
    with _opened(source, "rw") as original:
        if not version_of(original, source.name):
            raise StoreError(f"{source} is empty: no server has used it yet.")
        with _opened(target, "rw") as copy:
            original.backup(copy, pages=-1)


def _make(path: Path) -> None:
    """An empty file that nobody else can read."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.restored")
    with _removed_at_end(part):
        _make(part)
        part.write_bytes(content)
        _put(part, path)


def _put(part: Path, target: Path) -> None:
    """Give a finished file its name, durably."""
    _sync(part)
    part.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_aside(store: Path) -> None:
    """Keep the store that is about to be replaced under a second name.

    Its log goes first, so that no later store can ever be taken to belong to it; what is in the log was
    written back when `_next_number` let go of the file, unless it is damaged.
    """
    if not store.exists():
        return
    aside = store.with_name(store.name + ASIDE)
    for path in (aside, *(aside.with_name(aside.name + end) for end in ("-wal", "-shm"))):
        path.unlink(missing_ok=True)
    for end in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            store.with_name(store.name + end).replace(aside.with_name(aside.name + end))
    os.link(store, aside)


@contextlib.contextmanager
def _removed_at_end(path: Path) -> Iterator[None]:
    """What is unfinished does not stay; what was given another name is gone anyway."""
    try:
        yield
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
