"""Numbers, times and small charts as `fleetfeed top` writes them: short, and of a width that hardly changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DIM = "bright_black"
ACCENT = "cyan"

_BARS = "▁▂▃▄▅▆▇█"
_EXACT = 10_000
"""Numbers below it are written in full, even where there is little room."""
_TEN, _THOUSAND = 10, 1000
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s"))


def exact(number: float) -> str:
    """A count in full, its thousands apart."""
    return f"{number:,.0f}".replace(",", " ")


def brief(number: float) -> str:
    """A count of at most five characters."""
    return exact(number) if number < _EXACT else _scaled(number).replace(" ", "")


def size(number: float) -> str:
    """Bytes."""
    return f"{_scaled(number)}B" if number >= _THOUSAND else f"{number:.0f} B"


def per_second(number: float) -> str:
    """A rate of at most seven characters."""
    return f"{number:.1g}/s" if 0 < number < 1 else f"{brief(number)}/s"


def milliseconds(number: float) -> str:
    """A time that is usually short, of at most four characters; its unit is understood up to a second."""
    if number >= 100 * _THOUSAND:
        return f"{number / _THOUSAND:.0f}s"
    if number >= _THOUSAND:
        return f"{number / _THOUSAND:.{1 if number < 10 * _THOUSAND else 0}f}s"
    return f"{number:.0f}" if number >= _TEN or number == 0 else f"{number:.1f}"


def short_time(number: float) -> str:
    """Milliseconds with their unit, or seconds."""
    told = milliseconds(number)
    return f"{told[:-1]} s" if told.endswith("s") else f"{told} ms"


def duration(seconds: float) -> str:
    """How long, in its two largest units."""
    whole = int(seconds)
    for of, name, part, part_name in _TIMES:
        if whole >= of:
            rest = whole % of // part
            return f"{whole // of} {name}" + (f" {rest} {part_name}" if rest else "")
    return f"{whole} s"


def bars(
    values: Sequence[float | None],
    width: int,
    height: int,
    *,
    top: float | None = None,
    style: Callable[[float], str] | None = None,
) -> list[Text]:
    """A chart of the last values, a column each, the newest at the right.

    Args:
        values: Oldest first; None is left empty, 0 a thin line.
        width: Columns.
        height: Lines.
        top: What reaches the top; by default the largest value.
        style: The colour of a value that is not 0.
    """
    shown = [None] * (width - len(values)) + list(values[len(values) - min(width, len(values)) :])
    highest = top or max((value for value in shown if value is not None), default=0.0)
    lines = []
    for row in reversed(range(height)):
        line = Text(no_wrap=True)
        for value in shown:
            line.append(*_block(value, highest, row, height, style))
        lines.append(line)
    return lines


def _block(
    value: float | None,
    highest: float,
    row: int,
    height: int,
    style: Callable[[float], str] | None,
) -> tuple[str, str]:
    """One character of a column: `row` lines above the lowest."""
    if value is None or highest <= 0 or value <= 0:
        return (_BARS[0] if value is not None and not row else " "), DIM
    most = height * len(_BARS) - 1  # what lies above stays apart
    eighths = max(round(min(value / highest, 1.0) * most), 1) - row * len(_BARS)
    letter = " " if eighths <= 0 else _BARS[min(eighths, len(_BARS)) - 1]
    return letter, ACCENT if style is None else style(value)


def _scaled(number: float) -> str:
    """Three digits and the prefix of the unit."""
    for scale, prefix in _SCALES:
        # What rounds up to a thousand of one prefix is one of the next.
        if number >= scale * 0.9995:
            value = number / scale
            places = 2 if value < _TEN else 1 if value < 10 * _TEN else 0
            return f"{value:.{places}f} {prefix}"
    return f"{number:.0f} "
