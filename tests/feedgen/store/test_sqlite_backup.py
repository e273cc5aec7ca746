"""A copy of the store in one file: whole while it is being written, checked, put back without repetition."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from feedgen.items import Item, Record, digest
from feedgen.store.base import Dismiss, Loaded, PutDevice, PutItem, StoreError
from feedgen.store.sqlite import SqliteStore
from feedgen.store.sqlite_backup import ASIDE, NUMBERS_SKIPPED, back_up, inspect, restore
from feedgen.store.sqlite_file import FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def record(n: int) -> Record:
    item = Item("news", f"item {n}", f"payload {n}" * 20)
    return Record(n, 1, item, 1_790_000_000_000 + n, 1_890_000_000, digest(item))


async def filled(data: Path, *, items: int = 3) -> None:
    """A store with something of everything, stopped in order."""
    store = SqliteStore(data)
    store.open()
    ops = [PutItem(record(n)) for n in range(1, items + 1)]
    await store.submit((*ops, PutDevice("oven", b"profile"), Dismiss("oven", 1)))
    await store.close(clean=True)


async def opened(data: Path) -> Loaded:
    store = SqliteStore(data)
    loaded = store.open()
    await store.close(clean=True)
    return loaded


def backed_up(data: Path, target: Path, **more: Any) -> Any:
    return back_up(data, target, program="1.2.3", files={"learned": b"state"}, **more)


def restored(
    path: Path,
    data: Path,
    renew: Callable[[str, bytes], bytes] = lambda _, profile: profile,
    **more: Any,
) -> Any:
    return restore(path, data, renew=renew, take=lambda name: name == "learned", **more)


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def test_what_is_backed_up_comes_back(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    made = backed_up(tmp_path / "data", tmp_path / "backup", now=1_790_000_000.5)
    assert made == inspect(tmp_path / "backup")
    assert (made.made, made.program, made.version) == (1_790_000_000, "1.2.3", 1)
    assert (made.items, made.devices, made.files) == (3, 1, ("learned",))
    assert restored(tmp_path / "backup", tmp_path / "other") == made
    before, after = await opened(tmp_path / "data"), await opened(tmp_path / "other")
    assert after.records == before.records
    assert (after.devices, after.dismissed) == (before.devices, before.dismissed)
    assert after.key == before.key
    assert (tmp_path / "other" / "learned").read_bytes() == b"state"


async def test_a_restored_store_repeats_no_number_and_vouches_for_no_position(
    tmp_path: Path,
) -> None:
    await filled(tmp_path / "data")
    backed_up(tmp_path / "data", tmp_path / "backup")
    restored(tmp_path / "backup", tmp_path / "other")
    loaded = await opened(tmp_path / "other")
    assert loaded.next_n == 4 + NUMBERS_SKIPPED
    assert not loaded.clean


async def test_a_store_that_went_further_than_is_skipped_is_gone_on_from(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    backed_up(tmp_path / "data", tmp_path / "backup")
    edit(tmp_path / "data" / FILE, f"UPDATE meta SET value = {3 << 24} WHERE name = 'next_n'")
    restored(tmp_path / "backup", tmp_path / "data", replace=True)
    assert (await opened(tmp_path / "data")).next_n == 3 << 24


async def test_a_backup_while_the_store_is_written_is_that_of_one_moment(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data")
    store.open()
    last = 0

    async def write() -> None:
        nonlocal last
        while True:
            # Two rows in one commit: a copy that tears it apart has one of them.
            both = PutItem(record(last + 1)), PutDevice(f"device {last + 1}", b"")
            await store.submit(both)
            last += 1

    await store.submit([PutItem(record(n)) for n in range(1_000, 3_000)])
    writer = asyncio.create_task(write())
    for attempt in range(5):
        at_least = last
        made = await asyncio.to_thread(backed_up, tmp_path / "data", tmp_path / f"backup {attempt}")
        assert made.items - 2_000 == made.devices
        assert at_least <= made.devices <= last + 1
    writer.cancel()
    assert store.up
    assert last > 5  # it was written meanwhile
    await store.close(clean=True)


async def test_only_its_owner_can_read_a_backup(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    backed_up(tmp_path / "data", tmp_path / "backup")
    restored(tmp_path / "backup", tmp_path / "other")
    for path in (tmp_path / "backup", *(tmp_path / "other").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == {"data", "backup", "other"}


async def test_a_file_that_is_there_is_replaced_only_if_said(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    (tmp_path / "backup").write_text("dear")
    with pytest.raises(StoreError, match="exists already"):
        backed_up(tmp_path / "data", tmp_path / "backup")
    assert (tmp_path / "backup").read_text() == "dear"
    backed_up(tmp_path / "data", tmp_path / "backup", replace=True)
    assert inspect(tmp_path / "backup").items == 3


async def test_a_store_that_is_there_is_replaced_only_if_said_and_then_kept(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    backed_up(tmp_path / "data", tmp_path / "backup")
    await filled(tmp_path / "other", items=5)
    with pytest.raises(StoreError, match="has a store already"):
        restored(tmp_path / "backup", tmp_path / "other")
    assert len((await opened(tmp_path / "other")).records) == 5
    restored(tmp_path / "backup", tmp_path / "other", replace=True)
    assert len((await opened(tmp_path / "other")).records) == 3
    with closing(sqlite3.connect(tmp_path / "other" / f"{FILE}{ASIDE}")) as replaced:
        assert replaced.execute("SELECT count(*) FROM items").fetchone() == (5,)


async def test_a_damaged_store_can_be_replaced_by_its_backup(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    backed_up(tmp_path / "data", tmp_path / "backup")
    (tmp_path / "data" / FILE).write_bytes(b"\0" * 100)
    (tmp_path / "data" / f"{FILE}-wal").write_bytes(b"\1" * 100)
    restored(tmp_path / "backup", tmp_path / "data", replace=True)
    assert len((await opened(tmp_path / "data")).records) == 3


async def test_a_data_directory_in_use_is_not_restored_into(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    backed_up(tmp_path / "data", tmp_path / "backup")
    store = SqliteStore(tmp_path / "data")
    store.open()
    with pytest.raises(StoreError, match="in use by another server"):
        restored(tmp_path / "backup", tmp_path / "data", replace=True)
    await store.close(clean=True)


async def test_each_profile_is_renewed_and_one_that_cannot_be_stops_it_all(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    backed_up(tmp_path / "data", tmp_path / "backup")
    restored(tmp_path / "backup", tmp_path / "other", lambda name, old: name.encode() + old)
    assert (await opened(tmp_path / "other")).devices == [("oven", b"ovenprofile")]

    def refuse(_device: str, _profile: bytes) -> bytes:
        raise ValueError("of no known form")

    with pytest.raises(StoreError, match="cannot be read"):
        restored(tmp_path / "backup", tmp_path / "third", refuse)
    assert names(tmp_path / "third") == {"fleetfeed.lock"}


DAMAGES = {
    "newer version": ("PRAGMA user_version = 9",),
    "not made by fleetfeed backup": ("DROP TABLE backup_facts",),
    "item that cannot be read": ("UPDATE items SET record = x'c1' WHERE n = 2",),
}


@pytest.mark.parametrize("said", DAMAGES)
async def test_a_backup_that_cannot_be_used_is_refused_and_nothing_changes(
    said: str, tmp_path: Path
) -> None:
    await filled(tmp_path / "data")
    backed_up(tmp_path / "data", tmp_path / "backup")
    edit(tmp_path / "backup", *DAMAGES[said])
    with pytest.raises(StoreError, match=said):
        restored(tmp_path / "backup", tmp_path / "data", replace=True)
    assert (await opened(tmp_path / "data")).next_n == 4
    assert names(tmp_path / "data") == {FILE, "fleetfeed.lock"}


async def test_a_backup_with_a_broken_page_is_refused(tmp_path: Path) -> None:
    await filled(tmp_path / "data", items=500)
    backed_up(tmp_path / "data", tmp_path / "backup")
    data = bytearray((tmp_path / "backup").read_bytes())
    middle = len(data) // 2 // 4_096 * 4_096
    data[middle : middle + 2_048] = b"\xff" * 2_048
    (tmp_path / "backup").write_bytes(data)
    with pytest.raises(StoreError, match="use another"):
        inspect(tmp_path / "backup")


def test_what_is_no_database_is_no_backup(tmp_path: Path) -> None:
    (tmp_path / "backup").write_bytes(b"text" * 1_000)
    with pytest.raises(StoreError, match="no whole backup"):
        inspect(tmp_path / "backup")
    with pytest.raises(StoreError, match="There is no file"):
        inspect(tmp_path / "nothing")


def test_without_a_store_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no store"):
        backed_up(tmp_path, tmp_path / "backup")
    edit(tmp_path / FILE, "VACUUM")
    with pytest.raises(StoreError, match="no server has used it yet"):
        backed_up(tmp_path, tmp_path / "backup")


async def test_a_damaged_store_gives_no_backup_and_leaves_no_file(tmp_path: Path) -> None:
    await filled(tmp_path / "data", items=500)
    data = bytearray((tmp_path / "data" / FILE).read_bytes())
    for page in range(5 * 4_096, len(data), 4_096):
        data[page : page + 64] = b"\xff" * 64
    (tmp_path / "data" / FILE).write_bytes(data)
    with pytest.raises(StoreError):
        backed_up(tmp_path / "data", tmp_path / "backup")
    assert names(tmp_path) == {"data"}


async def test_a_directory_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    await filled(tmp_path / "data")
    with pytest.raises(StoreError, match="cannot be written: No such file"):
        backed_up(tmp_path / "data", tmp_path / "nowhere" / "backup")
