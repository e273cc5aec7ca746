"""How pictures look: colours for light and dark, and the frame that makes an SVG element of what was drawn.

Colours stand as CSS variables with the light theme's colour behind them, so that in a page the picture follows the
reader's theme. It is the look of the ranking's evaluation (feedgen/evaluate), which the simulator may not import.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from hashlib import blake2b
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from simulator.report.words import readable

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2563eb", "#b24f0a", "#5b6a7f"
INK, FAINT = "#1f2731", "#d5dae1"
_LIGHT = {
    "--series-0": BLUE,
    "--series-1": ORANGE,
    "--series-2": GREY,
    "--ink": INK,
    "--faint": FAINT,
    "--ground": "#ffffff",
    "--card": "#f7f8fa",
    "--good": "#0a7256",
    "--bad": "#b42318",
    "--unsure": "#8f5200",
}
_DARK = {
    "--series-0": "#7aa7ff",
    "--series-1": "#f2994a",
    "--series-2": "#9aa8bc",
    "--ink": "#e4e9f0",
    "--faint": "#39424e",
    "--ground": "#14181d",
    "--card": "#1c2229",
    "--good": "#3fc9a5",
    "--bad": "#ff8f85",
    "--unsure": "#f0b357",
}
# The greys that lines, text and grids are drawn in; the others are of the page alone.
_DRAWN = ("--series-0", "--series-1", "--series-2", "--ink", "--faint")

WIDE, NARROW = 12.6, 6.2
"""Inches, of a picture over the whole page and over half of it."""
DASHED, DOTTED = (0, (4, 2.5)), (0, (1, 1.6))
_LONGEST = 32
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, and in the page's own font
    "font.family": "DejaVu Sans",  # measured with; the page's font is narrower
    "text.parse_math": False,  # names are of strangers
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True, slots=True)
class Pen:
    """How a run is drawn where two are; they differ in more than the colour.

    Attributes:
        colour: Of its lines.
        width: Of its lines.
        dashes: Of its lines.
    """

    colour: str
    width: float = 1.8
    dashes: Any = "-"


ONE = (Pen(BLUE),)
TWO = (Pen(ORANGE, 1.5, DASHED), Pen(BLUE))
"""Of the first and of the second of two runs."""


def pens(runs: int) -> tuple[Pen, ...]:
    """Return the pens for one run, or for two."""
    return ONE if runs == 1 else TWO


def stylesheet() -> str:
    """Return the CSS that gives page and pictures their colours: by the reader's theme, light on paper."""
    light, dark = _rules(_LIGHT), _rules(_DARK)
    return (
        f":root{{{light}color-scheme:light dark}}"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"@media print{{:root{{{light}color-scheme:light}}}}"
        "svg text{font-family:inherit!important}"
    )


def svg(said: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> str:
    """Return what `draw` makes of a figure as an SVG element to stand in a page.

    Args:
        said: what the picture shows, for who cannot see it.
        size: inches.
        draw: draws.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - only where it draws
    from matplotlib.figure import Figure  # noqa: PLC0415 - likewise

    text = StringIO()
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts draw the text
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        figure.savefig(
            *(text,),
            format="svg",
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return _element(text.getvalue(), said)


def label(text: str, longest: int = _LONGEST) -> str:
    """Return text as one line, cut where it is too long for a picture."""
    line = " ".join(readable(text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _element(drawn: str, said: str) -> str:
    """Return the element of an SVG file, with names for those who do not see it and colours of the theme."""
    element = drawn[drawn.index("<svg") :]
    # Groups are named "axes_1" in each picture; nothing refers to them, and a page may have an id once.
    element = re.sub(r'<g id="[^"]*"', "<g", element)
    # Other ids are hashes of places down to their last digit, which the layout does not repeat from run to run.
    picture = blake2b(said.encode(errors="replace"), digest_size=4).hexdigest()
    ids = dict.fromkeys(re.findall(r'<(?:path|clipPath) id="([^"]*)"', element))
    new = {old: f"p{picture}-{i}" for i, old in enumerate(ids)}
    element = re.sub(
        r'( id="|url\(#|href="#)([^")]*)',
        lambda found: found[1] + new.get(found[2], found[2]),
        element,
    )
    element = re.sub(r"\s*<metadata>.*?</metadata>", "", element, count=1, flags=re.DOTALL)
    element = element.replace("<svg", f'<svg role="img" aria-label="{escape(readable(said))}"', 1)
    for variable in _DRAWN:
        colour = _LIGHT[variable]
        element = element.replace(colour, f"var({variable}, {colour})")
    return element.rstrip()


def _rules(values: dict[str, str]) -> str:
    return "".join(f"{name}:{value};" for name, value in values.items())
