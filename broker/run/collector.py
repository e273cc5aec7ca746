"""The garbage collector of a process that serves.

It is only there for cycles, as all else ends with its last reference, and a full collection walks every
live item: with 300 000 of them it took more than a second, in which nobody was served. Neither items nor
devices nor connections leave cycles behind when they end (the tests see to that), so nothing is gained by
it. What is young is still looked at, for the cycles of tracebacks and of libraries.
"""

from __future__ import annotations

import gc

_YOUNG, _MIDDLE, _NEVER = 5_000, 10, 1 << 30
"""Objects more than before until the youngest are looked at; how often that is until the next ones are,
some milliseconds for the 50 000 that there may be by then; and until all are."""


def settle() -> None:
    """Looks through everything once more; from now on what is there stays, and only what is young is."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)
