"""Numbers as JSON has them."""

from __future__ import annotations

from math import isfinite
from typing import Any


def finite(value: Any) -> Any:
    """The same value; what is infinite or no number is None, as JSON has neither."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return value
