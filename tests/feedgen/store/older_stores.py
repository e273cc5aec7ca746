"""Stores as every older version wrote them.

They are written out by statements and tuples that must never change with the code.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))

SCHEMA_1 = """
CREATE TABLE items (n INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE devices (device TEXT PRIMARY KEY, profile BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE dismissed (
    n INTEGER NOT NULL, device TEXT NOT NULL, PRIMARY KEY (n, device)
) WITHOUT ROWID;
CREATE INDEX dismissed_by_device ON dismissed (device);
CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
PRAGMA application_id = 1718383718;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
"""

# n, version, published_ms, expires, digest, retracted, earlier; then the item.
FACTS = (7, 3, 1_790_000_000_000, 1_790_086_400, b"d" * 16, False, (b"e" * 16,))
CONTENT = ("news/local", "storm", "Take it inside", "Storm", 3, 86_400, 2, ("weather",), "w", ())
FLAGS = (False, False)  # retract, opaque
RECORDS = {
    1: (1, *FACTS, *CONTENT, *FLAGS),
    2: (2, "station", *FACTS, *CONTENT, *FLAGS),
}

# follow, attrs, operator_attrs, k, budget, max_qos, agent, clock, epoch, secret_hash
SELF = (("news/#",), {"room": "hall"}, {"site": 4}, 12, 900, 1, "oven/2", True, 5_000, b"h" * 32)
RIGHTS = (("news/#",), (), (), None, False)
PROFILES = {
    # publish, subscribed, session, operator
    "1": (1, *SELF, True, 1, b"session", True),
    # rights, subscribed, session, operator, next_hash, password, revoked
    "2 at first": (2, *SELF, RIGHTS, 1, b"session", True, None, None, False),
    # ... seen
    "2": (2, *SELF, RIGHTS, 1, b"session", True, None, None, False, 1_790_000_000),
    # ... failures, kept_at
    "3": (3, *SELF, RIGHTS, 1, b"session", True, None, None, False, 1_790_000_000, 2, "node-1"),
}


def write_schema_1(data: Path, record: tuple[Any, ...], profile: tuple[Any, ...]) -> None:
    """A data directory with one item, n = 7, and one device, oven, that dismissed it."""
    data.mkdir(mode=0o700)
    with closing(sqlite3.connect(data / "fleetfeed.db")) as connection:
        connection.executescript(SCHEMA_1)
        meta = [("next_n", 9), ("clean", 1), ("key", KEY)]
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta)
        connection.execute("INSERT INTO items VALUES (7, ?)", (msgpack.packb(record),))
        connection.execute("INSERT INTO devices VALUES ('oven', ?)", (msgpack.packb(profile),))
        connection.execute("INSERT INTO dismissed VALUES (7, 'oven')")
        connection.commit()
