"""Pieces of a page. All text that comes in is escaped here, and nowhere else. Pure."""

from __future__ import annotations

from html import escape as _escape
from typing import TYPE_CHECKING

from simulator.report.theme import stylesheet
from simulator.report.words import readable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from simulator.report.headline import Fact

_STYLE = """
body{margin:0 auto;max-width:80rem;padding:2rem 1.25rem 3rem;background:var(--ground);color:var(--ink);
font:16px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.6rem;margin:0}h2{font-size:1.2rem;margin:2.2rem 0 .3rem}h3{font-size:1rem;margin:0 0 .1rem}
p{margin:.35rem 0;max-width:60rem}.faint{opacity:.78;font-size:.9rem}
.verdict{margin:1.1rem 0;padding:.7rem 1.1rem;background:var(--card);border-left:.45rem solid;border-radius:.3rem}
.verdict p{color:var(--ink)}.verdict p:first-child{font-size:1.3rem;font-weight:600;color:inherit}
.good{color:var(--good)}.bad{color:var(--bad)}.unsure{color:var(--unsure)}
.a{color:var(--series-1)}.b{color:var(--series-0)}
dl.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.8rem,1fr));gap:.8rem;margin:1.2rem 0}
dl.facts div{padding:.55rem .8rem;background:var(--card);border-radius:.5rem}
dt{font-size:.85rem;opacity:.78}dd{margin:0;font-size:1.3rem;font-variant-numeric:tabular-nums}
dd small{display:block;font-size:.8rem;opacity:.78}
.scroll{overflow-x:auto;margin:.5rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem 1.5rem .3rem 0;border-bottom:1px solid var(--faint);white-space:nowrap;vertical-align:top}
th.figure,td.figure{text-align:right}
td.prose{white-space:normal;min-width:13rem}thead th{font-weight:600}tbody th{font-weight:400}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,34rem),1fr));gap:1.25rem;align-items:start}
figure{margin:.8rem 0;padding:1rem 1.1rem;background:var(--card);border-radius:.6rem;min-width:0}
figure svg{width:100%;height:auto;display:block}figure:not(.wide) svg{max-width:40rem}figure.wide svg{min-width:52rem}
pre{overflow-x:auto;margin:.5rem 0;padding:.7rem .9rem;background:var(--card);border-radius:.4rem;font-size:.85rem;
line-height:1.4;white-space:pre-wrap;overflow-wrap:anywhere}
code{font-family:ui-monospace,"DejaVu Sans Mono",monospace}
details{margin:.5rem 0}summary{cursor:pointer}ul{padding-left:1.2rem;margin:.4rem 0}
@page{margin:14mm}
@media print{html{font-size:11px}body{max-width:none;padding:0;font-size:1rem}details::details-content{content-visibility:visible}
figure,.verdict,dl.facts div,tr,pre{break-inside:avoid}
h2,h3{break-after:avoid}.scroll{overflow:visible}figure.wide svg{min-width:0}th,td{padding-right:.8rem;white-space:normal}figure:not(.wide) svg{max-width:24rem}
.verdict,figure,dl.facts div{border:1px solid var(--faint)}.verdict{border-left:.45rem solid}}
"""
# Scripts and everything from elsewhere are forbidden to the page itself: what devices and publishers said stands in it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def escape(said: str) -> str:
    """Return text as HTML."""
    return _escape(readable(said))


def document(title: str, body: Iterable[str]) -> str:
    """Return a whole page.

    Args:
        title: plain text.
        body: pieces of HTML.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{stylesheet()}{_STYLE}</style></head><body>\n"
        f"{''.join(body)}</body></html>\n"
    )


def text(said: str, kind: str = "") -> str:
    """Return a paragraph, of a class of the style sheet."""
    return f"<p{_of(kind)}>{escape(said)}</p>\n" if said else ""


def heading(said: str, level: int = 2) -> str:
    """Return a heading."""
    return f"<h{level}>{escape(said)}</h{level}>\n"


def span(said: str, kind: str) -> str:
    """Return words of a class of the style sheet."""
    return f"<span{_of(kind)}>{escape(said)}</span>"


def banner(said: str, more: Sequence[str], kind: str) -> str:
    """Return the verdict."""
    lines = "".join(f"<p>{escape(line)}</p>" for line in more)
    return f'<div class="verdict {kind}" role="status"><p>{escape(said)}</p>{lines}</div>\n'


def facts(found: Iterable[Fact]) -> str:
    """Return figures that come first."""
    each = (
        f"<div><dt>{escape(fact.name)}</dt>"
        f"<dd>{escape(fact.value)}<small>{escape(fact.more)}</small></dd></div>"
        for fact in found
    )
    return f'<dl class="facts">{"".join(each)}</dl>\n'


def figure(title: str, caption: str, svg: str, *, wide: bool = False) -> str:
    """Return a picture with what it shows in a sentence and how to read it."""
    return (
        f"<figure{_of('wide' if wide else '')}><h3>{escape(title)}</h3>"
        f'<p class="faint">{escape(caption)}</p><div class="scroll">{svg}</div></figure>\n'
    )


def pair(pieces: Iterable[str]) -> str:
    """Return pieces that stand beside each other where there is room."""
    return f'<div class="pair">{"".join(pieces)}</div>\n'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    names: Collection[int] = (),
    prose: Collection[int] = (),
) -> str:
    """Return a table, of which the first column names the rows.

    Args:
        head: names of the columns.
        rows: cells as HTML: see `cells`.
        names: columns of words, from 0; the first always is one.
        prose: columns of sentences. All others hold figures, which are aligned to the right.
    """
    words = {0, *names}
    kinds = ["" if i in words else "prose" if i in prose else "figure" for i in range(len(head))]
    titles = "".join(
        f'<th scope="col"{_of(kind)}>{escape(name)}</th>'
        for name, kind in zip(head, kinds, strict=True)
    )
    lines = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(
            f"<td{_of(kind)}>{one}</td>" for one, kind in zip(row[1:], kinds[1:], strict=True)
        )
        + "</tr>\n"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{titles}</tr></thead><tbody>\n{lines}</tbody></table></div>\n'


def cells(*said: str) -> list[str]:
    """Return plain text as cells of a table."""
    return [escape(one) for one in said]


def bullets(said: Sequence[str]) -> str:
    """Return a list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in said)}</ul>\n" if said else ""


def code(lines: str) -> str:
    """Return lines as they are."""
    return f"<pre><code>{escape(lines)}</code></pre>\n"


def folded(summary: str, inside: str) -> str:
    """Return what is shown when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>\n"


def _of(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
