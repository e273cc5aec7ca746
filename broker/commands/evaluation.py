"""What `fleetfeed evaluate` shows to a person: tables, and a sentence that says what they mean."""

from collections.abc import Sequence
from math import isfinite

import typer
from rich.table import Table

from broker.commands import shell
from feedgen.evaluate.bootstrap import Interval
from feedgen.evaluate.offpolicy import Estimate
from feedgen.evaluate.report import AT_PUBLISH, REKEYED, Policies, Report, shown


def show(report: Report, policies: Policies | None, baselines: Sequence[str]) -> None:
    """Print all that was found."""
    typer.echo(
        f"{_count(report.events)} events of {_count(report.devices)} devices in "
        f"{_count(report.lists)} lists, {report.rate:.2%} opened; 95 % intervals by device"
    )
    console = shell.console()
    held = [name for name in report.names if name in (AT_PUBLISH, REKEYED)]
    console.print(_metrics(report, [name for name in report.names if name not in held]))
    typer.echo(report.verdict(baselines))
    if caution := report.caution():
        typer.echo(caution)
    if said := report.rekeying():
        typer.echo()
        console.print(_metrics(report, [report.names[0], *held]))
        typer.echo(said)
    if policies is not None:
        typer.echo()
        _show_policies(policies)


def _show_policies(policies: Policies) -> None:
    if not isfinite(policies.logged):
        typer.echo("Off-policy: too few events to tell: none that is judged has a propensity.")
    else:
        typer.echo(
            f"Opened per item shown, from propensities (the log itself: {policies.logged:.4f})"
        )
        shell.console().print(_policies(policies))
        _remarks(policies)


def cell(found: Interval) -> str:
    """Write a number with its interval."""
    if not isfinite(found.value):
        return "-"
    if not isfinite(found.low):
        return f"{found.value:.4f}"
    return f"{found.value:.4f} [{found.low:.3f}, {found.high:.3f}]"


def _metrics(report: Report, names: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(name)
    for metric, cells in report.metrics.items():
        table.add_row(shown(metric), *(_plain(cell(cells[name])) for name in names))
    return table


def _policies(policies: Policies) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("better half by", "IPS", "SNIPS", "doubly robust", "ESS"):
        table.add_column(name, justify="right" if name == "ESS" else "left")
    for name, found in policies.estimates.items():
        table.add_row(name, *_estimates(found), _count(round(found.ess)))
    return table


def _estimates(found: Estimate) -> tuple[str, str, str]:
    """Write three estimates; none where they would mislead."""
    if found.too_few is not None:
        return "", "too few events to tell", ""
    return (
        f"{found.ips.value:.4f}",
        _plain(cell(found.snips)),
        "-" if found.dr is None else _plain(cell(found.dr)),
    )


def _remarks(policies: Policies) -> None:
    for name, found in policies.estimates.items():
        if found.too_few is not None:
            typer.echo(f"{name}: too few events to tell: {found.too_few}.")
    if policies.without:
        typer.echo(f"{_count(policies.without)} events without a propensity are left out.")


def _plain(text: str) -> str:
    """Escape what rich would read as markup."""
    return text.replace("[", r"\[")


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")
