"""Two runs as one HTML file: what differs and whether that is more than noise, then the pictures on each other."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from simulator.report import figures, markup, plots, sections, words
from simulator.report.axes import PANELS
from simulator.report.difference import BUSY, FLOOR, LEVEL, Judgement, differences, unlike
from simulator.report.distributions import Row, latency, ranges
from simulator.report.figures import Verdict, per_day, verdict
from simulator.report.timeline import drawable, timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.report.difference import Difference
    from simulator.results import ClassResult, Distribution, Result

_KINDS = {
    Judgement.BETTER: "good",
    Judgement.WORSE: "bad",
    Judgement.DIFFERENT: "unsure",
    Judgement.SAME: "",
    Judgement.UNKNOWN: "",
}
_CLEAR = (Judgement.WORSE, Judgement.BETTER, Judgement.DIFFERENT)
_COLOURS = "Dashed orange is A, blue is B."
_ASSUMED = (
    (
        "Two runs cannot show how much a third would differ. So noise is taken from within each run: a distribution "
        "counts as no more independent values than there are devices or items; a total varies as if each device varied "
        "by as much as its mean; a mean over time varies as the means of its eighths do."
    ),
    (
        f"All intervals in the table hold together with {LEVEL:.0%}: none of the marked differences is likely to be "
        f"chance. Whatever the counts say, no time below {BUSY:.0%} is marked, for another program on the machine does "
        f"that, and nothing else below {FLOOR:.0%}."
    ),
    "Whoever has to know better runs each of the two several times with different seeds.",
)
_MEASURES: tuple[tuple[str, Callable[[ClassResult], Distribution]], ...] = (
    ("convergence", lambda each: each.convergence),
    ("wake-up", lambda each: each.wake_up),
    ("age of the newest item", lambda each: each.freshness),
)


def compare(a: Result, b: Result) -> str:
    """Return a page that sets two runs beside each other: one HTML file that needs nothing else.

    Args:
        a: What is compared with.
        b: What is judged: better or worse than `a`.
    """
    found = differences(a, b)
    said, kind = _conclusion(a, b, found)
    title = (
        f"{a.scenario} and {b.scenario}" if a.scenario != b.scenario else f"{a.scenario}: A and B"
    )
    body = (
        markup.heading(title, 1),
        *(_run(name, run) for name, run in (("A", a), ("B", b))),
        markup.banner(said, [_verdict("A", a), _verdict("B", b)], kind),
        _unlike(a, b),
        _checks(a, b),
        _table(found),
        _pictures(a, b),
        markup.heading("What was assumed"),
        *(markup.text(line) for line in _ASSUMED),
        _notes(a, b),
        markup.heading("How to repeat them"),
        *(markup.heading(name, 3) + sections.repeat(run) for name, run in (("A", a), ("B", b))),
    )
    return markup.document(title, body)


def _conclusion(a: Result, b: Result, found: Sequence[Difference]) -> tuple[str, str]:
    worse, better, different = (sum(each.judgement is one for each in found) for one in _CLEAR)
    compared = sum(each.judgement is not Judgement.UNKNOWN for each in found)
    if not compared:
        said = "Nothing was measured in both runs."
    elif not (worse or better or different):
        said = f"Of {compared} figures none differs by more than noise."
    else:
        said = f"B is better in {better} and worse in {worse} of {compared} figures"
        said += f"; {different} differ without being either" if different else ""
        said += f"; {compared - worse - better - different} are within noise."
    if verdict(b) is Verdict.FAILED and verdict(a) is not Verdict.FAILED:
        return f"B fails where A did not. {said}", "bad"
    if not compared or verdict(b) is not Verdict.PASSED:
        return said, "unsure"
    return said, "bad" if worse and not better else "unsure" if worse else "good"


def _verdict(name: str, run: Result) -> str:
    said, more, _ = sections.conclusion(run)
    return " ".join((f"{name}: {said}", *more))


def _run(name: str, run: Result) -> str:
    kind = "a" if name == "A" else "b"
    return f"<p>{markup.span(name, kind)} {markup.span(sections.origin(run), 'faint')}</p>\n"


def _unlike(a: Result, b: Result) -> str:
    said = unlike(a, b)
    if not said:
        return markup.text("Same scenario, seed, devices, server, version and machine.", "faint")
    return markup.text("A and B are not the same run twice:") + markup.bullets(said)


def _checks(a: Result, b: Result) -> str:
    ours, theirs = ({check.name: check for check in run.checks} for run in (a, b))
    names = list(dict.fromkeys([*ours, *theirs]))
    if not names:
        return ""
    rows = []
    for name in names:
        pair = (ours.get(name), theirs.get(name))
        marks = [words.NOTHING if one is None else sections.mark(one.ok) for one in pair]
        texts = ["" if one is None else one.text for one in pair]
        rows.append([*markup.cells(name), *marks, *markup.cells(*texts)])
    return markup.table(
        ("check", "A", "B", "looked at in A", "looked at in B"), rows, names=(1, 2), prose=(3, 4)
    )


def _table(found: Sequence[Difference]) -> str:
    clear = [each for judgement in _CLEAR for each in found if each.judgement is judgement]
    rest = [each for each in found if each.judgement not in _CLEAR]
    parts = [markup.heading("What differs by more than noise")]
    parts.append(_rows(clear) if clear else markup.text("Nothing does."))
    if rest:
        parts.append(
            markup.folded(f"{len(rest)} figures within noise, or of one run alone", _rows(rest))
        )
    return "".join(parts)


def _rows(found: Sequence[Difference]) -> str:
    rows = []
    for each in found:
        better = {True: "lower", False: "higher", None: words.NOTHING}[each.lower]
        ends = [words.change(end) for end in (each.ratio.low, each.ratio.high)]
        known = each.judgement is not Judgement.UNKNOWN
        plain = markup.cells(
            each.where or "whole run",
            each.what,
            *(each.unit(one.value) for one in (each.a, each.b)),
            words.change(each.ratio.value) if known else words.NOTHING,
            f"{ends[0]} to {ends[1] if isfinite(each.ratio.high) else 'any'}" if known else "",
            better,
        )
        rows.append([*plain, markup.span(each.judgement.value, _KINDS[each.judgement])])
    head = ("", "figure", "A", "B", "B against A", "interval, 95 %", "better is", "B is")
    return markup.table(head, rows, names=(1, 6, 7))


def _pictures(a: Result, b: Result) -> str:
    pairs = _classes(a, b)
    parts = [markup.heading("Both in the same pictures"), markup.text(_COLOURS, "faint")]
    if drawable(a) and drawable(b):
        caption = (
            "Boxes and bars on top are the phases and faults of B." if b.phases or b.faults else ""
        )
        said = f"A and B over the time of the run. {_COLOURS}"
        parts.append(markup.figure("What happened", caption, timeline(said, (a, b)), wide=True))
    rows = [Row(name, (one.latency, other.latency)) for name, one, other in pairs]
    rows = [row for row in rows if any(many.count for many in row.many)]
    if rows:
        said = _alt("From publisher to window", rows)
        caption = "Share of all values that took no longer. Points: half, 90 %, 99 %."
        parts.append(
            markup.figure(
                "From publisher to window", caption, latency(said, rows), wide=len(rows) > 1
            )
        )
    measures = [
        (name, [Row(each, (pick(one), pick(other))) for each, one, other in pairs])
        for name, pick in _MEASURES
    ]
    measures = [
        (name, rows)
        for name, rows in measures
        if any(many.count for row in rows for many in row.many)
    ]
    if measures:
        said = "; ".join(_alt(name, rows) for name, rows in measures)
        caption = "Dot: half of all values are no longer. Ring: 90 %. Bar: 99 %. Of each class A is above B."
        parts.append(
            markup.figure(
                "Convergence, wake-up, freshness",
                caption,
                ranges(said, measures),
                wide=len(measures) > 1,
            )
        )
    parts += [_air(pairs), _drops(a, b), _people(a, b)]
    return "".join(parts) if len("".join(parts[2:])) else ""


def _air(pairs: Sequence[tuple[str, ClassResult, ClassResult]]) -> str:
    days = [(per_day(one), per_day(other)) for _, one, other in pairs]
    if not any(day.bytes > 0 for each in days for day in each):
        return ""
    said = "Bytes a device and day: " + "; ".join(
        f"{name}: A {words.size(one.bytes)}, B {words.size(other.bytes)}"
        for (name, _, _), (one, other) in zip(pairs, days, strict=True)
    )
    drawn = plots.per_day(said, [name for name, _, _ in pairs], days)
    wide = any(day.joules > 0 for each in days for day in each)
    return markup.figure(
        "Over the air, a device and day", "Of each class A is above B, and paler.", drawn, wide=wide
    )


def _drops(a: Result, b: Result) -> str:
    names = sorted(
        {*a.drops, *b.drops}, key=lambda name: -a.drops.get(name, 0) - b.drops.get(name, 0)
    )
    if not names:
        return ""
    rows = [
        (name, (float(a.drops.get(name, 0)), float(b.drops.get(name, 0)))) for name in names[:20]
    ]
    said = "Dropped by reason: " + "; ".join(
        f"{name}: A {words.count(one)}, B {words.count(other)}" for name, (one, other) in rows
    )
    return markup.figure("Dropped by reason", "Orange is A, blue is B.", plots.bars(said, rows))


def _people(a: Result, b: Result) -> str:
    if a.truth is None or b.truth is None:
        return ""
    shares = [figures.of_best(truth.shown, truth) for truth in (a.truth, b.truth)]
    if not any(map(isfinite, shares)):
        return ""
    title = f"People: A gave {words.share(shares[0])} and B {words.share(shares[1])} of the best possible"
    caption = "Openings to expect per window, by the true model of the people."
    return markup.figure(title, caption, plots.truth(title, (a.truth, b.truth)), wide=True)


def _notes(a: Result, b: Result) -> str:
    said = [f"{name}: {note}" for name, run in (("A", a), ("B", b)) for note in run.notes]
    return markup.heading("To know with it") + markup.bullets(said) if said else ""


def _classes(a: Result, b: Result) -> list[tuple[str, ClassResult, ClassResult]]:
    """Return the classes that both runs have."""
    theirs = {each.name: each for each in b.classes}
    return [(each.name, each, theirs[each.name]) for each in a.classes if each.name in theirs]


def _alt(title: str, rows: Sequence[Row]) -> str:
    each = (
        f"{row.name}: 99 % in A {words.seconds(row.many[0].quantile(0.99))}, "
        f"in B {words.seconds(row.many[1].quantile(0.99))}"
        for row in rows[:PANELS]
    )
    return f"{title}. {'; '.join(each)}. {_COLOURS}"
