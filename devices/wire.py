"""What frames and up messages have in common: integers of at most 32 bits, arrays, msgpack read strictly."""

from __future__ import annotations

from struct import Struct
from typing import Any

import msgpack

MAX_K = 64
"""The longest window a device can have."""
MAX_UINT = 0xFFFF_FFFF
"""The largest integer on the wire."""

_SMALL = tuple(bytes((v,)) if v < 0x80 else bytes((0xCC, v)) for v in range(0x100))
_tagged16 = Struct(">BH").pack
_tagged32 = Struct(">BI").pack


def uint_bytes(value: int) -> bytes:
    """The shortest msgpack form of an unsigned integer.

    Raises:
        ValueError: below 0 or above 2³² - 1.
    """
    if 0 <= value < 0x100:
        return _SMALL[value]
    if 0 <= value < 0x1_0000:
        return _tagged16(0xCD, value)
    if 0 <= value <= MAX_UINT:
        return _tagged32(0xCE, value)
    raise ValueError(f"{value} is no 32-bit unsigned integer")


def array_head(length: int) -> bytes:
    """What stands before the elements of a msgpack array of `length` < 2¹⁶ elements."""
    return bytes((0x90 | length,)) if length < 16 else _tagged16(0xDC, length)


def unpack(data: bytes) -> Any:
    """Arrays as lists and maps as tuples of pairs.

    Pairs, not dicts: in a dict the keys 1, true and 1.0 are one, and a key that is an array raises.
    """
    return msgpack.unpackb(data, strict_map_key=False, object_pairs_hook=tuple)


# What msgpack raises on bytes that are not its own: FormatError, StackError, ExtraData and bad UTF-8
# are ValueErrors, a message cut short is a ValueError too, a timestamp out of range overflows.
UNPACK_ERRORS = (ValueError, TypeError, OverflowError, msgpack.UnpackException)
