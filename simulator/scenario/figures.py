"""Figures as people read them."""

from __future__ import annotations


def number(value: int) -> str:
    """With thousands apart."""
    return f"{value:,}".replace(",", " ")


def things(count: int, name: str) -> str:
    """So many of something, of which `name` is the plural."""
    return f"{number(count)} {name.removesuffix('s') if count == 1 else name}"


def seconds_(value: float | None) -> str:
    """A duration in the unit that suits it."""
    if value is None:
        return "-"
    return f"{value:.1f} s" if value >= 1 else f"{value * 1_000:.0f} ms"


def bytes_(value: float) -> str:
    """A size in MiB."""
    return f"{value / 2**20:.0f} MiB"


def share(value: float) -> str:
    """A part of 1 in percent, with a decimal where it is small."""
    return f"{value:.0%}" if value >= 0.1 or not value else f"{value:.1%}"
