"""The embedded store: one SQLite file, one writer thread, group commit.

`submit` only appends to a queue. The writer takes everything that is pending, folds it into the few
statements that lead to the same end, commits them as one transaction and wakes the loop once. So one
fsync serves all that arrived while the one before was running, and throughput grows with load. What is
to go first has a queue of its own, and shares its transaction with a few of the others only: under load
a transaction has hundreds of items, and urgent ones do not wait for them.

The thread asks for Python's interpreter lock as rarely as it can: sqlite3 gives the lock away around
every step of a statement, and has to wait for it again whenever the loop is busy. Therefore many rows
go into one statement (`executemany` makes a step of each row), and a batch that comes down to one
statement is its own transaction, without BEGIN and COMMIT.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import sys
import threading
from collections import deque
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from feedgen.items import pack_record
from feedgen.store.base import (
    Dismiss,
    DropDevice,
    DropItems,
    Loaded,
    Op,
    PutDevice,
    PutItem,
    StoreError,
)
from feedgen.store.sqlite_file import connect, cut_log, explain, load, lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

# Ops per transaction, unless one submission has more: bounds how long the first waits for the last when
# 1 000 000 sessions are put at a clean stop, and how far the write-ahead log grows.
MAX_BATCH = 4096
# Ops that go along with what is to go first: few, so that it is soon there; some, so that it never keeps
# the others out.
FEW = 32
# Rows per statement: a power of two, so that any number of rows needs few statements, all cached.
MAX_ROWS = 256
# Seconds between attempts while commits fail: short enough not to be noticed when a lock was the
# reason, and at most every few seconds on a full disk.
FIRST_RETRY = 0.05
LAST_RETRY = 5.0
# Python's switch interval while a store is open, in seconds. A thread that wants the interpreter lock
# asks for it only after a whole interval in which nobody let go of it, and a busy loop lets go at every
# turn without anybody getting hold of it. With the default of 5 ms and turns of 2 ms, a commit was
# starved for 24 s; with this it took 6 ms at the 99th percentile.
SWITCH_INTERVAL = 50e-6

_WAKE = None
"""In the queue: there is something in the other one."""

_Submission = tuple[tuple[Op, ...], "asyncio.Future[None]", "Callable[[], None] | None"]
_Statement = tuple[str, "Sequence[Any]"]
_T = TypeVar("_T")


class SqliteStore:
    """Everything in `directory`/fleetfeed.db; see `Store` for the contract.

    Write-ahead log with `synchronous=FULL`: a resolved future means that fsync has returned. The
    directory belongs to one process at a time, by an flock that dies with the process. Other programs
    may read the file while it is in use, for a backup say. `open` lowers the interpreter's switch
    interval for the whole process (see `SWITCH_INTERVAL`).

    What is deleted is overwritten with zeros (`secure_delete`). A dropped device is also gone from the
    write-ahead log, which holds earlier pages: the log is cut to nothing before that submission
    resolves, or, if another program is reading the file at that moment, as soon as it has ended.
    """

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._lock = -1
        self._connection: sqlite3.Connection
        self._queue: SimpleQueue[_Submission | _Stop | None] = SimpleQueue()
        self._ahead: deque[_Submission] = deque()
        self._closing = threading.Event()
        self._is_open = False
        self._next_n = 1
        self._pending = 0
        self._errors = 0
        self._fault: str | None = None
        self._log_is_due = False

    @property
    def up(self) -> bool:
        """Whether the last attempt to commit succeeded."""
        return self._fault is None

    @property
    def fault(self) -> str | None:
        """Why commits fail at the moment, as a sentence for an operator; None while `up`."""
        return self._fault

    @property
    def pending(self) -> int:
        """Submissions not yet resolved."""
        return self._pending

    @property
    def errors(self) -> int:
        """Failed attempts to commit since `open`."""
        return self._errors

    def open(self) -> Loaded:
        """Create, migrate or read the file, and mark it unclean; see `Store.open`.

        Raises:
            StoreError: It cannot be used; the message says why and what to do.
        """
        if self._is_open:
            raise StoreError(f"{self._directory} is open already in this process.")
        try:
            with contextlib.ExitStack() as undo:
                self._lock = lock(self._directory)
                undo.callback(os.close, self._lock)
                self._connection = connect(self._directory)
                undo.callback(self._connection.close)
                loaded = load(self._connection)
                undo.pop_all()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(explain(error, self._directory)) from error
        self._next_n = loaded.next_n
        self._errors, self._fault = 0, None
        self._log_is_due = not cut_log(
            self._connection
        )  # the last run may have died before it could
        self._closing.clear()
        self._is_open = True
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL))
        # A daemon, so that a process that dies by an exception is not held back by its store; what was
        # not committed then was not acknowledged either.
        threading.Thread(target=self._write, name="fleetfeed-store", daemon=True).start()
        return loaded

    def submit(
        self,
        ops: Sequence[Op],
        *,
        first: bool = False,
        then: Callable[[], None] | None = None,
    ) -> asyncio.Future[None]:
        """Queue `ops` for the next group commit; see `Store.submit`.

        Raises:
            StoreError: The store is not open.
        """
        if not self._is_open:
            raise StoreError("The store is not open.")
        future = asyncio.get_running_loop().create_future()
        self._pending += 1
        if first:
            self._ahead.append((tuple(ops), future, then))
            self._queue.put(_WAKE)
        else:
            self._queue.put((tuple(ops), future, then))
        return future

    async def close(self, clean: bool) -> None:
        """Commit what is pending, mark a clean stop, and let go; see `Store.close`.

        Raises:
            StoreError: What was pending, or the clean mark, could not be written.
        """
        if not self._is_open:
            return
        self._is_open = False
        stopped = asyncio.get_running_loop().create_future()
        self._queue.put(_Stop(clean, stopped))
        self._closing.set()
        await stopped

    # From here on: the writer thread, but for `_resolve`.

    def _write(self) -> None:
        lost: StoreError | None = None
        stop: _Stop | None = None
        while stop is None:
            submissions, stop = self._take()
            batch, refused = self._fold(submissions)
            error = self._commit(batch.statements())
            lost = lost or error
            self._log_is_due |= bool(batch.gone_devices) and error is None
            if self._log_is_due:
                self._log_is_due = not cut_log(self._connection)
            if submissions:
                _call(submissions[0][1], self._resolve, submissions, refused, error)
        if stop.clean and lost is None:
            lost = self._commit([("UPDATE meta SET value = 1 WHERE name = 'clean'", ())])
        with contextlib.suppress(sqlite3.Error):  # closing writes the log back, which is no duty
            self._connection.close()
        os.close(self._lock)
        _call(stop.future, _settle, stop.future, lost)

    def _take(self) -> tuple[list[_Submission], _Stop | None]:
        """Wait for a submission and take whatever else is there, up to `MAX_BATCH` ops.

        What is to go first comes first, and then at most `FEW` others. Comes back with nothing after a
        while if the log is still to be cut.
        """
        taken: list[_Submission] = []
        size, most = 0, MAX_BATCH
        while True:
            while self._ahead:
                taken.append(self._ahead.popleft())
                most = FEW
            if taken and (size >= most or self._queue.empty()):
                return taken, None
            try:
                entry = self._queue.get(timeout=LAST_RETRY if self._log_is_due else None)
            except Empty:
                return taken, None
            if isinstance(entry, _Stop):
                taken.extend(self._ahead)  # nobody adds to it any more
                self._ahead.clear()
                return taken, entry
            if entry is not _WAKE:
                taken.append(entry)
                size += len(entry[0])

    def _fold(self, submissions: list[_Submission]) -> tuple[_Batch, dict[int, StoreError]]:
        """Fold all submissions into one batch; those that cannot be encoded are refused, by index."""
        batch = _Batch(self._next_n)
        refused: dict[int, StoreError] = {}
        for index, (ops, _, _) in enumerate(submissions):
            try:
                # Before the first op is folded, for a submission counts whole or not at all.
                packed = [pack_record(op.record) if isinstance(op, PutItem) else b"" for op in ops]
            except Exception as error:  # noqa: BLE001 - one caller's mistake must not stop the others
                refused[index] = StoreError(f"An item cannot be encoded for the store: {error!r}")
                continue
            for op, record in zip(ops, packed, strict=True):
                batch.fold(op, record)
        self._next_n = batch.next_n
        return batch, refused

    def _commit(self, statements: list[_Statement]) -> StoreError | None:
        """Commit until it succeeds; when the store is closing, return the error of a last attempt.

        A commit that reported failure may have been written after all. All statements are idempotent,
        so to repeat them is right in either case, and it writes again the pages of a failed fsync.
        """
        delay = FIRST_RETRY
        while True:
            is_last = self._closing.is_set()
            try:
                _execute(self._connection, statements)
            except Exception as error:  # noqa: BLE001 - whatever it is, this thread must live to retry
                self._errors += 1
                self._fault = explain(error, self._directory)
                if is_last:
                    return StoreError(self._fault)
            else:
                self._fault = None
                return None
            self._closing.wait(delay)
            delay = min(2 * delay, LAST_RETRY)

    def _resolve(
        self,
        submissions: list[_Submission],
        refused: dict[int, StoreError],
        error: StoreError | None,
    ) -> None:
        """On the loop: settle a batch in the order in which it was taken."""
        self._pending -= len(submissions)
        for index, (_, future, then) in enumerate(submissions):
            fault = refused.get(index, error) if refused else error
            if then is not None and fault is None:
                try:
                    then()
                except Exception as failure:  # noqa: BLE001 - as of a future's callback: the others still hear
                    what = {"message": "what follows a commit has failed", "exception": failure}
                    future.get_loop().call_exception_handler(what)
            _settle(future, fault)
            if then is not None and fault is not None and not future.cancelled():
                future.exception()  # so that nobody has to look at it


@dataclass(frozen=True, slots=True)
class _Stop:
    """The last entry of the queue."""

    clean: bool
    future: asyncio.Future[None]


@dataclass(slots=True)
class _Batch:
    """What many ops come down to: deletions first, then what was put and not dropped again."""

    next_n: int
    items: dict[int, bytes] = field(default_factory=dict)
    devices: dict[str, bytes] = field(default_factory=dict)
    dismissed: dict[int, set[str]] = field(default_factory=dict)
    gone_items: set[int] = field(default_factory=set)
    gone_devices: set[str] = field(default_factory=set)

    def fold(self, op: Op, packed: bytes) -> None:
        """Take in one op; `packed` is the record of a `PutItem` as bytes."""
        match op:
            case PutItem(record):
                self.items[record.n] = packed
                self.next_n = max(self.next_n, record.n + 1)
            case DropItems(ns):
                self.gone_items.update(ns)
                for n in ns:
                    self.items.pop(n, None)
                    self.dismissed.pop(n, None)
            case PutDevice(device, blob):
                self.devices[device] = blob
            case DropDevice(device):
                self.gone_devices.add(device)
                self.devices.pop(device, None)
                for devices in self.dismissed.values():
                    devices.discard(device)
            case Dismiss(device, n):
                self.dismissed.setdefault(n, set()).add(device)

    def statements(self) -> list[_Statement]:
        """The SQL that makes it so; none if nothing changes."""
        pairs = [(n, device) for n, devices in self.dismissed.items() for device in devices]
        statements = [
            *_delete("items", "n", self.gone_items),
            *_delete("dismissed", "n", self.gone_items),
            *_delete("devices", "device", self.gone_devices),
            *_delete("dismissed", "device", self.gone_devices),
            *_insert("REPLACE INTO items (n, record)", self.items.items()),
            *_insert("REPLACE INTO devices (device, profile)", self.devices.items()),
            *_insert("INSERT OR IGNORE INTO dismissed (n, device)", pairs),
        ]
        if self.gone_items:  # otherwise the highest n is still in the table
            statements.append(("UPDATE meta SET value = ? WHERE name = 'next_n'", (self.next_n,)))
        return statements


def _delete(table: str, column: str, keys: Iterable[int | str]) -> Iterator[_Statement]:
    for chunk in _chunks(list(keys)):
        marks = ",".join("?" * len(chunk))
        yield f"DELETE FROM {table} WHERE {column} IN ({marks})", chunk  # noqa: S608 - our own names


def _insert(into: str, rows: Iterable[tuple[Any, Any]]) -> Iterator[_Statement]:
    for chunk in _chunks(list(rows)):
        marks = ",".join(["(?,?)"] * len(chunk))
        yield f"{into} VALUES {marks}", list(chain.from_iterable(chunk))


def _chunks(rows: list[_T]) -> Iterator[list[_T]]:
    """Cut `rows` into lists whose lengths are powers of two, the longest first."""
    start = 0
    while left := len(rows) - start:
        size = min(MAX_ROWS, 1 << (left.bit_length() - 1))
        yield rows[start : start + size]
        start += size


def _execute(connection: sqlite3.Connection, statements: list[_Statement]) -> None:
    """Run `statements` as one transaction; if one fails, none has happened."""
    if len(statements) == 1:
        connection.execute(*statements[0])
    elif statements:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for sql, values in statements:
                connection.execute(sql, values)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _call(future: asyncio.Future[None], function: Callable[..., None], *arguments: object) -> None:
    """Have the loop of `future` call `function`; nobody waits on a loop that is closed."""
    with contextlib.suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(function, *arguments)


def _settle(future: asyncio.Future[None], error: StoreError | None) -> None:
    if future.done():  # cancelled
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
