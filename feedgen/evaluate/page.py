"""An evaluation as one HTML file that needs nothing else: numbers, verdict and pictures."""

from __future__ import annotations

from html import escape
from math import isnan
from typing import TYPE_CHECKING

from feedgen.evaluate import curves, plots
from feedgen.evaluate.bootstrap import RESAMPLES, Draws
from feedgen.evaluate.report import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.evaluate.bootstrap import Interval
    from feedgen.evaluate.curves import Cohort
    from feedgen.evaluate.progressive import Run
    from feedgen.evaluate.report import Report

_STYLE = """
:root{color-scheme:light dark;--ground:#fff;--card:#f7f8fa}
@media (prefers-color-scheme:dark){:root{--ground:#14181d;--card:#1c2229}}
body{margin:0 auto;max-width:80rem;padding:2rem 1.25rem 3rem;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.6rem;margin:0}h2{font-size:1.05rem;margin:0 0 .1rem}p{margin:.35rem 0}
.verdict{font-size:1.15rem;margin:.8rem 0 1.4rem}.faint{opacity:.75;font-size:.9rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem 1.6rem .3rem 0;border-bottom:1px solid var(--faint);white-space:nowrap}
thead th{font-weight:600}tbody th{font-weight:400}td span{opacity:.7;font-size:.85em}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,34rem),1fr));gap:1.25rem;margin-top:1.75rem}
figure{margin:0;padding:1rem 1.1rem;background:var(--card);border-radius:.6rem;min-width:0}
figure.wide{grid-column:1/-1}svg{width:100%;height:auto;display:block}
"""


def page(
    run: Run,
    report: Report,
    baselines: Sequence[str],
    *,
    source: str = "",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> str:
    """Return the HTML.

    Args:
        run: with judged events.
        report: of it.
        baselines: for the verdict.
        source: what was evaluated, for the title.
        resamples: for the intervals in the pictures; 0 none.
        seed: of the resamples.
    """
    name = report.names[0]
    judged = slice(run.judged, None)
    draws = Draws.of(run.device[judged], resamples, seed)
    bins = curves.calibration(run.y[judged], run.predictions[name][judged], draws)
    # A cohort is compared with the baselines; further rankers would only narrow the bars.
    compared = (name, *(each for each in baselines if each in report.names and each != name))
    found = curves.cohorts(run, compared, resamples, seed)
    figures = (
        _figure(
            f"Predictions are off by {report.metrics['ece'][name].value:.1%} on average (ECE)",
            "Points on the dashed line are exact. Whiskers: 95 % by device.",
            plots.calibration(run, bins, name),
        ),
        _figure(
            f"AUC {report.metrics['auc'][name].value:.3f}{_against(report, 'auc', compared)}",
            "Further up and to the left is better.",
            plots.roc(run, report.names),
        ),
        _figure(
            f"NE {report.metrics['ne'][name].value:.3f}{_against(report, 'ne', compared)}",
            f"In windows of {curves.window(run)} events; shaded: warm-up, not judged.",
            plots.learning(run, report.names),
        ),
        _figure(
            _weakest(found, name),
            "Bars begin at what chance gives. Whiskers: 95 % by device.",
            plots.cohorts(found, compared),
            wide=True,
        ),
    )
    title = f"Ranking evaluation{': ' + source if source else ''}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{plots.stylesheet()}{_STYLE}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="faint">{report.events:,} events of {report.devices:,} devices in '
        f"{report.lists:,} lists, {report.rate:.2%} opened; each predicted before its outcome was "
        "known. Intervals: 95 %, by device.</p>\n"
        f'<p class="verdict">{escape(report.verdict(baselines))}</p>\n'
        f"{_table(report)}\n"
        f'<p class="faint">{escape(report.caution() or "")}</p>\n'
        f"<main>\n{''.join(figures)}</main>\n</body></html>\n"
    )


def _table(report: Report) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in report.names)
    rows = "".join(
        f'<tr><th scope="row">{shown(metric)}</th>'
        + "".join(f"<td>{_cell(cells[name])}</td>" for name in report.names)
        + "</tr>"
        for metric, cells in report.metrics.items()
    )
    return f'<div class="scroll"><table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _cell(found: Interval) -> str:
    if isnan(found.value):
        return "-"
    if isnan(found.low):
        return f"{found.value:.4f}"
    return f"{found.value:.4f} <span>[{found.low:.3f}, {found.high:.3f}]</span>"


def _against(report: Report, metric: str, compared: Sequence[str]) -> str:
    others = [f"{name} {report.metrics[metric][name].value:.3f}" for name in compared[1:]]
    return f", against {' and '.join(others)}" if others else ""


def _weakest(found: Sequence[Cohort], name: str) -> str:
    """Say for whom the ranking is worst."""
    parts = found[1:]
    if not parts:
        return "No cohort is large enough to be judged by itself"
    least = min(parts, key=lambda cohort: cohort.metrics[name]["auc"].value)
    return f"Hardest to rank for: {least.name}, AUC {least.metrics[name]['auc'].value:.3f}"


def _figure(title: str, caption: str, svg: str, *, wide: bool = False) -> str:
    return (
        f"<figure{' class=wide' if wide else ''}><h2>{escape(title)}</h2>"
        f'<p class="faint">{escape(caption)}</p>{svg}</figure>\n'
    )
