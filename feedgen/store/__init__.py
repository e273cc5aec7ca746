"""Where items and devices survive the process: `base` says what a store promises.

`memory` is the readable specification, `sqlite` the embedded default. All pass one contract suite.
"""

from __future__ import annotations

from feedgen.store.base import (
    Dismiss,
    DropDevice,
    DropItems,
    Loaded,
    Op,
    PutDevice,
    PutItem,
    Store,
    StoreError,
)

__all__ = [
    "Dismiss",
    "DropDevice",
    "DropItems",
    "Loaded",
    "Op",
    "PutDevice",
    "PutItem",
    "Store",
    "StoreError",
]
