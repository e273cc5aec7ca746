"""The file of the SQLite store: its lock, its schema, how it is read, and what its errors mean."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from typing import TYPE_CHECKING

from feedgen.items import BadRecord, unpack_record
from feedgen.store.base import Loaded, StoreError
from feedgen.store.sqlite_migrations import migrate

if TYPE_CHECKING:
    from pathlib import Path

    from feedgen.items import Record

FILE = "fleetfeed.db"
LOCK = "fleetfeed.lock"

# Seconds to wait for another program's write lock before an attempt counts as failed.
BUSY_TIMEOUT = 0.25

_ADVICE = {
    sqlite3.SQLITE_BUSY: "Another program holds a write lock on it: let that one finish.",
    sqlite3.SQLITE_FULL: "The disk is full: make room on it.",
    sqlite3.SQLITE_IOERR: "The disk or a limit on it fails: check the system's log.",
    sqlite3.SQLITE_READONLY: "It cannot be written: check the rights of the directory and its files.",
    sqlite3.SQLITE_CANTOPEN: "It cannot be opened: check the rights of the directory and its files.",
    sqlite3.SQLITE_CORRUPT: "It is damaged: restore a backup.",
    sqlite3.SQLITE_NOTADB: "It is damaged: restore a backup.",
}


def lock(directory: Path) -> int:
    """Make `directory` if need be and take it for this process; returns the descriptor to close."""
    # Closed to other users: it holds the key and the hashes of the devices' secrets.
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreError(
            f"{directory} is in use by another server (process {holder}): stop that one, or choose"
            " another data directory."
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def connect(directory: Path) -> sqlite3.Connection:
    """Open the file of `directory`, and make it if need be; for one thread at a time."""
    path = directory / FILE
    # Created here with the rights that SQLite will also give to the log and its index.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    return sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
    )


def load(connection: sqlite3.Connection) -> Loaded:
    """Bring the schema up to date, mark the store unclean, and read everything.

    Raises:
        StoreError: The file is not ours, or of a newer version, or holds a broken record.
        sqlite3.Error: It is damaged or cannot be written.
    """
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # where fsync alone does not reach the disk (macOS)
    connection.execute("PRAGMA secure_delete = ON")
    migrate(connection, FILE)
    # One transaction: a store that cannot be read stays marked as it was.
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM dismissed WHERE n NOT IN (SELECT n FROM items)")
    devices = connection.execute("SELECT device, profile FROM devices ORDER BY device").fetchall()
    dismissed = connection.execute("SELECT device, n FROM dismissed ORDER BY device, n").fetchall()
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    records = _records(connection)
    connection.execute("UPDATE meta SET value = 0 WHERE name = 'clean'")
    connection.execute("COMMIT")
    return Loaded(
        records=records,
        devices=devices,
        dismissed=dismissed,
        next_n=max(meta["next_n"], records[-1].n + 1 if records else 1),
        clean=bool(meta["clean"]),
        key=meta["key"],
    )


def cut_log(connection: sqlite3.Connection) -> bool:
    """Move what is in the write-ahead log to its place and cut the log to nothing.

    False if another program is reading the file, or the disk fails: then it is for later. Nobody is
    waited for, as all commits would wait too.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        return False
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")
    return not busy


def _records(connection: sqlite3.Connection) -> list[Record]:
    rows = connection.execute("SELECT record FROM items ORDER BY n")
    try:
        return [unpack_record(record) for (record,) in rows]
    except BadRecord as error:
        raise StoreError(
            f"{FILE} holds an item that cannot be read ({error}): restore a backup."
        ) from error


def explain(error: Exception, directory: Path) -> str:
    """What `error` means for an operator."""
    if isinstance(error, OSError):
        return (
            f"Cannot write in {directory} ({error.strerror}): make it writable for this user, or"
            " choose another data directory."
        )
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is the extended code
    advice = _ADVICE.get(code, "This is unexpected: please report it.")
    return f"{directory / FILE}: {error}. {advice}"
