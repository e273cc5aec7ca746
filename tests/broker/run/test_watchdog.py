"""The word that the server lives: only while its loop turns and its store answers."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

from broker.run.notify import ALIVE
from broker.run.watchdog import Watchdog
from feedgen.store.base import PutDevice
from feedgen.store.memory import MemoryStore
from feedgen.store.sqlite import SqliteStore
from feedgen.store.sqlite_file import FILE
from tests.broker.support import eventually

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from feedgen.store.base import Op

LIMIT = 0.09
"""Seconds; a beat is a third of it."""


class Manager:
    """Keeps when it heard a word."""

    def __init__(self) -> None:
        self.heard: list[float] = []

    def __call__(self, *words: str) -> None:
        assert words == (ALIVE,)
        self.heard.append(time.monotonic())


class HangingStore(MemoryStore):
    """A store whose writer never comes back, and says nothing about it."""

    def submit(self, ops: Sequence[Op], *, first: bool = False) -> asyncio.Future[None]:
        del ops, first
        return asyncio.get_running_loop().create_future()


async def test_a_server_that_turns_and_stores_says_so_again_and_again(tmp_path: Path) -> None:
    store, manager = SqliteStore(tmp_path), Manager()
    store.open()
    watchdog = Watchdog(manager, store, LIMIT)  # type: ignore[arg-type] # all that it needs of one
    watchdog.start()
    assert len(manager.heard) == 1
    await eventually(lambda: len(manager.heard) >= 4)
    watchdog.stop()
    await store.close(clean=True)


async def test_a_store_that_hangs_stops_the_words() -> None:
    store, manager = HangingStore(), Manager()
    store.open()
    watchdog = Watchdog(manager, store, LIMIT)  # type: ignore[arg-type] # as above
    watchdog.start()
    beats = asyncio.get_running_loop().time() + 2 * LIMIT
    await eventually(lambda: asyncio.get_running_loop().time() > beats)
    assert len(manager.heard) == 1
    watchdog.stop()


async def test_a_store_that_says_why_it_cannot_write_has_answered(tmp_path: Path) -> None:
    store, manager = SqliteStore(tmp_path), Manager()
    store.open()
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # nobody else can write
        put = store.submit((PutDevice("oven", b""),))
        await eventually(lambda: store.fault)
        watchdog = Watchdog(manager, store, LIMIT)  # type: ignore[arg-type] # as above
        watchdog.start()
        await eventually(lambda: len(manager.heard) >= 4)
        assert not put.done()
    await put
    watchdog.stop()
    await store.close(clean=True)


async def test_after_its_stop_there_are_no_words(tmp_path: Path) -> None:
    store, manager = SqliteStore(tmp_path), Manager()
    store.open()
    watchdog = Watchdog(manager, store, LIMIT)  # type: ignore[arg-type] # as above
    watchdog.start()
    watchdog.stop()
    await store.close(clean=True)
    end = asyncio.get_running_loop().time() + LIMIT
    await eventually(lambda: asyncio.get_running_loop().time() > end)
    assert len(manager.heard) == 1
