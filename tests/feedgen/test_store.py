"""One contract for all stores, then what only a store on a disk can get wrong."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.items import Record, decode_item, digest
from feedgen.store import (
    Dismiss,
    DropDevice,
    DropItems,
    Loaded,
    Op,
    PutDevice,
    PutItem,
    Store,
    StoreError,
)
from feedgen.store.memory import MemoryStore
from feedgen.store.memory_shared import SharedMemory
from feedgen.store.redis import RedisStore
from feedgen.store.sqlite import FEW, SqliteStore
from feedgen.store.sqlite_file import FILE
from tests.redis_servers import RedisServer, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Make = Callable[[], Store]


def record(n: int, version: int = 0, payload: bytes = b"storm") -> Record:
    item = decode_item("alerts/weather", payload)
    # Over in 2096: Redis forgets by itself what is over.
    return Record(n, version, item, 1_700_000_000_000 + n, 4_000_000_000, digest(item))


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "shared_memory", "sqlite", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Returns the store as a new run of the server finds it."""
    match request.param:
        case "memory":
            kept = MemoryStore()
            return lambda: kept
        case "shared_memory":
            alone = SharedMemory().node()
            return lambda: alone
        case "redis":
            server = request.getfixturevalue("redis")
            server.ask("FLUSHALL")
            return lambda: RedisStore(server.url)
    return lambda: SqliteStore(tmp_path / "data")


async def run(store: Store, *submissions: Sequence[Op], clean: bool = True) -> Loaded:
    """One run of a server: open, submit everything at once, close."""
    loaded = store.open()
    for ops in submissions:
        store.submit(ops)
    await store.close(clean)
    return loaded


async def kept(make: Make, *submissions: Sequence[Op]) -> Loaded:
    """What the next run finds."""
    await run(make(), *submissions)
    return await run(make())


async def test_a_new_store_is_empty_and_clean(make: Make):
    loaded = await run(make())
    assert (loaded.records, loaded.devices, loaded.dismissed) == ([], [], [])
    assert loaded.next_n == 1
    assert loaded.clean
    assert len(loaded.key) == 32


async def test_the_key_stays_the_same(make: Make):
    first = await run(make())
    assert (await run(make())).key == first.key


async def test_what_was_submitted_is_there_in_order_the_next_time(make: Make):
    loaded = await kept(
        make,
        (PutItem(record(2)), PutItem(record(1)), Dismiss("b", 2)),
        (PutDevice("b", b"2"), PutDevice("a", b"1"), Dismiss("a", 2), Dismiss("b", 1)),
    )
    assert loaded.records == [record(1), record(2)]
    assert loaded.devices == [("a", b"1"), ("b", b"2")]
    assert loaded.dismissed == [("a", 2), ("b", 1), ("b", 2)]
    assert loaded.next_n == 3


async def test_a_put_replaces_what_was_put_before(make: Make):
    await run(make(), (PutItem(record(1)), PutDevice("a", b"old")))
    loaded = await kept(make, (PutItem(record(1, version=1)), PutDevice("a", b"new")))
    assert loaded.records == [record(1, version=1)]
    assert loaded.devices == [("a", b"new")]


async def test_dropped_items_take_their_dismissals_along(make: Make):
    await run(make(), (PutItem(record(1)), PutItem(record(2)), Dismiss("a", 1), Dismiss("a", 2)))
    loaded = await kept(make, (DropItems((1, 7)),))
    assert loaded.records == [record(2)]
    assert loaded.dismissed == [("a", 2)]


async def test_a_dropped_device_takes_its_dismissals_along(make: Make):
    await run(make(), (PutItem(record(1)), PutDevice("a", b""), PutDevice("b", b"")))
    await run(make(), (Dismiss("a", 1), Dismiss("b", 1)))
    loaded = await kept(make, (DropDevice("a"), DropDevice("nobody")))
    assert loaded.devices == [("b", b"")]
    assert loaded.dismissed == [("b", 1)]


async def test_a_device_that_comes_back_has_dismissed_nothing(make: Make):
    await run(make(), (PutItem(record(1)), PutDevice("a", b"old"), Dismiss("a", 1)))
    loaded = await kept(make, (DropDevice("a"), PutDevice("a", b"new")))
    assert loaded.devices == [("a", b"new")]
    assert loaded.dismissed == []


async def test_an_item_that_comes_back_is_dismissed_by_nobody(make: Make):
    again = (Dismiss("a", 1), DropItems((1,)), PutItem(record(1)))
    assert (await kept(make, (PutItem(record(1)),), again)).dismissed == []
    assert (await kept(make, (Dismiss("a", 1),), again[1:])).dismissed == []


async def test_dismissing_twice_is_dismissing_once(make: Make):
    loaded = await kept(make, (PutItem(record(1)), Dismiss("a", 1)), (Dismiss("a", 1),))
    assert loaded.dismissed == [("a", 1)]


async def test_a_dismissal_of_an_item_that_is_gone_is_swept_by_the_next_run(make: Make):
    await run(make(), (Dismiss("a", 1),))
    assert (await kept(make, (PutItem(record(1)),))).dismissed == []


async def test_numbers_are_never_given_twice_even_when_all_items_are_gone(make: Make):
    await run(make(), (PutItem(record(41)),))
    await run(make(), (DropItems((41,)),))
    await run(make(), (PutItem(record(7)),))
    assert (await run(make())).next_n == 42


async def test_an_item_put_and_dropped_at_once_uses_up_its_number(make: Make):
    loaded = await kept(make, (PutItem(record(9)), DropItems((9,))))
    assert loaded.records == []
    assert loaded.next_n == 10


async def test_dropping_a_number_that_was_never_stored_uses_up_nothing(make: Make):
    assert (await kept(make, (DropItems((1_000,)),))).next_n == 1


async def test_only_a_clean_stop_is_remembered_as_one(make: Make):
    await run(make(), clean=False)
    assert not (await run(make(), clean=True)).clean
    assert (await run(make())).clean


async def test_futures_resolve_in_the_order_of_submission_and_never_at_once(make: Make):
    store = make()
    store.open()
    resolved: list[int] = []
    for index in range(100):
        ops = (PutDevice("a", b"%d" % index),) if index % 3 else ()
        future = store.submit(ops)
        future.add_done_callback(lambda _, index=index: resolved.append(index))
    assert resolved == []
    assert store.pending == 100
    await store.submit(())
    assert resolved == list(range(100))
    assert store.pending == 0
    await store.close(clean=True)


async def test_a_cancelled_future_neither_undoes_its_ops_nor_disturbs_the_next(make: Make):
    store = make()
    store.open()
    store.submit((PutDevice("a", b"1"),)).cancel()
    await store.submit((PutDevice("b", b"2"),))
    assert store.pending == 0
    await store.close(clean=True)
    assert (await run(make())).devices == [("a", b"1"), ("b", b"2")]


async def test_closing_waits_for_everything_that_is_pending(make: Make):
    store = make()
    store.open()
    futures = [store.submit((PutItem(record(n)),)) for n in range(1, 1001)]
    await store.close(clean=True)
    assert all(future.done() for future in futures)
    assert len((await run(make())).records) == 1000


async def test_what_is_to_follow_happens_once_it_is_durable_and_before_whoever_waits(make: Make):
    store = make()
    store.open()
    said: list[str] = []
    put = store.submit((PutItem(record(1)),), then=lambda: said.append("then"))
    put.add_done_callback(lambda _: said.append("waiting"))
    await put
    await asyncio.sleep(0)
    assert said == ["then", "waiting"]
    await store.close(clean=True)


async def test_what_goes_first_is_kept_like_everything_else(make: Make):
    store = make()
    store.open()
    futures = [store.submit((PutItem(record(n)),), first=not n % 3) for n in range(1, 10)]
    await store.close(clean=True)
    assert all(future.done() for future in futures)
    assert [each.n for each in (await run(make())).records] == list(range(1, 10))


async def test_more_submissions_than_fit_one_batch_are_all_kept(make: Make):
    loaded = await kept(make, *((PutDevice(f"d{i:05}", b""),) for i in range(9_000)))
    assert [device for device, _ in loaded.devices] == [f"d{i:05}" for i in range(9_000)]


async def test_a_store_that_is_not_open_takes_nothing(make: Make):
    store = make()
    with pytest.raises(StoreError, match="not open"):
        store.submit(())
    await run(store)
    with pytest.raises(StoreError, match="not open"):
        store.submit(())


async def test_a_store_is_opened_once_at_a_time(make: Make):
    store = make()
    store.open()
    with pytest.raises(StoreError, match="open already"):
        store.open()
    await store.close(clean=True)


async def test_closing_a_closed_store_does_nothing(make: Make):
    store = make()
    await run(store)
    await store.close(clean=False)
    assert (await run(make())).clean


async def test_a_healthy_store_says_that_it_is_up(make: Make):
    store = make()
    await run(store, (PutDevice("a", b""),))
    assert (store.up, store.fault, store.errors) == (True, None, 0)


NUMBERS = st.integers(1, 5)
DEVICES = st.sampled_from("abc")
OPS = st.one_of(
    st.builds(lambda n, version: PutItem(record(n, version)), NUMBERS, st.integers(0, 2)),
    st.builds(lambda ns: DropItems(tuple(ns)), st.lists(NUMBERS, max_size=3)),
    st.builds(PutDevice, DEVICES, st.binary(max_size=1)),
    st.builds(DropDevice, DEVICES),
    st.builds(Dismiss, DEVICES, NUMBERS),
)


@settings(max_examples=30, deadline=None)
@given(runs=st.lists(st.lists(st.tuples(st.lists(OPS), st.booleans())), min_size=1, max_size=3))
def test_sqlite_keeps_what_memory_keeps(runs: list[list[tuple[list[Op], bool]]]):
    async def play(make: Make) -> list[tuple[object, ...]]:
        seen = []
        for submissions in [*runs, []]:
            store = make()
            found = store.open()
            seen.append((found.records, found.devices, found.dismissed, found.next_n, found.clean))
            for ops, awaited in submissions:
                future = store.submit(ops)
                if awaited:
                    await future
            await store.close(clean=len(submissions) % 2 == 0)
        return seen

    memory = MemoryStore()
    with tempfile.TemporaryDirectory() as directory:
        assert asyncio.run(play(lambda: SqliteStore(directory))) == asyncio.run(
            play(lambda: memory)
        )


# What only a disk can do. Child processes are real servers, as far as the store can tell.

WRITER = """
import asyncio, sys
from feedgen.items import Record, decode_item, digest
from feedgen.store import PutDevice, PutItem
from feedgen.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    store.open()
    print("open", flush=True)
    item = decode_item("alerts/weather", b"storm")
    for n in range(1, 1_000_000):
        record = Record(n, 0, item, 1, 2, digest(item))
        await store.submit((PutItem(record), PutDevice(f"d{n}", b"x")))
        print(n, flush=True)

asyncio.run(main())
"""

# Root may write anywhere, so the child becomes nobody once it has imported what it needs.
READER = """
import os, sys
from feedgen.store import StoreError
from feedgen.store.sqlite import SqliteStore

if os.geteuid() == 0:
    os.setuid(65534)
try:
    SqliteStore(sys.argv[1]).open()
except StoreError as error:
    print(error)
"""


@contextmanager
def writer(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the store in `directory` open and prints each n that is durable."""
    command = [sys.executable, "-c", WRITER, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let every write past `size` bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def write_lock(directory: Path) -> Iterator[None]:
    """Hold the file's write lock from another connection, as a careless shell does."""
    with closing(sqlite3.connect(directory / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def until_down(store: Store) -> None:
    async with asyncio.timeout(30):
        while store.up:  # noqa: ASYNC110 - the store promises no event for this
            await asyncio.sleep(0)


async def test_everything_that_was_resolved_survives_kill_9(tmp_path: Path):
    with writer(tmp_path) as process:
        assert process.stdout is not None
        for _ in range(50):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
    durable = int(said[-1]) if said else 50
    loaded = await run(SqliteStore(tmp_path))
    numbers = [kept.n for kept in loaded.records]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= durable
    assert {device for device, _ in loaded.devices} == {f"d{n}" for n in numbers}
    assert loaded.next_n == len(numbers) + 1
    assert not loaded.clean


async def test_a_second_process_is_told_who_has_the_store_until_that_one_dies(tmp_path: Path):
    with (
        writer(tmp_path) as process,
        pytest.raises(StoreError, match=rf"another server \(process {process.pid}\)"),
    ):
        SqliteStore(tmp_path).open()
    await run(SqliteStore(tmp_path))


async def test_a_commit_that_meets_a_lock_is_repeated_until_the_lock_is_gone(tmp_path: Path):
    store = SqliteStore(tmp_path)
    store.open()
    with write_lock(tmp_path):
        future = store.submit((PutDevice("a", b"1"),))
        await until_down(store)
        assert not future.done()
        assert store.errors >= 1
        assert store.fault is not None
        assert "Another program holds a write lock" in store.fault
    await future
    assert (store.up, store.pending) == (True, 0)
    await store.close(clean=True)
    assert (await run(SqliteStore(tmp_path))).devices == [("a", b"1")]


async def test_a_commit_that_fails_on_the_disk_is_repeated_until_there_is_room(tmp_path: Path):
    store = SqliteStore(tmp_path)
    store.open()
    with file_size_limit((tmp_path / f"{FILE}-wal").stat().st_size):
        futures = [store.submit((PutItem(record(n, payload=b"x" * 9_000)),)) for n in range(1, 9)]
        await until_down(store)
        assert not any(future.done() for future in futures)
    await asyncio.gather(*futures)
    assert store.up
    await store.close(clean=True)
    assert len((await run(SqliteStore(tmp_path))).records) == 8


async def test_closing_while_commits_fail_gives_up_and_says_so(tmp_path: Path):
    store = SqliteStore(tmp_path)
    store.open()
    await store.submit((PutDevice("a", b"kept"),))
    with write_lock(tmp_path):
        lost = store.submit((PutDevice("a", b"lost"),))
        await until_down(store)
        with pytest.raises(StoreError, match="write lock"):
            await store.close(clean=True)
        with pytest.raises(StoreError, match="write lock"):
            await lost
    loaded = await run(SqliteStore(tmp_path))
    assert loaded.devices == [("a", b"kept")]
    assert not loaded.clean


async def test_a_stop_that_lost_something_is_not_clean_even_if_the_mark_could_be_written(
    tmp_path: Path,
):
    store = SqliteStore(tmp_path)
    store.open()
    room_for_the_mark = 16_384
    with file_size_limit((tmp_path / f"{FILE}-wal").stat().st_size + room_for_the_mark):
        lost = store.submit((PutItem(record(1, payload=b"x" * 60_000)),))
        await until_down(store)
        fits = store.submit((PutDevice("a", b""),))
        with pytest.raises(StoreError, match="disk"):
            await store.close(clean=True)
    assert isinstance(lost.exception(), StoreError)
    assert fits.exception() is None
    loaded = await run(SqliteStore(tmp_path))
    assert loaded.devices == [("a", b"")]
    assert not loaded.clean


async def test_what_piled_up_behind_a_failing_commit_goes_into_few_statements(tmp_path: Path):
    store = SqliteStore(tmp_path)
    store.open()
    statements: list[str] = []
    with write_lock(tmp_path):
        store.submit((PutItem(record(1)),))
        await until_down(store)
        store._connection.set_trace_callback(statements.append)
        futures = [store.submit((PutItem(record(n)),)) for n in range(2, 1_002)]
    await asyncio.gather(*futures)
    store._connection.set_trace_callback(None)
    # Of the first item, BEGIN, COMMIT, and 1 000 = 3 x 256 + 128 + 64 + 32 + 8; retries come on top.
    assert len(statements) - 2 * store.errors <= 10
    await store.close(clean=True)
    assert len((await run(SqliteStore(tmp_path))).records) == 1_001


async def test_what_goes_first_waits_for_few_of_those_that_were_there_before(tmp_path: Path):
    store = SqliteStore(tmp_path)
    store.open()
    order: list[int] = []

    def submit(n: int, *, first: bool = False) -> asyncio.Future[None]:
        future = store.submit((PutItem(record(n)),), first=first)
        future.add_done_callback(lambda _: order.append(n))
        return future

    with write_lock(tmp_path):
        submit(1)
        await until_down(store)  # the writer is at it, and all others wait
        for n in range(2, 500):
            submit(n)
        urgent = submit(500, first=True)
        assert not urgent.done()
    await urgent
    assert order.index(500) <= 1
    assert len(order) <= 1 + 1 + FEW
    await store.submit(())
    assert sorted(order) == list(range(1, 501))
    await store.close(clean=True)
    assert len((await run(SqliteStore(tmp_path))).records) == 500


async def test_what_follows_a_commit_and_fails_keeps_nobody_else_from_hearing(tmp_path: Path):
    store = SqliteStore(tmp_path)
    store.open()
    failures: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, about: failures.append(repr(about["exception"]))
    )
    heard: list[int] = []
    with write_lock(tmp_path):  # so that all of them are one batch
        store.submit((PutItem(record(1)),), then=lambda: heard.append(1))
        store.submit((PutItem(record(2)),), then=lambda: heard.append(1 // 0))
        store.submit((PutItem(record(3, version=1 << 80)),), then=lambda: heard.append(3))
        last = store.submit((PutItem(record(4)),), then=lambda: heard.append(4))
    await last
    assert heard == [1, 4]
    gc.collect()  # nobody asks for the error of the third, and nobody complains
    assert failures == ["ZeroDivisionError('integer division or modulo by zero')"]
    await store.close(clean=True)


async def test_an_item_that_cannot_be_encoded_is_refused_alone_and_whole(tmp_path: Path):
    store = SqliteStore(tmp_path)
    store.open()
    broken = record(2, version=1 << 80)
    before = store.submit((PutItem(record(1)),))
    refused = store.submit((PutDevice("a", b"part of it"), PutItem(broken)))
    after = store.submit((PutItem(record(3)),))
    await asyncio.gather(before, after)
    with pytest.raises(StoreError, match="cannot be encoded"):
        await refused
    assert store.up
    await store.close(clean=True)
    loaded = await run(SqliteStore(tmp_path))
    assert [found.n for found in loaded.records] == [1, 3]
    assert loaded.devices == []


async def test_a_commit_is_on_the_disk_and_not_only_on_its_way(tmp_path: Path):
    store = SqliteStore(tmp_path)
    store.open()
    pragma = {
        name: store._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    }
    assert pragma == {"journal_mode": "wal", "synchronous": 2}  # 2 = FULL: an fsync per commit
    await store.close(clean=True)


async def test_a_backup_can_be_taken_while_the_store_is_in_use(tmp_path: Path):
    store = SqliteStore(tmp_path / "data")
    store.open()
    await store.submit((PutDevice("a", b"1"),))
    (tmp_path / "copy").mkdir()
    with (
        closing(sqlite3.connect(tmp_path / "data" / FILE)) as source,
        closing(sqlite3.connect(tmp_path / "copy" / FILE)) as target,
    ):
        source.backup(target)
    await store.close(clean=True)
    assert (await run(SqliteStore(tmp_path / "copy"))).devices == [("a", b"1")]


def bytes_of(directory: Path) -> bytes:
    """All that the files of a store hold, old pages and the log included."""
    return b"".join(path.read_bytes() for path in sorted(directory.iterdir()))


async def test_of_a_dropped_device_nothing_is_left_in_any_file(tmp_path: Path):
    store = SqliteStore(tmp_path)
    store.open()
    for turn in range(3):  # pages and overflow pages, rewritten and moved
        blobs = [(f"device-{i}", b"private-%d-" % i * (i * turn + 1)) for i in range(200)]
        await store.submit([PutDevice(device, blob) for device, blob in blobs])
    await store.submit(
        (PutItem(record(1)), PutDevice("the-lost-one", b"secret"), Dismiss("the-lost-one", 1))
    )
    assert b"the-lost-one" in bytes_of(tmp_path)
    await store.submit((DropDevice("the-lost-one"), DropDevice("device-7")))
    left = bytes_of(tmp_path)
    assert not any(text in left for text in (b"the-lost-one", b"secret", b"private-7-"))
    assert (tmp_path / f"{FILE}-wal").stat().st_size == 0
    await store.submit((DropDevice("device-8"), DropDevice("device-9")))
    assert b"private-8-" not in bytes_of(tmp_path)
    assert b"private-10-" in bytes_of(tmp_path)
    await store.close(clean=True)


async def test_a_reader_puts_off_the_end_of_the_log_and_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("feedgen.store.sqlite.LAST_RETRY", 0.05)
    store = SqliteStore(tmp_path)
    store.open()
    await store.submit((PutDevice("a", b"private"),))
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM devices").fetchone() == (1,)
        await store.submit((DropDevice("a"),))
        await store.submit((PutDevice("b", b"1"),))
        assert b"private" in bytes_of(tmp_path)
        reader.execute("COMMIT")
    async with asyncio.timeout(30):
        while b"private" in bytes_of(tmp_path):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    await store.close(clean=True)
    assert (await run(SqliteStore(tmp_path))).devices == [("b", b"1")]


async def test_a_log_that_the_last_run_left_is_cut_when_the_store_is_opened(tmp_path: Path):
    store = SqliteStore(tmp_path / "data")
    store.open()
    with closing(sqlite3.connect(tmp_path / "data" / FILE, isolation_level=None)) as reader:
        await store.submit((PutDevice("a", b"private"),))
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM devices").fetchone()
        await store.submit((DropDevice("a"),))
        shutil.copytree(tmp_path / "data", tmp_path / "copy")  # as after a power cut
    await store.close(clean=True)
    assert b"private" in bytes_of(tmp_path / "copy")
    again = SqliteStore(tmp_path / "copy")
    assert again.open().devices == []
    assert b"private" not in bytes_of(tmp_path / "copy")
    await again.close(clean=True)


async def test_nobody_else_can_read_what_is_stored(tmp_path: Path):
    store = SqliteStore(tmp_path / "data")
    store.open()
    await store.submit((PutDevice("a", b"1"),))
    paths = [tmp_path / "data", *(tmp_path / "data").iterdir()]
    assert len(paths) == 5  # the directory, the lock, the file, its log and the log's index
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in paths)
    await store.close(clean=True)


def test_a_directory_that_cannot_be_written_is_said_to_be_so():
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o555)
        command = [sys.executable, "-c", READER, directory]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Permission denied): make it writable for this user" in said


def test_a_directory_that_is_a_file_is_said_to_be_so(tmp_path: Path):
    (tmp_path / "data").touch()
    with pytest.raises(StoreError, match="File exists"):
        SqliteStore(tmp_path / "data").open()


def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path):
    (tmp_path / FILE).write_bytes(os.urandom(8_192))
    with pytest.raises(StoreError, match="damaged: restore a backup"):
        SqliteStore(tmp_path).open()


async def test_a_file_with_a_broken_page_is_called_damaged(tmp_path: Path):
    await run(SqliteStore(tmp_path), *((PutItem(record(n)),) for n in range(1, 500)))
    data = bytearray((tmp_path / FILE).read_bytes())
    for page in range(5 * 4_096, len(data), 4_096):  # the schema stays, the rows go
        data[page : page + 64] = b"\xff" * 64
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(StoreError, match="damaged: restore a backup"):
        SqliteStore(tmp_path).open()


async def test_a_record_that_cannot_be_read_is_not_passed_over_and_nothing_is_changed(
    tmp_path: Path,
):
    await run(SqliteStore(tmp_path), (PutItem(record(1)),))
    edit(tmp_path, "UPDATE items SET record = x'c1'")
    with pytest.raises(StoreError, match="item that cannot be read"):
        SqliteStore(tmp_path).open()
    edit(tmp_path, "DELETE FROM items")
    assert (await run(SqliteStore(tmp_path))).clean


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path):
    await run(SqliteStore(tmp_path))
    edit(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"newer version \(schema 99"):
        SqliteStore(tmp_path).open()
    edit(tmp_path, "PRAGMA user_version = 1")
    assert (await run(SqliteStore(tmp_path))).clean


def test_a_database_of_another_program_is_left_alone(tmp_path: Path):
    edit(tmp_path, "CREATE TABLE theirs (x)")
    with pytest.raises(StoreError, match="database of another program"):
        SqliteStore(tmp_path).open()


async def test_a_store_that_could_not_be_opened_can_be_once_the_reason_is_gone(tmp_path: Path):
    (tmp_path / FILE).write_bytes(b"no database" * 1_000)
    store = SqliteStore(tmp_path)
    with pytest.raises(StoreError):
        store.open()
    (tmp_path / FILE).unlink()
    await run(store, (PutDevice("a", b""),))


def edit(directory: Path, sql: str) -> None:
    """Change the file behind the store's back."""
    with closing(sqlite3.connect(directory / FILE)) as connection:
        connection.execute(sql)
        connection.commit()
