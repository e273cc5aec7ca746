"""One file that holds a state: written whole or not at all, and known to be whole when it is read.

    b"fleetst" | form u8 | crc32 u32 | length u64 | payload

all little endian; length and crc32 are those of the payload, which is msgpack of [kind, version,
state]. Arrays are extension 1, msgpack of [dtype, shape, bytes], the bytes little endian in C order.
Not pickle, because reading a file must never run what somebody wrote into it; not npz, which has no
place for maps and no checksum over the whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np

from feedgen.store.base import StoreError

FORM = 1
"""Of the file; raised when a reader of today could not read it."""
MAGIC: Final = b"fleetst" + bytes((FORM,))
MAX_BYTES = 1 << 30
"""Longer files are not read."""

_HEAD = struct.Struct("<8sIQ")
_ARRAY = 1
_KINDS = "biuf"
"""Arrays are of booleans, integers or floats; anything else is refused, objects above all."""


class StateError(StoreError):
    """The file is damaged, or not what it is taken for: `set_aside` it and begin anew."""


def save(path: Path, kind: str, version: int, state: dict[str, Any]) -> None:
    """Put `state` in the place of what is at `path`, durably.

    Whatever happens meanwhile, a power cut included, the old state or the new one is there. Two
    processes must not save at the same path at once: whoever locks the directory sees to that.

    Args:
        path: of the file; beside it `path` with ".tmp" is written.
        kind: what it is the state of, checked by `load`.
        version: of the layout of `state`, checked by `load`.
        state: None, booleans, integers below 2^64, floats, strings, bytes, arrays of numbers, and
            lists, tuples and maps of such; keys are strings or integers. Tuples come back as lists.

    Raises:
        TypeError: there is something else in the state.
        StoreError: the disk fails; the old state is still there.
    """
    payload = packed([kind, version, state])
    temporary = path.with_name(path.name + ".tmp")
    try:
        _write(temporary, _HEAD.pack(MAGIC, zlib.crc32(payload), len(payload)), payload)
        temporary.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(_explain("write", path, error)) from error


def load(path: Path, kind: str, version: int) -> dict[str, Any] | None:
    """Return the state that was saved at `path`, or None if there is no file.

    Args:
        path: of the file.
        kind: what it should be the state of.
        version: of the layout that the caller understands.

    Raises:
        StateError: the file is damaged, foreign, too long, or of another kind or version.
        StoreError: the disk fails, or does not let this user read; the state may be good.
    """
    try:
        data = _read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(_explain("read", path, error)) from error
    try:
        found, its_version, state = unpacked(_payload(data))
    except (ValueError, TypeError, msgpack.UnpackException) as error:  # TypeError: a map as a key
        raise StateError(f"{path} is no whole state ({error}): {_ADVICE}") from error
    if found != kind:
        raise StateError(f"{path} holds the state of {found!r}, not of {kind!r}: {_ADVICE}")
    if its_version != version:
        raise StateError(
            f"{path} has version {its_version!r} of its layout, and this program reads {version}: "
            f"run the program that wrote it, or {_ADVICE}"
        )
    if not isinstance(state, dict):
        raise StateError(f"{path} holds no map: {_ADVICE}")
    return state


_ADVICE = "move it away to begin anew."


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, for somebody to look at; returns its new name.

    There is one such file at most: an earlier one is replaced.

    Raises:
        StoreError: the disk fails.
    """
    aside = path.with_name(path.name + ".damaged")
    try:
        path.replace(aside)
        _sync_directory(path.parent)
    except OSError as error:
        raise StoreError(_explain("rename", path, error)) from error
    return aside


# ---- Bytes


def packed(value: Any) -> bytes:
    """A state as bytes: what msgpack takes, and arrays of numbers.

    Raises:
        TypeError: there is something else in it.
    """
    found: bytes = msgpack.packb(value, default=_extension, unicode_errors="surrogatepass")
    return found


def _extension(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in _KINDS:
        raise TypeError(f"a state cannot hold {type(value).__name__}: {value!r:.80}")
    little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return msgpack.ExtType(
        _ARRAY, msgpack.packb([little.dtype.str, list(value.shape), little.tobytes()])
    )


def unpacked(payload: memoryview) -> tuple[Any, Any, Any]:
    """The three parts (kind, version, state) of what `packed` made of a list of them.

    Raises:
        ValueError: the bytes are damaged, or no such list; some damage raises TypeError or
            `msgpack.UnpackException`.
    """
    value = msgpack.unpackb(
        payload, ext_hook=_array, unicode_errors="surrogatepass", strict_map_key=False
    )
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("it does not say what it is")
    found, version, state = value
    return found, version, state


def _array(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown extension {code}")
    fields = msgpack.unpackb(data)
    if not isinstance(fields, list) or len(fields) != 3:
        raise ValueError("an array that is none")
    name, shape, raw = fields
    if not isinstance(name, str) or name[1:2] not in _KINDS:
        raise ValueError(f"an array of {name!r:.20}")
    if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ValueError(f"an array of shape {shape!r:.20}")
    try:
        # Copied: an array on bytes cannot be written to.
        return np.frombuffer(raw, np.dtype(name)).reshape(shape).astype(np.dtype(name[1:]))
    except (TypeError, OverflowError, SyntaxError) as error:  # what numpy says to odd words
        raise ValueError(f"an array that is none: {error}") from error


def _payload(data: bytes) -> memoryview:
    if len(data) < _HEAD.size:
        raise ValueError("cut short")
    magic, checksum, length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise ValueError("written by another program, or by another version of this one")
    payload = memoryview(data)[_HEAD.size :]
    if len(payload) != length:
        raise ValueError(f"{len(payload)} bytes where {length} belong")
    if zlib.crc32(payload) != checksum:
        raise ValueError("its checksum is wrong")
    return payload


# ---- Disk


def _write(path: Path, *parts: bytes) -> None:
    # Closed to other users: what devices like is nobody else's business.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for part in parts:
            left = memoryview(part)
            while left:
                left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    """Return the bytes of a file, but for those beyond the longest that is taken."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise StateError(f"{path} has {size} bytes, more than any state: {_ADVICE}")
        return file.read(MAX_BYTES)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(deed: str, path: Path, error: OSError) -> str:
    """What `error` means for an operator."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        advice = "make room on the disk."
    elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        advice = "let this user read and write the directory and its files."
    else:
        advice = "check the path, the disk and the system's log."
    return f"Cannot {deed} the state in {path} ({error.strerror}): {advice}"
