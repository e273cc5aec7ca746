"""`fleetfeed ranking …`: how the learned ranking does, and what holds it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.commands import shell
from broker.commands.asking import ask

if TYPE_CHECKING:
    from rich.text import Text

app = typer.Typer(
    no_args_is_help=True, help="See how the learned ranking of the running server does; hold it."
)

RUNGS = {
    "live": "the live model",
    "snapshot": "the last good snapshot of the model",
    "popularity": "popularity",
    "newest": "newest first",
}
_TOP = 10
"""Publishers and channels shown, those with the most merit first."""


@app.command()
def status(
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Show what ranks and why, how well it predicts, how fair it is, and what it is worth.

    Normalised entropy below 1 means that predictions say more than the rate
    of openings alone; calibration is openings over predicted openings; PSI
    above 0.25 means that something is not as it was.
    """
    found = ask(data, config, "ranking.status")
    if as_json:
        shell.print_json(found)
    elif found["model"] != "learned":
        typer.echo(f"Nothing is learned: ranking.model is {found['model']!r}.")
    else:
        _print_summary(found)
        _print_quality(found)
        _print_fairness(found)


@app.command()
def pin(
    rung: Annotated[
        str, typer.Argument(metavar="RUNG", help=f"{', '.join(RUNGS)}; or none, to let it go.")
    ],
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Have one rung of the ladder rank until it is let go, whatever the evidence says.

    Survives restarts.
    """
    found = ask(data, config, "ranking.pin", rung=rung)
    if as_json:
        shell.print_json(found)
        return
    ranks = f"{RUNGS[found['rung']]} ranks"
    if found["pinned"] is None:
        typer.echo(f"nothing is pinned; {ranks}, as the evidence speaks for it")
    elif found["pinned"] == found["rung"]:
        typer.echo(f"pinned {found['pinned']}: {ranks}; 'fleetfeed ranking pin none' lets it go")
    else:
        typer.echo(f"pinned {found['pinned']}, which cannot serve now: {ranks}")


def lift_sentence(found: Mapping[str, Any]) -> str:
    """Say what the ranking is worth over newest first."""
    lift = found["lift"]
    if not found["holdout"]:
        return "unknown: no device stays on newest first (ranking.holdout is 0)"
    if lift["lift"] is None:
        return (
            f"too few openings to tell: {_count(lift['ranked'])} impressions of ranked devices,"
            f" {_count(lift['held_out'])} of those on newest first"
        )
    value = lift["lift"]
    says = f"{_percent(abs(value))} {'more' if value >= 0 else 'less'} than"
    within = f"{_percent(lift['low'])} to {_percent(lift['high'])}"
    return f"ranked devices open {says} those on newest first (95 %: {within})"


def _print_summary(found: Mapping[str, Any]) -> None:
    from rich.table import Table  # noqa: PLC0415 - only when something is printed
    from rich.text import Text  # noqa: PLC0415 - likewise

    why = "as the evidence speaks for it"
    if found["pinned"] is not None:
        # What is pinned may be unavailable.
        why = (
            "pinned" if found["pinned"] == found["rung"] else f"though {found['pinned']} is pinned"
        )
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("ranked by", f"{RUNGS[found['rung']]}, {why}")
    table.add_row(
        "model",
        f"version {_count(found['version'])}, of {_count(found['learned'])} outcomes;"
        f" {_count(found['pending'])} impressions wait for theirs",
    )
    table.add_row("worth", lift_sentence(found))
    table.add_row("opened", f"{_percent(found['rate'], 1)} of what is shown")
    if found["decisions_fault"]:
        table.add_row("decisions", Text(f"NOT LOGGED: {found['decisions_fault']}", "bold red"))
    shell.console().print(table)


def _print_quality(found: Mapping[str, Any]) -> None:
    rungs = [
        (
            ("* " if name == found["rung"] else "  ") + name,
            _number(numbers.get("normalised_entropy")),
            _number(numbers.get("calibration")),
            _number(numbers.get("lead_over_prior"), "+.1f"),
        )
        for name, numbers in found["rungs"].items()
    ]
    _print_table(
        "Rungs, by their predictions of late (z: standard errors over the plain rate)",
        ("  rung", "entropy", "calibration", "z"),
        rungs,
    )
    cohorts = [
        (
            name,
            _count(each["events"]),
            _number(each["normalised_entropy"]),
            _number(each["calibration"]),
            _alarm(each),
        )
        for name, each in found["cohorts"].items()
    ]
    _print_table(
        "Live model, by cohort", ("cohort", "outcomes", "entropy", "calibration", "state"), cohorts
    )
    shifts = [
        (name, _number(each["index"]), each["level"])
        for name, each in found["shift"].items()
        if each["index"] is not None
    ]
    _print_table("Shift of score and features", ("feature", "PSI", "state"), shifts)


def _print_fairness(found: Mapping[str, Any]) -> None:
    for kind in ("publishers", "channels"):
        shares = found[kind]["shares"]
        rows = [
            (
                shell.readable(each["name"]),
                _percent(each["exposure"], 1),
                _percent(each["merit"], 1),
                _number(each["ratio"]),
                _number(each["correction"], "+.2f"),
                _count(each["impressions"]),
            )
            for each in shares[:_TOP]
        ]
        cost = found[kind]["cost"]
        said = "" if cost is None else f"; the correction costs {_percent(cost, 1)} of openings"
        left = f"; {len(shares) - _TOP} more with --json" if len(shares) > _TOP else ""
        _print_table(
            f"Exposure against merit, {kind}{said}{left}",
            (kind.removesuffix("s"), "exposure", "merit", "ratio", "correction", "shown"),
            rows,
        )


def _print_table(title: str, heads: Sequence[str], rows: Iterable[Sequence["str | Text"]]) -> None:
    """Print a table of names and numbers; nothing where there are no rows."""
    from rich.table import Table  # noqa: PLC0415 - only when something is printed

    rows = list(rows)
    if not rows:
        return
    typer.echo(f"\n{title}:")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, head in enumerate(heads):
        right = place > 0 and head != "state"
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    shell.console().print(table)


def _alarm(reading: Mapping[str, Any]) -> "Text":
    from rich.text import Text  # noqa: PLC0415 - only when something is printed

    alarms = ", ".join(each.replace("_", " ") for each in reading["alarms"])
    return Text(alarms or reading["status"], "bold red" if alarms else "")


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def _count(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _percent(value: float, digits: int = 0) -> str:
    return f"{100 * value:.{digits}f} %"
