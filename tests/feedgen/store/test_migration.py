"""Stores of every older version are read in full, and brought up step by step."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from devices.profile import Profile, Rights
from feedgen.items import Item
from feedgen.store.base import Loaded, PutDevice, PutItem, StoreError
from feedgen.store.sqlite import SqliteStore
from feedgen.store.sqlite_migrations import APPLICATION_ID, MIGRATIONS, migrate, version_of
from tests.feedgen.store.older_stores import (
    CONTENT,
    FACTS,
    FLAGS,
    KEY,
    PROFILES,
    RECORDS,
    write_schema_1,
)

if TYPE_CHECKING:
    from pathlib import Path


async def opened(data: Path, *, clean: bool = True) -> Loaded:
    store = SqliteStore(data)
    loaded = store.open()
    await store.close(clean=clean)
    return loaded


@pytest.mark.parametrize("form", RECORDS)
async def test_the_items_of_every_older_version_are_read_in_full(form: int, tmp_path: Path) -> None:
    write_schema_1(tmp_path / "data", RECORDS[form], PROFILES["3"])
    loaded = await opened(tmp_path / "data")
    (record,) = loaded.records
    assert record.item == Item(*CONTENT, *FLAGS)
    assert (record.n, record.version, record.published_ms, record.expires) == FACTS[:4]
    assert (record.digest, record.retracted, record.earlier) == FACTS[4:]
    assert record.publisher == ("" if form == 1 else "station")
    assert loaded.dismissed == [("oven", 7)]
    assert (loaded.next_n, loaded.clean, loaded.key) == (9, True, KEY)


@pytest.mark.parametrize("form", PROFILES)
async def test_the_devices_of_every_older_version_are_read_in_full(
    form: str, tmp_path: Path
) -> None:
    write_schema_1(tmp_path / "data", RECORDS[2], PROFILES[form])
    ((device, packed),) = (await opened(tmp_path / "data")).devices
    profile = Profile.unpack(device, packed)
    assert profile.follow == ("news/#",)
    assert profile.effective_attrs() == {"room": "hall", "site": 4}
    assert (profile.k, profile.budget, profile.max_qos, profile.agent) == (12, 900, 1, "oven/2")
    assert (profile.clock, profile.epoch, profile.secret_hash) == (True, 5_000, b"h" * 32)
    may_publish = "#" if form == "1" else "news/#"
    assert profile.rights == Rights(publish=(may_publish,))
    assert (profile.subscribed, profile.session, profile.operator) == (1, b"session", True)
    assert profile.revoked is False
    assert profile.seen == (1_790_000_000 if form in ("2", "3") else 0)
    assert (profile.failures, profile.kept_at) == ((2, "node-1") if form == "3" else (0, ""))


async def test_what_an_older_version_wrote_is_written_anew_in_todays_form(tmp_path: Path) -> None:
    write_schema_1(tmp_path / "data", RECORDS[1], PROFILES["1"])
    store = SqliteStore(tmp_path / "data")
    loaded = store.open()
    profile = Profile.unpack(*loaded.devices[0])
    await store.submit((PutItem(loaded.records[0]), PutDevice("oven", profile.pack())))
    await store.close(clean=True)
    again = await opened(tmp_path / "data")
    assert again.records == loaded.records
    assert Profile.unpack(*again.devices[0]) == profile


# ---- Steps

FURTHER = (
    *MIGRATIONS,
    "ALTER TABLE devices ADD COLUMN kind TEXT NOT NULL DEFAULT 'device'; CREATE TABLE notes (text TEXT)",
    "CREATE INDEX by_kind ON devices (kind)",
)


def file_of(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


@pytest.mark.parametrize("begins", range(len(FURTHER) + 1))
def test_a_store_of_any_version_goes_through_the_steps_that_it_lacks(
    begins: int, tmp_path: Path
) -> None:
    with closing(file_of(tmp_path / "store")) as connection:
        migrate(connection, "store", FURTHER[:begins])
        assert migrate(connection, "store", FURTHER) == begins
        assert version_of(connection, "store", len(FURTHER)) == len(FURTHER)
        connection.execute("INSERT INTO devices (device, profile) VALUES ('oven', x'00')")
        assert connection.execute("SELECT kind FROM devices").fetchall() == [("device",)]
        assert connection.execute("SELECT count(*) FROM meta").fetchone() == (3,)


def test_a_step_that_fails_leaves_the_version_before_it_whole(tmp_path: Path) -> None:
    broken = (*FURTHER[:2], "CREATE TABLE more (x); CREATE TABLE notes (again)")
    with closing(file_of(tmp_path / "store")) as connection:
        with pytest.raises(sqlite3.OperationalError, match="notes already exists"):
            migrate(connection, "store", broken)
        assert version_of(connection, "store", 3) == 2
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
        assert "notes" in tables
        assert "more" not in tables
        assert migrate(connection, "store", FURTHER) == 2


def test_the_data_of_the_version_before_is_there_after_a_step(tmp_path: Path) -> None:
    write_schema_1(tmp_path / "data", RECORDS[1], PROFILES["1"])
    with closing(file_of(tmp_path / "data" / "fleetfeed.db")) as connection:
        assert migrate(connection, "store", FURTHER) == 1
        rows = connection.execute("SELECT device, kind FROM devices").fetchall()
        assert rows == [("oven", "device")]
        key = connection.execute("SELECT value FROM meta WHERE name = 'key'").fetchone()
        assert key == (KEY,)


def test_a_newer_store_is_not_touched(tmp_path: Path) -> None:
    with closing(file_of(tmp_path / "store")) as connection:
        migrate(connection, "store", FURTHER)
        with pytest.raises(StoreError, match=r"newer version \(schema 3, this one knows 1\)"):
            migrate(connection, "store")
        assert version_of(connection, "store", 3) == 3


def test_the_database_of_another_program_is_not_touched(tmp_path: Path) -> None:
    with closing(file_of(tmp_path / "store")) as connection:
        connection.execute("CREATE TABLE theirs (x)")
        with pytest.raises(StoreError, match="another program"):
            migrate(connection, "store")
        assert connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,)
