"""What trouble did to those whom it did not concern, and how long until it was over. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from simulator.load import LEVELS, back_after, recovered_after
from simulator.results import Check, Distribution
from simulator.scenario.figures import number, seconds_, things
from simulator.scenario.samples import LOAD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from simulator.results import Series, Span
    from simulator.scenario.model import Expect

ENOUGH = 50
"""Arrivals that a 99th percentile needs at least to be compared with another."""

UNTOLD = "not looked at: the server tells nothing of its load under $SYS"
_GIVEN_UP = tuple(name for name in LOAD if name not in {"loop lag", "oldest item"})
"""Series that are 0 while the server gives up nothing."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """See the module. Times are seconds.

    Attributes:
        told: Whether the server said anything of its load.
        before: The last phase before anything went wrong; None if there is none.
        urgent: By phase, in order: from publishing an urgent item to the windows of those who were connected.
        over: When the last fault was over, from the start of the run; None where nothing went wrong.
        watched: How long anybody looked after that.
        highest: The highest level of overload; an index of `LEVELS`.
        held: The most items, clients and publishers that the server let wait at a time, by these words.
        refused: Connections that were told to come back later.
        recovered: From `over` until the server gave up nothing any more; None if that was not seen.
        connected: Devices that were connected before the first fault.
        back: From `over` until as many were connected again; None if that was not seen.
        connects: The most connections in a second that were made from the first fault on.
    """

    told: bool = False
    before: str | None = None
    urgent: Mapping[str, Distribution] = field(default_factory=dict)
    over: float | None = None
    watched: float = 0.0
    highest: int = 0
    held: Mapping[str, int] = field(default_factory=dict)
    refused: int = 0
    recovered: float | None = None
    connected: int = 0
    back: float | None = None
    connects: float = 0.0


def aftermath(
    trouble: Sequence[Span],
    before: str | None,
    urgent: Mapping[str, Distribution],
    at: Sequence[float],
    series: Sequence[Series],
    refused: int,
) -> Aftermath:
    """What came of a run.

    Args:
        trouble: Faults as they really were, and phases in which more was published.
        before: See `Aftermath`.
        urgent: Likewise.
        at: Times of the samples.
        series: What was seen at each.
        refused: See `Aftermath`.
    """
    named = {one.name: one.values for one in series}
    levels = named.get(LOAD[0], ())
    known = [int(value) for value in levels if isfinite(value)]
    held = {name.removesuffix(" held"): _most(named.get(name, ())) for name in _GIVEN_UP[1:]}
    found = Aftermath(bool(known), before, urgent, None, 0.0, max(known, default=0), held, refused)
    if not trouble or not at:
        return found
    first, over = min(span.start for span in trouble), max(span.end for span in trouble)
    connected, connects = named.get("connected", ()), named.get("connects/s", ())
    wanted = [many for time, many in zip(at, connected, strict=bool(connected)) if time < first]
    given_up = (
        [sum(values) for values in zip(*(named[name] for name in _GIVEN_UP), strict=True)]
        if known
        else []
    )
    return Aftermath(
        found.told,
        before,
        urgent,
        over,
        max(at[-1] - over, 0.0),
        found.highest,
        held,
        refused,
        recovered_after(at, given_up, over) if known else None,
        int(wanted[-1]) if wanted else 0,
        back_after(at, connected, over, wanted[-1]) if wanted else None,
        max(
            (many for time, many in zip(at, connects, strict=bool(connects)) if time >= first),
            default=0.0,
        ),
    )


def judged(expect: Expect, found: Aftermath) -> Iterator[Check]:
    """What the file expects of it, a line each."""
    if expect.urgent_ratio is not None:
        yield _ratio(found, expect.urgent_ratio)
    if expect.recovered_within is not None:
        yield _recovered(found, expect.recovered_within)
    if expect.back_within is not None:
        yield _back(found, expect.back_within)


def notes(expect: Expect, found: Aftermath) -> Iterator[str]:
    """What a reader must know with it."""
    if not found.told:
        yield "The server tells nothing of its load under $SYS: what it gave up, and when, is not known."
    elif expect.recovered_within is not None and not found.highest and not any(found.held.values()):
        yield (
            "The server was never overloaded: on this machine the run shows that it had room, "
            "not what it does without. More --devices, or a higher rate, ask more of it."
        )


def _ratio(found: Aftermath, bound: float) -> Check:
    name = "urgent_ratio"
    calm = found.urgent.get(found.before or "", Distribution())
    names = [*found.urgent]
    after = names[names.index(found.before or "") + 1 :] if calm.count else []
    worst = max(
        (phase for phase in after if found.urgent[phase].count >= ENOUGH),
        key=lambda phase: found.urgent[phase].quantile(0.99) or 0.0,
        default=None,
    )
    if calm.count < ENOUGH or worst is None:
        text = f"not looked at: {number(ENOUGH)} urgent arrivals are needed before the first fault, and after it"
        return Check(name, text, None)
    p99, usual = found.urgent[worst].quantile(0.99) or 0.0, calm.quantile(0.99) or 0.0
    ratio = p99 / usual if usual else float("inf")
    text = (
        f"p99 {seconds_(usual)} in '{found.before}', at worst {seconds_(p99)} in '{worst}': "
        f"{ratio:.1f} times as long, at most {bound:g} times"
    )
    return Check(name, text, ratio <= bound)


def _recovered(found: Aftermath, bound: float) -> Check:
    name = "recovered_within"
    if not found.told or found.over is None:
        return Check(
            name, UNTOLD if found.over is not None else "not looked at: nothing went wrong", None
        )
    most = f"level {found.highest} ({LEVELS[found.highest].name}) at most"
    held = [things(count, what) for what, count in found.held.items() if count]
    most += f", {', '.join(held)} held" if held else ""
    if found.recovered is None:
        return Check(
            name,
            f"{most}; not at level 0 within the {found.watched:.0f} s that were left",
            ok=False,
        )
    text = f"{most}; nothing given up {seconds_(found.recovered)} after the last fault, at most {bound:g} s"
    return Check(name, text, found.recovered <= bound)


def _back(found: Aftermath, bound: float) -> Check:
    name = "back_within"
    if found.over is None or not found.connected:
        return Check(name, "not looked at: nobody was connected before the first fault", None)
    if found.back is None:
        text = f"fewer than {number(found.connected)} devices were connected {found.watched:.0f} s after the last fault"
        return Check(name, text, ok=False)
    text = (
        f"{number(found.connected)} devices are back {seconds_(found.back)} after the last fault, at most {bound:g} s; "
        f"up to {number(round(found.connects))} connections in a second"
    )
    if found.told:
        text += f", {number(found.held.get('clients', 0))} waited at most, {number(found.refused)} were told to come back later"
    return Check(name, text, found.back <= bound)


def _most(values: Sequence[float]) -> int:
    return int(max((value for value in values if isfinite(value)), default=0))
