"""The files of the decision log, as its writer has them: filled one after the other, and rid of a device.

Nothing here locks threads out; `decision_log.DecisionLog` does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from typing import TYPE_CHECKING

from feedgen.ranking.decisions import BadDecision, without
from feedgen.store.base import StoreError
from feedgen.store.decision_reading import MAGIC, NAME, named, numbered, whole

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable
    from pathlib import Path

LOCK = "decisions.lock"
_PENDING = re.compile(r"erase-([0-9a-f]{16})")
_TEMPORARY = ".tmp"
# Searched at a time, so that no search keeps the interpreter lock for longer than about 1 ms.
_PIECE = 1 << 20


def lock(directory: Path) -> int:
    """Make the directory if need be and take it for this process; returns the descriptor to close.

    Raises:
        StoreError: Another one writes there.
    """
    # Closed to other users: who was shown what is nobody else's business.
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreError(
            f"A server writes the decision log in {directory}: let it do this, or stop it."
        ) from error
    return descriptor


class Files:
    """The files of a directory that this process has locked.

    Attributes:
        counts: adds up `bytes` written, `files_deleted` and `bytes_deleted` beyond the bound, and
            `bytes_cut` of torn tails.

    Raises:
        OSError: By every method: the disk fails. The object stays usable; what was to be appended is
            then not in the log, or not whole.
        StoreError: A newer version wrote there.
    """

    def __init__(
        self, directory: Path, max_bytes: int, file_bytes: int, counts: Counter[str]
    ) -> None:
        self.counts = counts
        self._directory = directory
        self._max_bytes = max_bytes
        self._file_bytes = file_bytes
        self._descriptor = -1
        self._sealed = False  # the last file may not grow, whatever its size
        for path in directory.iterdir():
            if path.suffix == _TEMPORARY and NAME.fullmatch(path.stem):
                path.unlink()
        self._sizes = {n: path.stat().st_size for n, path in numbered(directory).items()}
        self._finish_erasing()
        if self._sizes:
            self._cut_tail()

    def append(self, frames: Iterable[bytes]) -> None:
        """Write frames, none of them longer than a file may be, and begin files as they are needed."""
        batch: list[bytes] = []
        size = 0
        for frame in frames:
            if batch and self._left() < size + len(frame):
                self._write(b"".join(batch))
                batch, size = [], 0
            if self._left() < len(frame):
                self._begin()
            batch.append(frame)
            size += len(frame)
        if batch:
            self._write(b"".join(batch))

    def erase(self, device: int) -> int:
        """Remove every row of a device and return how many; what is left survives a kill.

        Needs room for one more file meanwhile.
        """
        pending = self._directory / f"erase-{device:016x}"
        pending.touch(0o600)
        _sync_directory(self._directory)
        rows = self._erase(device)
        pending.unlink()
        return rows

    def close(self) -> None:
        """Make what was written durable and let go of the file."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _path(self, number: int) -> Path:
        return self._directory / named(number)

    def _left(self) -> int:
        """Bytes that the last file still takes."""
        if not self._sizes or self._sealed or (self._descriptor < 0 and not self._reopen()):
            return 0
        return self._file_bytes - self._sizes[max(self._sizes)]

    def _reopen(self) -> bool:
        """Open the last file to grow on; False if it is gone."""
        with contextlib.suppress(FileNotFoundError):
            self._descriptor = os.open(self._path(max(self._sizes)), os.O_WRONLY | os.O_APPEND)
        return self._descriptor >= 0

    def _begin(self) -> None:
        """Begin the next file."""
        self.close()
        number = max(self._sizes, default=0) + 1
        # Cut, if it is there: one that could be made and then not be begun.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC
        self._descriptor = os.open(self._path(number), flags, 0o600)
        self._sizes[number] = 0
        try:
            self._write(MAGIC)
            _sync_directory(self._directory)
        except OSError:
            del self._sizes[number]
            with contextlib.suppress(OSError):
                self.close()
            with contextlib.suppress(OSError):
                self._path(number).unlink()
            raise
        self._sealed = False

    def _write(self, data: bytes) -> None:
        """Append to the last file, all or nothing."""
        self._make_room(len(data))
        number = max(self._sizes)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            self._undo(number)
            raise
        self._sizes[number] += len(data)
        self.counts["bytes"] += len(data)

    def _undo(self, number: int) -> None:
        """Cut off what was written in part. If not even that is possible, leave this file alone."""
        try:
            os.ftruncate(self._descriptor, self._sizes[number])
        except OSError:
            self._sealed = True

    def _make_room(self, size: int) -> None:
        """Delete the oldest files until there is room; the last one stays."""
        while len(self._sizes) > 1 and sum(self._sizes.values()) + size > self._max_bytes:
            oldest = min(self._sizes)
            self._path(oldest).unlink(missing_ok=True)
            self.counts["files_deleted"] += 1
            self.counts["bytes_deleted"] += self._sizes.pop(oldest)

    def _cut_tail(self) -> None:
        """Make the last file end with a whole frame, for what is appended to be readable."""
        number = max(self._sizes)
        path = self._path(number)
        data = path.read_bytes()
        if not data.startswith(MAGIC[:-1]) or len(data) < len(MAGIC):
            # A kill between making a file and its first bytes, or damage: not for us to grow on.
            self._sealed = True
            return
        end = max((end for end, _ in whole(path, data)), default=len(MAGIC))
        if end < len(data):
            os.truncate(path, end)
            self._sizes[number] = end
            self.counts["bytes_cut"] += len(data) - end

    def _finish_erasing(self) -> None:
        """Erase again where a kill came between; what the disk does not let us do now stays noted."""
        for path in sorted(self._directory.iterdir()):
            if match := _PENDING.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    self._erase(int(match[1], 16))
                    path.unlink()

    def _erase(self, device: int) -> int:
        self.close()  # the last file may be replaced; appending opens it again
        rows = 0
        for number in self._sizes:
            with contextlib.suppress(FileNotFoundError):
                rows += _rewrite(self._path(number), device)
                self._sizes[number] = self._path(number).stat().st_size
        return rows


def _rewrite(path: Path, device: int) -> int:
    """Replace a file by one without a device, if it has any of it; returns how many rows it had."""
    if not _contains(path, device.to_bytes(8, "little")):
        return 0
    rows, kept = 0, [MAGIC]
    for _, payload in whole(path, path.read_bytes()):
        # What cannot be read may be the device's too, and so may a torn tail: neither is kept.
        with contextlib.suppress(BadDecision):
            frame, removed = without(payload, device)
            rows += removed
            kept.append(frame)
    temporary = path.with_name(path.name + _TEMPORARY)
    temporary.touch(0o600)
    try:
        with temporary.open("wb") as file:
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink()  # a full disk has no room for it
        raise
    _sync_directory(path.parent)
    return rows


def _contains(path: Path, pattern: bytes) -> bool:
    """Whether a file has these bytes anywhere: columns are raw, so no row can hide from this."""
    tail = b""
    with path.open("rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            if pattern in tail + piece:
                return True
            tail = (tail + piece)[1 - len(pattern) :]
    return False


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
