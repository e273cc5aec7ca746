"""The versions of the SQLite store, and the steps from each to the next.

A store says its version in the file's header (`user_version`), and whose file it is (`application_id`).
Each step is one transaction, which also writes the new version: a process that dies in between leaves a
whole store of some version, and the next start goes on from there. What a version older than this program
holds inside its rows (records, profiles) is read as it is and written anew when it changes, so it needs no
step.

No copy of the file is kept before a step. It would bring back what was erased from the store; who wants
to be able to go back makes a backup before the new version is started.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from feedgen.store.base import StoreError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

APPLICATION_ID = 0x666C7466
"""b"fltf": tells our file from any other SQLite database (and `file` could name it)."""

MIGRATIONS = (
    """
    CREATE TABLE items (n INTEGER PRIMARY KEY, record BLOB NOT NULL);
    CREATE TABLE devices (device TEXT PRIMARY KEY, profile BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE dismissed (
        n INTEGER NOT NULL, device TEXT NOT NULL, PRIMARY KEY (n, device)
    ) WITHOUT ROWID;
    CREATE INDEX dismissed_by_device ON dismissed (device);
    CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
    """,
)
"""Entry i leads from version i to i + 1, statement by statement, split at semicolons. Never edit one that
was released: append."""


def version_of(connection: sqlite3.Connection, file: str, newest: int = len(MIGRATIONS)) -> int:
    """The version of the store behind `connection`; 0 if nothing is in it yet.

    Args:
        connection: To the file.
        file: What an error calls it.
        newest: The newest version that this program knows.

    Raises:
        StoreError: The file is another program's, or of a newer version.
        sqlite3.Error: It is damaged.
    """
    version, application, tables = (
        int(connection.execute(question).fetchone()[0])
        for question in (
            "PRAGMA user_version",
            "PRAGMA application_id",
            "SELECT count(*) FROM sqlite_master",
        )
    )
    if tables and application != APPLICATION_ID:
        raise StoreError(f"{file} is a database of another program. Choose another data directory.")
    if version > newest:
        raise StoreError(
            f"{file} was written by a newer version (schema {version}, this one knows {newest})."
            " Install that version again, or choose another data directory."
        )
    return version


def migrate(
    connection: sqlite3.Connection, file: str, migrations: Sequence[str] = MIGRATIONS
) -> int:
    """Bring a store to the newest version, step by step; returns the version that it had.

    Args:
        connection: To the file, outside of a transaction.
        file: What an error calls it.
        migrations: The steps.

    Raises:
        StoreError: The file is another program's, or of a newer version.
        sqlite3.Error: It is damaged or cannot be written; it is of the version that was reached.
    """
    found = version_of(connection, file, len(migrations))
    connection.execute("PRAGMA journal_mode = WAL")
    for version in range(found, len(migrations)):
        _step(connection, version, migrations[version])
    return found


def _step(connection: sqlite3.Connection, version: int, script: str) -> None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        for statement in script.split(";"):
            connection.execute(statement)
        if version == 0:
            connection.execute(
                "INSERT INTO meta VALUES ('next_n', 1), ('clean', 1), ('key', ?)",
                (secrets.token_bytes(32),),
            )
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version + 1}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
