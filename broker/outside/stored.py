"""What a data directory knows of devices and users, read while a server or a gateway works on it."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from devices.profile import BadProfile, Profile
from feedgen.store.base import StoreError
from feedgen.store.sqlite_file import FILE, explain
from feedgen.store.sqlite_migrations import APPLICATION_ID, MIGRATIONS

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stored:
    """Who there is.

    Attributes:
        profiles: By name, in order.
        key: The store's key of the hashed secrets.
    """

    profiles: dict[str, Profile]
    key: bytes = field(repr=False)


def read(directory: Path) -> Stored:
    """Read the profiles as of the last commit; nothing is changed, and nobody waits.

    Raises:
        StoreError: There is no store that this version can read.
    """
    if not (directory / FILE).is_file():
        raise StoreError(f"there is no data in {directory}: give the server's directory")
    try:
        # SQLite's own lock lets many read while one writes; the lock of the server is not taken.
        address = f"{(directory / FILE).resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, isolation_level=None)) as reader:
            reader.execute("BEGIN")  # all of it as of one moment
            _check(reader)
            (key,) = reader.execute("SELECT value FROM meta WHERE name = 'key'").fetchone()
            rows = reader.execute("SELECT device, profile FROM devices ORDER BY device")
            return Stored({name: Profile.unpack(name, packed) for name, packed in rows}, key)
    except sqlite3.Error as error:
        raise StoreError(explain(error, directory)) from error
    except BadProfile as error:
        raise StoreError(f"{FILE}: {error}. Restore a backup, or use the newer version.") from error


def _check(reader: sqlite3.Connection) -> None:
    (application,) = reader.execute("PRAGMA application_id").fetchone()
    (version,) = reader.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID or version != len(MIGRATIONS):
        raise StoreError(
            f"{FILE} is not of this version (schema {version}, this one has {len(MIGRATIONS)}): start"
            " its server once with this version, or use that of the server."
        )
