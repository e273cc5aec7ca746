"""What was learned as one compressed run of bytes, for others to load.

The payload is that of a state file, so reading it runs nothing that somebody wrote into it; zlib brings
a checksum of its own (Adler-32). Both directions take a tenth of a second for full tables: use a thread.

Tables that only serve are thinned first: float32 with 11 significant bits instead of 24, which moves a
predicted probability by less than a thousandth of itself, and byte planes instead of numbers, as zlib
finds more in columns of like bytes. Full tables shrink to half of what they take otherwise.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final

import msgpack
import numpy as np

from feedgen.store.state_file import packed, unpacked

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES: Final = 1 << 29
"""Of the payload; what is longer is not read."""

_LEVEL = 1
"""Of zlib: higher ones take several times as long for a tenth of the bytes."""
_BITS = 24
_KEPT = 11
_DROPPED = np.uint32(_BITS - _KEPT)


def pack(kind: str, version: int, state: dict[str, Any]) -> bytes:
    """Return a state as bytes.

    Args:
        kind: what it is the state of, checked by `unpack`.
        version: of its layout, likewise.
        state: what `state_file.save` takes.
    """
    return zlib.compress(packed([kind, version, state]), _LEVEL)


def unpack(blob: bytes, kind: str, version: int) -> dict[str, Any]:
    """Return the state that `pack` made bytes of.

    Raises:
        ValueError: the bytes are damaged, too many, or the state of something else.
    """
    inflate = zlib.decompressobj()
    try:
        payload = inflate.decompress(blob, MAX_BYTES)
        if not inflate.eof:
            raise ValueError("cut short, or too long")
        found, its_version, state = unpacked(memoryview(payload))
    except (zlib.error, msgpack.UnpackException) as error:
        raise ValueError(f"damaged: {error}") from error
    if (found, its_version) != (kind, version) or not isinstance(state, dict):
        raise ValueError(f"{found!r} of version {its_version!r}, not {kind!r} of {version}")
    return state


def thinned(numbers: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return numbers with fewer digits as byte planes, uint8 [4, n]."""
    bits = np.ascontiguousarray(numbers, "<f4").view("<u4")
    half = np.uint32(1) << (_DROPPED - np.uint32(1))
    # Rounding up carries into the exponent where it must; of finite numbers in use none is near the end.
    bits = (bits + half) >> _DROPPED << _DROPPED
    return np.ascontiguousarray(bits.view(np.uint8).reshape(-1, 4).T)


def restored(planes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the numbers that `thinned` made planes of.

    Raises:
        ValueError: these are no planes.
    """
    if planes.dtype != np.uint8 or planes.ndim != 2 or len(planes) != 4:
        raise ValueError("planes that are none")
    return np.ascontiguousarray(planes.T).view("<f4").ravel().astype(np.float32)
