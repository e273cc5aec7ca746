"""A window and its position kept in a file, so that a device resumes where it was after a restart.

The file is a snapshot frame behind a checksum that covers the device's id: a file that was torn,
damaged or written for another device is noticed, and none is ever taken for a position.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices.frames import BadFrame, Snapshot, decode_frame, encode_frame

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"fleetfeed window 1\n"
_CHECKSUM_BYTES = 4


class WindowFileError(Exception):
    """The file is there but cannot be used, or cannot be written; the sentence says why."""


@dataclass(frozen=True, slots=True)
class WindowFile:
    """The window of `device` in the file at `path`."""

    path: Path
    device: str

    def load(self) -> Snapshot | None:
        """What `save` wrote last, or None if there is no file.

        Raises:
            WindowFileError: unreadable, damaged, or another device's.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WindowFileError(f"cannot read the window in {self.path}: {error}") from error
        head = len(_MAGIC) + _CHECKSUM_BYTES
        frame = data[head:]
        if data[:head] != self._head(frame):
            raise WindowFileError(f"{self.path} is damaged or not a window of {self.device!r}")
        try:
            snapshot = decode_frame(frame)
        except BadFrame as error:
            raise WindowFileError(f"{self.path} holds no window: {error}") from error
        if not isinstance(snapshot, Snapshot):
            raise WindowFileError(f"{self.path} holds a frame that is no window")
        return snapshot

    def save(self, snapshot: Snapshot) -> None:
        """Replace the file by `snapshot`; afterwards it is on the disk, or the old one still is.

        Raises:
            WindowFileError: the disk is full, the directory is gone…; the old file is untouched.
        """
        frame = encode_frame(snapshot)
        temporary = self.path.with_name(f"{self.path.name}.new")
        try:
            with temporary.open("wb") as file:
                file.write(self._head(frame) + frame)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise WindowFileError(f"cannot keep the window in {self.path}: {error}") from error

    def _head(self, frame: bytes) -> bytes:
        checksum = zlib.crc32(self.device.encode() + b"\0" + frame)
        return _MAGIC + checksum.to_bytes(_CHECKSUM_BYTES, "big")


def _sync_directory(path: Path) -> None:
    """Make a rename in a directory durable; Windows cannot open directories, and need not."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
