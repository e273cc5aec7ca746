"""Tables and sentences that both pages have. Each returns HTML, "" where there is nothing to say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from simulator.report import markup, words
from simulator.report.figures import Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.results import Check, Result, Span

BROKEN, EVIDENCE = 40, 60
"""Broken promises on a page, and lines of evidence for each; the JSON has all."""
_MARKS = {
    True: ("✓ kept", "good"),
    False: ("✗ broken", "bad"),
    None: ("? not seen", "unsure"),
}


def conclusion(run: Result) -> tuple[str, list[str], str]:
    """Return the verdict in a sentence, what to know with it, and its class in the style sheet."""
    found = verdict(run)
    failed = [check.name for check in run.checks if check.ok is False]
    unseen = [check.name for check in run.checks if check.ok is None]
    more = []
    if found is Verdict.FAILED:
        # What contradicts a promise may have no line of its own in the verdict.
        names = list(dict.fromkeys([*failed, *(each.promise for each in run.broken)]))
        said = f"Failed: {_listed(names)}"
    elif not run.complete:
        said = "Stopped before its end: nothing is proved"
    elif not run.checks:
        said = "Nothing was checked"
    elif unseen:
        said = f"Passed as far as anybody could look: {len(unseen)} of {len(run.checks)} checks could not be made"
    else:
        said = f"Passed: all {len(run.checks)} checks held" if len(run.checks) > 1 else "Passed"
    if found is Verdict.FAILED and not run.complete:
        more.append("The run was stopped before its end.")
    if unseen and found is Verdict.FAILED:
        more.append(f"{_listed(unseen)} could not be looked at.")
    return f"{said}.", more, found.value


def mark(ok: bool | None) -> str:
    """Return whether a check held, as HTML: a sign, a word and a colour."""
    return markup.span(*_MARKS[ok])


def checks(found: Sequence[Check]) -> str:
    """Return the verdict line by line."""
    if not found:
        return ""
    rows = [[*markup.cells(each.name), mark(each.ok), *markup.cells(each.text)] for each in found]
    return markup.table(("check", "", "what was looked at"), rows, names=(1,), prose=(2,))


def broken(run: Result) -> str:
    """Return what contradicts the promises, with its evidence."""
    if not run.broken:
        return ""
    parts = [markup.heading("Broken promises")]
    for each in run.broken[:BROKEN]:
        parts += [markup.heading(f"{each.promise}: {each.sentence}", 3)]
        if each.evidence:
            more = len(each.evidence) - EVIDENCE
            rest = (f"… and {more} lines more, which the JSON has.",) if more > 0 else ()
            parts.append(markup.code("\n".join((*each.evidence[:EVIDENCE], *rest))))
    if len(run.broken) > BROKEN:
        parts.append(
            markup.text(f"… and {len(run.broken) - BROKEN} more, which the JSON has.", "faint")
        )
    return "".join(parts)


def course(phases: Sequence[Span], faults: Sequence[Span]) -> str:
    """Return phases and faults with their times, folded away."""
    spans = [*((span, "phase") for span in phases), *((span, "fault") for span in faults)]
    if not spans:
        return ""
    rows = [
        markup.cells(span.name, kind, words.clock(span.start), words.seconds(span.end - span.start))
        for span, kind in sorted(spans, key=lambda each: (each[0].start, each[1] == "fault"))
    ]
    many = [
        plural(len(found), name) for found, name in ((phases, "phase"), (faults, "fault")) if found
    ]
    return markup.folded(
        f"{' and '.join(many)}, with their times",
        markup.table(("", "", "begins", "lasts"), rows, names=(1,)),
    )


def origin(run: Result) -> str:
    """Return where a run came from, in one line of text."""
    parts = (
        datetime.fromtimestamp(run.started, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        words.seconds(run.seconds),
        f"against {run.server}" if run.server else "",
        _version(run),
        run.machine,
    )
    return " · ".join(part for part in parts if part)


def repeat(run: Result) -> str:
    """Return how to do the same again."""
    said = (
        f"Seed {run.seed}, {_version(run)}. Whatever is drawn follows the seed; how processes and network are timed "
        "does not. Two runs agree in what is promised and differ a little in times."
    )
    return markup.text(said) + (markup.code(run.command) if run.command else "")


def _version(run: Result) -> str:
    return f"fleetfeed {run.version}" if run.version else "version unknown"


def _listed(names: Sequence[str]) -> str:
    shown = [name for name in names[:8] if name]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)


def plural(n: int, name: str) -> str:
    """Return a number of things in words."""
    return f"{n} {name}" if n == 1 else f"{n} {name}s"
