"""The decision log: every admission and every outcome, append-only, bounded, readable without the server.

    decisions-00000001.log   the oldest; each begins with its form, then frames
    decisions-00000002.log   the one that grows
    decisions.lock           held by who writes
    erase-<token>            a device whose erasure was begun

The log explains and judges a ranking; nothing depends on it. So it is fsynced only when a file is full
and at the end: a kill of the process loses what still waited (a fraction of a second), a power cut the
last seconds, and neither loses an item. Where the disk is slower than the decisions, or full, decisions
are dropped and counted, and the feed goes on.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Self

from feedgen.ranking.decisions import BadDecision, Decision, encode
from feedgen.store.base import StoreError
from feedgen.store.decision_files import Files, lock
from feedgen.store.decision_reading import MAGIC, join, read

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ["DecisionLog", "erase", "join", "read"]

logger = logging.getLogger(__name__)

MAX_BYTES = 256 << 20
FILE_BYTES = 16 << 20
MAX_WAITING = 32 << 20
# In one write: bounds how long `erase` and `close` wait for the thread.
_BATCH = 1 << 20
# What a record without rows takes in memory, about.
_RECORD = 1024


class DecisionLog:
    """Writes the log of a directory, which belongs to one process at a time.

    `append` writes in the calling thread. `offer` only queues, for an event loop that must not wait for
    a disk; a thread writes what was offered. All methods may be called from any thread.

    Args:
        directory: made by `open` if need be.
        max_bytes: of all files together; the oldest are deleted beyond it.
        file_bytes: of one file. `erase` needs as much room once more, for a moment.
        max_waiting: bytes of columns offered and not yet written.

    Attributes:
        dropped: rows that are not in the log, by reason: `queue_full`, `disk`, `too_large` for a file,
            `unencodable`, `closed`.
        counts: `rows` and `bytes` written, `rows_erased`, `files_deleted` and `bytes_deleted` beyond
            the bound, `bytes_cut` of a torn tail.
    """

    def __init__(
        self,
        directory: str | Path,
        max_bytes: int = MAX_BYTES,
        file_bytes: int = FILE_BYTES,
        *,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        if not len(MAGIC) < file_bytes <= max_bytes:
            raise ValueError("file_bytes must be positive and at most max_bytes")
        self.dropped: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._directory = Path(directory)
        self._max_bytes = max_bytes
        self._file_bytes = file_bytes
        self._max_waiting = max_waiting
        self._files: Files
        self._lock = -1
        self._fault: str | None = None
        # Two locks: who offers must not wait for who writes. Taken in this order where both are.
        self._writing = threading.RLock()
        self._queued = threading.Condition()
        self._queue: deque[tuple[Decision, int]] = deque()
        self._waiting = 0
        self._is_open = False
        self._thread: threading.Thread

    @property
    def fault(self) -> str | None:
        """Why nothing can be written at the moment, as a sentence for an operator; None if all is well."""
        return self._fault

    @property
    def waiting(self) -> int:
        """Bytes of columns that wait for the disk."""
        return self._waiting

    def open(self) -> None:
        """Take the directory, cut a torn tail, finish what `erase` had begun, and start the thread.

        Raises:
            StoreError: It cannot be used; the message says why and what to do.
        """
        if self._is_open:
            raise StoreError(f"The decision log in {self._directory} is open already.")
        try:
            self._lock, self._files = _locked(
                self._directory, self._max_bytes, self._file_bytes, self.counts
            )
        except OSError as error:
            raise StoreError(_explain(error, self._directory)) from error
        self._is_open = True
        # A daemon, as the store's: a process that dies by an exception is not held back.
        self._thread = threading.Thread(target=self._run, name="fleetfeed-decisions", daemon=True)
        self._thread.start()

    def append(self, records: Iterable[Decision]) -> None:
        """Write records before returning, behind all that was offered before.

        Raises:
            StoreError: The log is not open, or the disk fails; dropped records are counted as well.
        """
        with self._writing:
            self.flush()
            self._require_open()
            fault = self._write(records)
        if fault is not None:
            raise StoreError(fault)

    def offer(self, record: Decision) -> bool:
        """Queue a record; its columns must not be changed afterwards.

        Returns:
            False if it was dropped, which is then counted.
        """
        size = _RECORD + sum(getattr(record, name).nbytes for name in record.COLUMNS)
        with self._queued:
            if not self._is_open:
                return self._drop("closed", record)
            if self._waiting + size > self._max_waiting:
                return self._drop("queue_full", record)
            self._queue.append((record, size))
            self._waiting += size
            self._queued.notify()
        return True

    def flush(self) -> None:
        """Return when all that was offered so far is written, or counted as dropped."""
        with self._writing:
            # What is offered meanwhile is not waited for.
            left = len(self._queue)
            while left > 0 and (batch := self._take()):
                self._write(batch)
                left -= len(batch)

    def erase(self, device: int) -> int:
        """Remove every row of a device, also those that wait; see `erase` of this module.

        Takes about a second for 256 MiB, so an event loop calls it in a thread. What is offered
        afterwards is kept: see to it that the device has no row in the engine any more.

        Args:
            device: `tokens.device_token` of its id.

        Returns:
            How many rows there were.

        Raises:
            StoreError: The log is not open, or the disk fails. Then it is finished by the next `open`.
        """
        with self._writing:
            self.flush()
            self._require_open()
            try:
                rows = self._files.erase(device)
            except OSError as error:
                raise StoreError(_explain(error, self._directory)) from error
            self.counts["rows_erased"] += rows
        return rows

    def close(self) -> None:
        """Write what waits, make it durable and let go; closing what is not open does nothing.

        Raises:
            StoreError: The disk fails; the log is closed nevertheless.
        """
        with self._queued:
            if not self._is_open:
                return
            self._is_open = False
            self._queued.notify()
        self._thread.join()
        with self._writing:
            try:
                self._files.close()
            except OSError as error:
                raise StoreError(_explain(error, self._directory)) from error
            finally:
                os.close(self._lock)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        """The thread: write whatever waits, until the log is closed and nothing waits."""
        while True:
            with self._queued:
                self._queued.wait_for(lambda: self._queue or not self._is_open)
                if not self._queue and not self._is_open:
                    return
            with self._writing:
                self._write(self._take())

    def _take(self) -> list[Decision]:
        """Take the oldest of the queue, up to a batch; the caller holds `_writing`."""
        taken: list[Decision] = []
        total = 0
        with self._queued:
            while self._queue and total < _BATCH:
                record, size = self._queue.popleft()
                taken.append(record)
                total += size
            self._waiting -= total
        return taken

    def _write(self, records: Iterable[Decision]) -> str | None:
        """Write records; what cannot be is counted. Returns why the disk failed."""
        frames: list[bytes] = []
        rows = 0
        for record in records:
            frame = self._encoded(record)
            if frame:
                frames.append(frame)
                rows += len(record)
        if not frames:
            return None
        try:
            self._files.append(frames)
        except OSError as error:
            self.dropped["disk"] += rows
            return self._failed(error)
        self.counts["rows"] += rows
        if self._fault is not None:
            self._fault = None
            logger.info("the decision log is written again; lost rows: %d", self.dropped["disk"])
        return None

    def _encoded(self, record: Decision) -> bytes:
        """Return the frame of a record; nothing if it cannot be written."""
        if not len(record):
            return b""
        try:
            frame = encode(record)
        except (BadDecision, TypeError, OverflowError):
            if not self.dropped["unencodable"]:
                logger.exception("a decision cannot be encoded: this is a defect, please report it")
            self._drop("unencodable", record)
            return b""
        if len(MAGIC) + len(frame) > self._file_bytes:
            self._drop("too_large", record)
            return b""
        return frame

    def _failed(self, error: OSError) -> str:
        """Note that the disk fails; say so in the log when it begins to."""
        fault = _explain(error, self._directory)
        if self._fault is None:
            logger.warning("%s Decisions are dropped and counted until then.", fault)
        self._fault = fault
        return fault

    def _drop(self, reason: str, record: Decision) -> bool:
        self.dropped[reason] += len(record)
        return False

    def _require_open(self) -> None:
        if not self._is_open:
            raise StoreError("The decision log is not open.")


def erase(directory: str | Path, device: int) -> int:
    """Remove every row of a device from the files of a log that no server writes.

    Each file that has one is replaced by another without, atomically; torn tails of these files and
    what is not readable in them go too. After a kill in the middle, the next `DecisionLog.open` or
    `erase` of any device finishes it. Nothing is done where there is no log.

    Args:
        directory: of the log.
        device: `tokens.device_token` of its id.

    Returns:
        How many rows there were.

    Raises:
        StoreError: A server writes there (its `DecisionLog.erase` does it), or the disk fails.
    """
    path = Path(directory)
    if not path.is_dir():
        return 0
    try:
        descriptor, files = _locked(path, MAX_BYTES, FILE_BYTES, Counter())
        try:
            return files.erase(device)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(_explain(error, path)) from error


def _locked(
    directory: Path, max_bytes: int, file_bytes: int, counts: Counter[str]
) -> tuple[int, Files]:
    descriptor = lock(directory)
    try:
        return descriptor, Files(directory, max_bytes, file_bytes, counts)
    except BaseException:
        os.close(descriptor)
        raise


def _explain(error: OSError, directory: Path) -> str:
    """What `error` means for an operator."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        advice = "make room on the disk."
    elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        advice = "make the directory and its files writable for this user."
    else:
        advice = "check the disk and the system's log."
    return f"Cannot write the decision log in {directory} ({error.strerror}): {advice}"
