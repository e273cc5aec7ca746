"""What PromQL asks for: enough of its grammar to find metrics, labels and values that do not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from broker.figures.catalog import FIGURES, Kind

_SELECTOR = re.compile(r"\b((?:fleetfeed_\w+|up|ALERTS))\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPING = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\(([^)]*)\)")
_SERIES = ("_bucket", "_sum", "_count")

EVERYWHERE = {"job", "instance"}
"""Labels that Prometheus adds."""
INFO = "fleetfeed_build_info"
_OF_PROMETHEUS = {
    "up": set[str](),
    "ALERTS": {"alertname", "alertstate", "severity"},
    INFO: {"version", "python"},
}


class Selector(NamedTuple):
    """A metric, and conditions on its labels as (label, operator, value)."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]


def selectors(expr: str) -> list[Selector]:
    """Every metric that an expression asks for."""
    return [
        Selector(name, tuple(_MATCHER.findall(inside))) for name, inside in _SELECTOR.findall(expr)
    ]


def figure_of(name: str) -> str:
    """The figure that a series belongs to; its own name if it is of none."""
    for end in _SERIES:
        if FIGURES.get(base := name.removesuffix(end)) and FIGURES[base].kind is Kind.HISTOGRAM:
            return base
    return name


def labels_of(name: str) -> set[str]:
    """The labels that a series has, beside those that Prometheus adds."""
    if name in _OF_PROMETHEUS:
        return _OF_PROMETHEUS[name]
    figure = FIGURES[figure_of(name)]
    if figure.kind is Kind.HISTOGRAM:
        return {"le"} if name.endswith("_bucket") else set()
    return {figure.label} if figure.label else set()


def faults(expr: str, legend: str = "") -> Iterator[str]:
    """What an expression, and the legend made of what it yields, name that does not exist."""
    known = set(EVERYWHERE)
    for name, matchers in selectors(expr):
        if name not in _OF_PROMETHEUS and figure_of(name) not in FIGURES:
            yield f"there is no {name}"
            continue
        if name in FIGURES and FIGURES[name].kind is Kind.HISTOGRAM:
            yield f"{name} is a histogram: it has {', '.join(name + end for end in _SERIES)}"
        known |= labels_of(name)
        yield from _unmatched(name, matchers)
    if not known - EVERYWHERE and not selectors(expr):
        yield "nothing is asked for"
    for inside in _GROUPING.findall(expr):
        for label in filter(None, (each.strip() for each in inside.split(","))):
            if label not in known:
                yield f"nothing in {expr} has a label {label}"
    for label in re.findall(r"\{\{\s*(\w+)\s*\}\}", legend):
        if label not in known:
            yield f"the legend {legend} has a label that {expr} has not"


def _unmatched(name: str, matchers: tuple[tuple[str, str, str], ...]) -> Iterator[str]:
    for label, operator, value in matchers:
        if label in EVERYWHERE:
            continue
        if label not in labels_of(name):
            yield f"{name} has no label {label}"
        elif name in FIGURES:
            wanted = value.split("|") if "~" in operator else [value]
            for each in wanted:
                if each not in FIGURES[name].values:
                    yield f"{name} has no {label} {each!r} from the start"
