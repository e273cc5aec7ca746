"""What an engineer sees: a line per case while it runs, a table, and the packets of what failed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from simulator.device_check.case import Status
from simulator.device_check.exchange import diagram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from simulator.device_check.case import Case, Result
    from simulator.device_check.run import Report

_STYLES = {
    Status.PASS: "green",
    Status.WARN: "yellow",
    Status.FAIL: "bold red",
    Status.NOT_APPLICABLE: "dim",
}


def progress(result: Result) -> Text:
    """One case, when it is done."""
    status = f"{result.status.value:4}"
    return Text.assemble((status, _STYLES[result.status]), f"  {result.case.id}", end="")


def table(report: Report) -> Table:
    """All cases with what was seen."""
    shown = Table("case", "", "what was seen", box=None, expand=True)
    shown.columns[0].no_wrap = shown.columns[1].no_wrap = True
    shown.columns[2].ratio = 1
    for result in report.results:
        status = Text(result.status.value, _STYLES[result.status])
        shown.add_row(result.case.id, status, Text(result.sentence))
    return shown


def summary(report: Report) -> Text:
    """The counts, in one line."""
    words = {
        Status.PASS: "passed",
        Status.WARN: "with a warning",
        Status.FAIL: "failed",
        Status.NOT_APPLICABLE: "not applicable",
    }
    parts = [(f"{report.count(status)} {word}", _STYLES[status]) for status, word in words.items()]
    separated = [part for each in parts for part in (", ", each)][1:]
    return Text.assemble(*separated, f"; {report.seconds:.0f} s with {report.device}")


def evidence(report: Report, *, with_bytes: bool = False) -> Iterator[RenderableType]:
    """For each case that failed: what it asks for, and its packets."""
    for result in report.results:
        if result.status is not Status.FAIL:
            continue
        case = result.case
        yield Text.assemble(("\n✗ " + case.id, "bold red"), f"  {case.title}  ({case.requirement})")
        yield Text(f"  {result.sentence}")
        yield Text("\n".join(diagram(result.exchange, with_bytes=with_bytes)))


def listing(cases: Iterable[Case]) -> Table:
    """All cases there are, for somebody who chooses."""
    shown = Table("case", "what a right device does", "asked for in", box=None)
    for case in cases:
        where = "" if case.where == "anywhere" else f" (--{case.where})"
        shown.add_row(case.id, case.title + where, case.requirement)
    return shown
