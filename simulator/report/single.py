"""One run as one HTML file: the verdict first, then what happened, then what devices and people saw of it."""

from __future__ import annotations

from math import isfinite, nan
from typing import TYPE_CHECKING

from simulator.links.energy import TWO_AA
from simulator.report import figures, markup, overload, plots, sections, words
from simulator.report.axes import PANELS
from simulator.report.distributions import QUANTILES, Row, latency, ranges
from simulator.report.figures import merged, observed, of_best, per_day
from simulator.report.headline import headline, reasons
from simulator.report.timeline import drawable, timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.results import ClassResult, Distribution, Result

_DROPS = 20
"""Reasons in the picture; the table has all."""
_MEASURES: tuple[tuple[str, str, Callable[[ClassResult], Distribution]], ...] = (
    ("convergence", "from the last word to the right window", lambda each: each.convergence),
    ("wake-up", "from connecting to the right window", lambda each: each.wake_up),
    ("freshness", "age of the newest item in a window", lambda each: each.freshness),
)


def page(result: Result) -> str:
    """Return the page of a run: one HTML file that needs nothing else."""
    said, more, kind = sections.conclusion(result)
    body = (
        markup.heading(result.scenario or "A run without a name", 1),
        markup.text(result.about),
        markup.text(sections.origin(result), "faint"),
        markup.banner(said, more, kind),
        sections.checks(result.checks),
        sections.broken(result),
        markup.facts([*headline(result), *overload.facts(result)]),
        _happened(result),
        overload.section(result),
        _latency(result),
        _settling(result),
        _air(result),
        _items(result),
        _people(result),
        _counted(result),
        _notes(result),
        markup.heading("How to repeat it"),
        sections.repeat(result),
    )
    return markup.document(f"{result.scenario}: {said}", body)


def _happened(run: Result) -> str:
    listed = sections.course(run.phases, run.faults)
    if not drawable(run):
        return markup.heading("What happened") + listed if listed else ""
    names = ", ".join(series.name for series in run.series)
    spans = "; ".join(
        f"{span.name} at {words.clock(span.start)}" for span in (*run.phases, *run.faults)[:20]
    )
    said = f"Over the time of the run: {names}. {spans}"
    caption = (
        "Boxes on top are phases, orange bars faults; a fault's time is shaded below."
        if run.faults
        else "Boxes on top are phases."
        if run.phases
        else ""
    )
    title = f"{words.count(run.devices)} devices in {words.seconds(run.seconds)}"
    title += f", with {sections.plural(len(run.faults), 'fault')}" if run.faults else ""
    drawn = markup.figure(title, caption, timeline(said, (run,)), wide=True)
    return markup.heading("What happened") + drawn + listed


def _latency(run: Result) -> str:
    rows = [Row(each.name, (each.latency,)) for each in run.classes if each.latency.count]
    if not rows:
        return ""
    whole = merged(row.many[0] for row in rows)
    title = (
        f"Half of all items are in their windows after {words.seconds(whole.quantile(0.5))}, "
        f"99 % after {words.seconds(whole.quantile(0.99))}"
    )
    slowest = max(rows, key=lambda row: row.many[0].quantile(0.99) or 0.0)
    caption = (
        "Time from publishing an item to the frame that put it into a window. Above 90 % the scale is stretched: "
        "99 % and 99.9 % are as far apart as 90 % and 99 %."
    )
    if len(rows) > 1:
        title += f"; slowest: {slowest.name}"
        caption += " Grey: the other classes."
    parts = (
        markup.heading("From publisher to window"),
        markup.figure(
            title,
            _left_out(caption, len(rows)),
            latency(_alt(title, rows), rows),
            wide=len(rows) > 1,
        ),
        _quantiles([("items times devices", rows)]),
    )
    return "".join(parts)


def _settling(run: Result) -> str:
    measures = [
        (name, explained, [Row(each.name, (pick(each),)) for each in run.classes])
        for name, explained, pick in _MEASURES
    ]
    measures = [each for each in measures if any(row.many[0].count for row in each[2])]
    if not measures:
        return ""
    said = "; ".join(
        f"{name}: {_alt(explained, [row for row in rows if row.many[0].count])}"
        for name, explained, rows in measures
    )
    drawn = ranges(said, [(name, rows) for name, _, rows in measures])
    explanations = "; ".join(f"{name}: {explained}" for name, explained, _ in measures)
    caption = f"Dot: half of all values are no longer. Ring: 90 %. Bar: 99 %. {explanations}."
    tables = _quantiles(
        [(name, [row for row in rows if row.many[0].count]) for name, _, rows in measures]
    )
    parts = (
        markup.heading("Convergence, wake-up, freshness"),
        markup.figure(
            _settled(run), _left_out(caption, len(run.classes)), drawn, wide=len(measures) > 1
        ),
        markup.folded("The same as a table", tables),
    )
    return "".join(parts)


def _settled(run: Result) -> str:
    """Say how long it took until all was right."""
    convergence = merged(each.convergence for each in run.classes)
    if convergence.count:
        return f"At rest every window that was judged was right after {words.seconds(convergence.largest)} at most"
    wake_up = merged(each.wake_up for each in run.classes)
    if wake_up.count:
        return f"99 % of all connections had their window after {words.seconds(wake_up.quantile(0.99))}"
    freshness = merged(each.freshness for each in run.classes)
    return f"Half of the time, the newest item shown is younger than {words.seconds(freshness.quantile(0.5))}"


def _air(run: Result) -> str:
    classes = [each for each in run.classes if each.device_seconds > 0]
    if not any(each.down or each.up for each in classes):
        return ""
    days = [per_day(each) for each in classes]
    most = max(range(len(classes)), key=lambda i: days[i].bytes)
    title = f"{words.size(days[most].bytes)} a day for a device of {classes[most].name}"
    title += ", the most" if len(classes) > 1 else ""
    watched = min(observed(each) for each in classes)
    caption = (
        f"As a modem counts them, with TCP/IP headers and handshakes. Watched for {words.seconds(watched)} of "
        "simulated time a device and scaled to a day: joining, which is done once, weighs more in a short run."
        if watched < figures.DAY
        else "As a modem counts them, with TCP/IP headers and handshakes."
    )
    if any(each.joules > 0 for each in classes):
        caption += (
            " Energy is an estimate from data sheets, of the radio alone; a battery is two AA cells of which the "
            f"radio gets {words.energy(TWO_AA)}."
        )
    said = f"{title}. " + "; ".join(
        f"{each.name}: {words.size(day.down)} down, {words.size(day.up)} up"
        for each, day in zip(classes, days, strict=True)
    )
    drawn = plots.per_day(said, [each.name for each in classes], [(day,) for day in days])
    wide = any(day.joules > 0 for day in days)
    rows = [
        markup.cells(
            each.name,
            each.link or words.NOTHING,
            words.count(each.devices),
            words.size(day.down),
            words.size(day.up),
            words.number(day.messages),
            words.number(day.segments),
            words.energy(day.joules),
            words.seconds(day.battery_days * figures.DAY),
            words.count(each.exhausted),
        )
        for each, day in zip(classes, days, strict=True)
    ]
    head = (
        "class",
        "link",
        "devices",
        "down",
        "up",
        "messages",
        "TCP segments",
        "energy",
        "battery lasts",
        "exhausted",
    )
    parts = (
        markup.heading("Over the air, a device and day"),
        markup.figure(title, _left_out(caption, len(classes)), drawn, wide=wide),
        markup.table(head, rows, names=(1,)),
    )
    return "".join(parts)


def _items(run: Result) -> str:
    pieces = []
    if run.drops:
        drops = sorted(run.drops.items(), key=lambda each: -each[1])
        title = f"{words.count(sum(run.drops.values()))} dropped, for {reasons(len(drops))}"
        said = f"{title}: " + ", ".join(f"{name} {words.count(n)}" for name, n in drops[:_DROPS])
        rows = [(name, (float(n),)) for name, n in drops[:_DROPS]]
        caption = "What the server did not carry out, by the reason that it counts it under."
        drawn = markup.figure(title, caption, plots.bars(said, rows))
        if len(drops) > _DROPS:
            drawn += markup.table(
                ("reason", "dropped"), [markup.cells(name, words.count(n)) for name, n in drops]
            )
        pieces.append(drawn)
    if run.items:
        numbers = [markup.cells(name, words.count(n)) for name, n in run.items.items()]
        pieces.append(markup.table(("items", "number"), numbers))
    return markup.heading("Items and drops") + markup.pair(pieces) if pieces else ""


def _people(run: Result) -> str:
    truth = run.truth
    if truth is None:
        return ""
    shown, newest = of_best(truth.shown, truth), of_best(truth.newest, truth)
    parts = [markup.heading("People")]
    if isfinite(shown):
        title = (
            f"Windows gave people {words.share(shown)} of what the best possible ones would have; "
            f"newest first, {words.share(newest)}"
        )
        caption = (
            "Openings to expect of a window as it was shown, by the true model of the people in front of it, "
            "which the server never sees."
        )
        parts.append(markup.figure(title, caption, plots.truth(title, (truth,)), wide=True))
    opened = truth.opens / truth.shows if truth.shows else nan
    said = (
        f"People saw {words.count(truth.shows)} items, opened {words.count(truth.opens)} ({words.share(opened)}) "
        f"and dismissed {words.count(truth.dismissals)}."
    )
    parts.append(markup.text(said))
    return "".join(parts)


def _counted(run: Result) -> str:
    names = figures.counts(run.classes)
    if not names:
        return ""
    rows = [
        markup.cells(
            each.name,
            words.count(each.devices),
            *(words.count(each.counts.get(name, 0)) for name in names),
        )
        for each in run.classes
    ]
    parts = (
        markup.heading("What devices counted"),
        markup.text("All devices of a class together; what no class has is left out.", "faint"),
        markup.table(("class", "devices", *(name.replace("_", " ") for name in names)), rows),
    )
    return "".join(parts)


def _notes(run: Result) -> str:
    return markup.heading("To know with it") + markup.bullets(run.notes) if run.notes else ""


def _quantiles(groups: Sequence[tuple[str, Sequence[Row]]]) -> str:
    """Return tables of half, 90 %, 99 % and the most."""
    parts = []
    for name, rows in groups:
        lines = [
            markup.cells(
                row.name,
                words.count(row.many[0].count),
                *(words.seconds(row.many[0].quantile(q)) for q in QUANTILES),
                words.seconds(row.many[0].largest),
            )
            for row in rows
        ]
        parts.append(markup.table(("class", name, "p50", "p90", "p99", "most"), lines))
    return "".join(parts)


def _alt(title: str, rows: Sequence[Row]) -> str:
    """Return what a picture of distributions says, in words."""
    each = (
        f"{row.name}: half {words.seconds(row.many[0].quantile(0.5))}, "
        f"99 % {words.seconds(row.many[0].quantile(0.99))}"
        for row in rows[:PANELS]
    )
    return f"{title}. {'; '.join(each)}"


def _left_out(caption: str, classes: int) -> str:
    more = classes - PANELS
    return caption if more <= 0 else f"{caption} {more} classes more stand in the table alone."
