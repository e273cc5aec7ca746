"""The name that somebody meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def near(name: str, known: Iterable[str]) -> str:
    """A question after the nearest known name, to be put behind a sentence; "" if none is near."""
    found = difflib.get_close_matches(name, [*known], n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""
