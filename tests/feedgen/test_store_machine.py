"""The store's contract as a machine: SQLite does what memory does, however its process ends.

A kill is a copy of the files, taken at any moment while the writer works: what a process that is gone
leaves to the next. A power cut may also take away what the log gained since the last future resolved.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from feedgen.items import Record, decode_item, digest
from feedgen.store import Dismiss, DropDevice, DropItems, Loaded, Op, PutDevice, PutItem
from feedgen.store.memory import MemoryStore
from feedgen.store.sqlite import SqliteStore
from feedgen.store.sqlite_file import FILE

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    T = TypeVar("T")

Ops = tuple[Op, ...]


def record(n: int, version: int, size: int) -> Record:
    item = decode_item("alerts/weather", b"s" * size)
    return Record(n, version, item, 1_700_000_000_000 + n, 1_700_086_400, digest(item))


numbers = st.integers(1, 6)
names = st.sampled_from("abc")
ops = st.one_of(
    # 9 000 bytes are more than two pages, so that a record can be torn.
    st.builds(
        lambda n, version, size: PutItem(record(n, version, size)),
        numbers,
        st.integers(0, 3),
        st.sampled_from((1, 9_000)),
    ),
    st.builds(lambda ns: DropItems(tuple(ns)), st.lists(numbers, max_size=3)),
    st.builds(PutDevice, names, st.binary(max_size=2)),
    st.builds(DropDevice, names),
    st.builds(Dismiss, names, numbers),
)
submissions = st.lists(ops, max_size=4).map(tuple)


def content(loaded: Loaded) -> tuple[object, ...]:
    """What was found, in short; `record` makes the rest of a record from these three."""
    records = [(kept.n, kept.version, len(kept.item.payload)) for kept in loaded.records]
    return records, loaded.devices, loaded.dismissed, loaded.next_n


class StoreMachine(RuleBasedStateMachine):
    """One store through many runs.

    Attributes:
        runs: What each run so far is known to have kept, submission by submission.
        pending: What was submitted in this run and has not resolved.
    """

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.scratch = Path(tempfile.mkdtemp())
        self.copies = 0

    @initialize()
    def the_first_run_begins(self) -> None:
        self.runs: list[list[Ops]] = [[]]
        self.pending: list[tuple[Ops, asyncio.Future[None]]] = []
        self.directory = self.scratch / "0"
        self.store = SqliteStore(self.directory)
        self.key = self.store.open().key
        self.mark_what_is_durable()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    # ---- Rules

    @rule(ops=submissions)
    def something_is_submitted(self, ops: Ops) -> None:
        async def submit() -> asyncio.Future[None]:
            return self.store.submit(ops)

        self.pending.append((ops, self.run(submit())))

    @rule()
    def what_was_submitted_first_resolves(self) -> None:
        async def wait(future: asyncio.Future[None]) -> None:
            await future

        if self.pending:
            self.run(wait(self.pending[0][1]))
            self.settle_what_resolved()

    @rule()
    def everything_resolves(self) -> None:
        async def wait() -> None:
            await self.store.submit(())

        self.run(wait())
        self.settle_what_resolved()
        assert not self.pending
        assert self.store.pending == 0

    def settle_what_resolved(self) -> None:
        """Futures resolve in the order of submission."""
        resolved = [future.done() for _, future in self.pending]
        count = sum(resolved)
        assert resolved == [True] * count + [False] * (len(resolved) - count)
        for _, future in self.pending[:count]:
            assert future.exception() is None
        self.runs[-1] += [ops for ops, _ in self.pending[:count]]
        del self.pending[:count]
        self.mark_what_is_durable()

    @rule(clean=st.booleans())
    def the_process_stops(self, clean: bool) -> None:
        self.run(self.store.close(clean))
        self.settle_what_resolved()
        assert not self.pending
        self.next_run(clean=clean, possible=[self.expected([])])

    @rule(more=st.lists(submissions, max_size=4))
    def the_process_is_killed(self, more: list[Ops]) -> None:
        self.end(more, power_cut=None)

    @rule(more=st.lists(submissions, max_size=4), tail=st.integers(0, 40_000))
    def the_power_fails(self, more: list[Ops], tail: int) -> None:
        self.end(more, power_cut=tail)

    def end(self, more: list[Ops], *, power_cut: int | None) -> None:
        """Go on with a copy of the files, made while `more` is on its way."""
        for ops in more:
            self.something_is_submitted(ops)
        before, (directory, log) = self.directory, self.copy()
        if power_cut is not None and self.durable[0] == (directory / FILE).read_bytes():
            log = log[: self.durable[1] + power_cut]
        (directory / f"{FILE}-wal").write_bytes(log)
        self.run(self.store.close(clean=False))
        shutil.rmtree(before)
        self.directory = directory
        lost = [ops for ops, _ in self.pending]
        self.pending.clear()
        possible = [self.expected(lost[:kept]) for kept in range(len(lost) + 1)]
        kept = self.next_run(clean=False, possible=possible)
        self.runs[-2] += lost[:kept]

    # ---- Files

    def mark_what_is_durable(self) -> None:
        """Content of the database and size of its log when what has resolved was synchronised."""
        log = self.directory / f"{FILE}-wal"
        size = log.stat().st_size if log.exists() else 0  # closing takes it away
        self.durable = (self.directory / FILE).read_bytes(), size

    def copy(self) -> tuple[Path, bytes]:
        """The files at one moment: the log as read between two equal readings of the database.

        The database changes when a log is written back to it, and then the log read may be of before.
        """
        self.copies += 1
        target = self.scratch / str(self.copies)
        target.mkdir()
        for _ in range(1_000):
            database = (self.directory / FILE).read_bytes()
            log = (self.directory / f"{FILE}-wal").read_bytes()
            if (self.directory / FILE).read_bytes() == database:
                (target / FILE).write_bytes(database)
                return target, log
        raise AssertionError("the database never stands still")

    # ---- What must be there

    def expected(self, more: list[Ops]) -> Loaded:
        """What memory holds after the same runs, if `more` was kept of the last one."""

        async def play() -> Loaded:
            store = MemoryStore()
            for submitted in (*self.runs[:-1], [*self.runs[-1], *more]):
                store.open()
                for ops in submitted:
                    store.submit(ops)
                await store.close(clean=True)
            return store.open()

        return self.run(play())

    def next_run(self, *, clean: bool, possible: list[Loaded]) -> int:
        """Open what is there; which of what is possible was found, the fullest if several are alike."""
        self.store = SqliteStore(self.directory)
        found = self.store.open()
        assert found.clean is clean
        assert found.key == self.key
        alike = [at for at, loaded in enumerate(possible) if content(loaded) == content(found)]
        assert alike, (content(found), [content(loaded) for loaded in possible])
        self.runs.append([])
        self.mark_what_is_durable()
        return alike[-1]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.run(self.store.close(clean=True))
        self.runner.close()
        shutil.rmtree(self.scratch)


StoreMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestStoreMachine = StoreMachine.TestCase
