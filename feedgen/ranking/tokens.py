"""Names as numbers: 64-bit tokens of strings, and tokens of pairs.

A feature's place in a table of 2^b entries is the top b bits of its token times a constant; see
`places`. Tokens are the same on every machine and in every run, so that stored state stays true.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Tokens: TypeAlias = NDArray[np.uint64]

_ODD = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, odd: Fibonacci hashing (Knuth, TAOCP 3, 6.4)."""
_SHIFT = np.uint64(29)


@lru_cache(maxsize=1 << 16)
def token(name: str, value: str) -> int:
    """Return the token of a field's value."""
    key, data = _bytes(name), _bytes(value)
    return _digest(b"%d:%s%s" % (len(key), key, data))


def device_token(device: str) -> int:
    """Return the token of a device: the first 8 bytes of the BLAKE2b of its id, little endian."""
    return _digest(_bytes(device))


def _bytes(text: str) -> bytes:
    # JSON can hold half a surrogate pair; a log with one must not stop whoever reads it.
    return text.encode("utf-8", "surrogatepass")


def _digest(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def cross(one: Tokens, other: Tokens) -> Tokens:
    """Return tokens of pairs; the order counts. Shapes broadcast."""
    return paired(mixed(one), other)


def mixed(one: Tokens) -> Tokens:
    """Return the first step of `cross`, for those that cross the same tokens several times."""
    return np.asarray((one * _ODD) ^ (one >> _SHIFT))


def paired(mixed_one: Tokens, other: Tokens) -> Tokens:
    """Return `cross`, of what `mixed` returned."""
    pair: Tokens = np.asarray(mixed_one + other)
    pair *= _ODD
    pair ^= pair >> _SHIFT
    return pair


def places(tokens: Tokens, bits: int) -> NDArray[np.int64]:
    """Return the places of tokens in a table of 2^bits entries."""
    at = tokens * _ODD
    at >>= np.uint64(64 - bits)
    return at.view(np.int64)  # the top bits are 0 now
