"""Slots: one 64-bit integer that names an item and the version of its content.

A window on the wire is an ordered list of items; inside the server it is a row of slots, so that two
windows are compared by comparing integers. An update changes the slot but not the number, which is how
a change made while a device was away is seen.

Layout: item number (32 bits) << 18 | content version (16 bits) << 2 | priority (2 bits). 0 is "empty";
item numbers start at 1.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int64]
_S = TypeVar("_S", int, Slots)

EMPTY = 0
_VERSION_BITS = 16
_PRIORITY_BITS = 2
_NUMBER_SHIFT = _VERSION_BITS + _PRIORITY_BITS


def pack(number: int, version: int, priority: int) -> int:
    """The slot of item `number` (1 to 2³²-1) with this content version (0 to 65 535) and priority (0-3)."""
    return number << _NUMBER_SHIFT | version << _PRIORITY_BITS | priority


def number(slot: _S) -> _S:
    """The item number of a slot, or of each slot of an array."""
    return slot >> _NUMBER_SHIFT


def version(slot: _S) -> _S:
    """The content version of a slot, or of each slot of an array."""
    return (slot >> _PRIORITY_BITS) & ((1 << _VERSION_BITS) - 1)


def priority(slot: _S) -> _S:
    """The priority of a slot, or of each slot of an array."""
    return slot & ((1 << _PRIORITY_BITS) - 1)
