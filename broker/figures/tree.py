"""The `$SYS` tree: a reading as topics and texts.

Consumers differ in what they bear. The Mosquitto exporter takes the first number that it finds in a text, so
there is none but the number: no unit, no sign, no exponent (`1e-05` would be read as 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.figures.catalog import FIGURES, Kind, Root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.figures.catalog import Figure, Leaf
    from broker.figures.reading import Reading

_VERSION = "version"


def topics(reading: Reading) -> list[tuple[str, str]]:
    """All topics of a server: ours, and those of Mosquitto."""
    version = f"fleetfeed version {reading.version}"
    return [
        (Root.MOSQUITTO + _VERSION, version),
        (Root.FEED + _VERSION, reading.version),
        *((leaf.root + path, text) for leaf, path, text in _all(reading)),
    ]


def leaves(reading: Reading) -> list[tuple[str, str]]:
    """Ours alone, by their paths: what a gateway tells below a topic of its own."""
    ours = ((path, text) for leaf, path, text in _all(reading) if leaf.root is Root.FEED)
    return [(_VERSION, reading.version), *ours]


def plain(value: float) -> str:
    """A non-negative decimal without an exponent, of three places at most."""
    if value != value or value <= 0:  # noqa: PLR0124 (NaN is what differs from itself)
        return "0"
    text = f"{min(value, 1e18):.3f}"
    return text.rstrip("0").rstrip(".")


def _all(reading: Reading) -> Iterator[tuple[Leaf, str, str]]:
    for figure in FIGURES.values():
        if figure.name in reading.numbers or figure.name in reading.recent:
            for leaf in figure.leaves:
                values = _values(reading, figure, leaf)
                for path, value in zip(leaf.paths, values, strict=True):
                    scaled = value * leaf.scale
                    yield leaf, path, plain(scaled // 1 if leaf.whole else scaled)


def _values(reading: Reading, figure: Figure, leaf: Leaf) -> tuple[float, ...]:
    if leaf.per_minute:
        return reading.loads[figure.name, leaf.of]
    if figure.kind is Kind.HISTOGRAM:
        assert leaf.quantile is not None
        return (reading.recent[figure.name].quantile(leaf.quantile),)
    return (reading.number(figure.name, leaf.of),)
