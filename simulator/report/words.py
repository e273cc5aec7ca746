"""Quantities in words, as short as they are still true: three figures and a unit. Pure."""

from __future__ import annotations

from math import isfinite
from unicodedata import category

_DAY = 86_400.0
NOTHING = "-"
"""For what is not known."""


def readable(text: str) -> str:
    """Return text without what HTML or XML cannot hold, or what turns the text around it: control characters."""
    return "".join(c if category(c)[0] != "C" or c in "\n\t" else "?" for c in text)


def count(n: float) -> str:
    """Return a number of things, in groups of three digits."""
    return f"{n:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}") if isfinite(n) else NOTHING


def number(n: float) -> str:
    """Return a number to three figures."""
    if not isfinite(n):
        return NOTHING
    if abs(n) >= 999.5:
        return count(n)
    return f"{n:.3g}"


def seconds(s: float | None) -> str:
    """Return a duration: 84 ms, 1.24 s, 2 min 5 s, 3.1 h, 12 days."""
    if s is None or not isfinite(s) or s < 0:
        return NOTHING
    if s < 0.0005:
        return "< 1 ms" if s > 0 else "0 s"
    if s < 0.9995:
        return f"{s * 1000:.2g} ms" if s < 0.00995 else f"{s * 1000:.0f} ms"
    if s < 119.5 and s != 60:
        return f"{s:.3g} s"
    if s < 3599.5:
        minutes, rest = divmod(round(s), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{s / 3600:.3g} h" if s < 2 * _DAY else f"{number(s / _DAY)} days"


def clock(s: float) -> str:
    """Return a time of a run: 1:05, 2:00:00."""
    minutes, rest = divmod(round(s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(b: float) -> str:
    """Return a number of bytes, in powers of 1000."""
    return scaled(b, ("B", "kB", "MB", "GB", "TB"))


def energy(joules: float) -> str:
    """Return an energy."""
    if isfinite(joules) and 0 < abs(joules) < 0.9995:
        return f"{joules * 1000:.3g} mJ"
    return scaled(joules, ("J", "kJ", "MJ", "GJ"))


def scaled(value: float, units: tuple[str, ...]) -> str:
    """Return a value to three figures, in the first unit, each 1000 of the one before, that makes it short."""
    if not isfinite(value):
        return NOTHING
    for unit in units[:-1]:
        if abs(value) < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} {units[-1]}" if abs(value) < 999.5 else f"{count(value)} {units[-1]}"


def share(part: float) -> str:
    """Return a share in percent."""
    return f"{part:.1%}".replace("%", " %") if isfinite(part) else NOTHING


def change(ratio: float) -> str:
    """Return how much more or less something is than something else, `ratio` times which it is."""
    if not isfinite(ratio) or ratio < 0:
        return NOTHING
    if ratio >= 2.995:
        return f"× {ratio:.3g}"  # noqa: RUF001 - a multiplication sign
    percent = round((ratio - 1) * 100, 1 if abs(ratio - 1) < 0.0995 else 0)
    return f"{'+' if percent > 0 else '−' if percent < 0 else '±'}{abs(percent):g} %"  # noqa: RUF001 - a minus sign
