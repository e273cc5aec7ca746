# MicroPython: no packages, no pathlib, no contextlib, and modules that CPython has not.
# ruff: noqa: INP001, PTH104, PTH123
# mypy: ignore-errors
"""The window of one device: what frames do to it, and its file on the flash."""

from binascii import crc32
from os import rename
from struct import pack

from feedwire import MAX, Reader, array, encode


class Replica:
    """The window of one device and its position in the feed, as frames make them.

    `window` is a list of (n, expires, priority, payload), best first, of at most `k`; (`epoch`,
    `seq`) is the position, epoch 0 = none.
    """

    def __init__(self, k: int = 8) -> None:
        self.k = k
        self.epoch = self.seq = 0
        self.window = []

    def receive(self, data: bytes) -> str:
        """Take one frame; return applied, stale, gap, impossible, unknown or bad.

        After gap and impossible the device has to say hello.
        """
        try:
            return self._receive(Reader(data))
        except ValueError:
            return "bad"

    def _receive(self, frame: Reader) -> str:
        elements = frame.array()
        kind = frame.uint(0, MAX << 32)
        if kind > 1:
            self._end(frame, elements - 1)
            return "unknown"
        position = epoch, seq = frame.uint(1), frame.uint(kind)
        if kind:
            change = [frame.op() for _ in range(frame.array())]
            base = frame.uint(0, seq - 1) if elements > 4 else seq - 1
            self._end(frame, elements - (5 if elements > 4 else 4))
        else:
            k = frame.uint(1, 64)
            change = [frame.item(frame.array()) for _ in range(frame.array())]
            self._end(frame, elements - 5)
            if len(change) > k or len({item[0] for item in change}) < len(change):
                raise ValueError
        # All of the frame was read and found good before anything changes.
        if position <= (self.epoch, self.seq):
            return "stale"
        if kind and (epoch, base) != (self.epoch, self.seq):
            return "gap"
        if kind:
            change = self._changed(change)
            if change is None:
                self.epoch = self.seq = 0
                return "impossible"
        else:
            self.k = k
        self.window = change
        self.epoch, self.seq = position
        return "applied"

    def _end(self, frame: Reader, elements: int) -> None:
        frame.skip(elements)
        if frame.at < len(frame.data):
            raise ValueError

    def _changed(self, ops: list) -> list:
        # Ranks are compared, not tried: past 30 bits they are no index on a small chip.
        window = list(self.window)
        for rank, what in ops:
            if isinstance(what, tuple):
                window = [item for item in window if item[0] != what[0]]
                window.insert(min(rank, len(window)), what)
                del window[self.k :]
            elif max(rank, what or 0) >= len(window):
                return None
            else:
                item = window.pop(rank)
                if what is not None:
                    window.insert(what, item)
        return window

    def load(self, path: str) -> None:
        """Go on from what `save` kept; from nothing, if there is no such file or it is damaged."""
        try:
            with open(path, "rb") as file:
                checksum, frame = file.read(4), file.read()
        except OSError:
            return
        if checksum == pack(">I", crc32(frame)):
            self.receive(frame)

    def save(self, path: str) -> None:
        """Replace the file by this window and position; OSError = the old file is as it was."""
        checksum = 0
        for piece in self._snapshot():
            checksum = crc32(piece, checksum)
        with open(path + ".new", "wb") as file:
            file.write(pack(">I", checksum))
            for piece in self._snapshot():
                file.write(piece)
        rename(path + ".new", path)

    def _snapshot(self) -> object:
        # In pieces, as there may be no room for the whole.
        yield b"\x95\0" + encode(self.epoch) + encode(self.seq) + encode(self.k)
        yield array(len(self.window))
        for item in self.window:
            yield encode(item)
