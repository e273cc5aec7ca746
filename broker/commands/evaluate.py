"""`fleetfeed evaluate`: how good the ranking is on a log of impressions, next to simple ones."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.commands import shell
from broker.commands.shell import Code, Failure

if TYPE_CHECKING:
    from feedgen.evaluate.progressive import Batch, Run
    from feedgen.evaluate.ranker import Floats, Ranker

BASELINES = ("popularity", "newest")


class Model(StrEnum):
    """What is judged."""

    LEARNED = "learned"
    POPULARITY = "popularity"
    NEWEST = "newest"
    PRIOR = "prior"


def parse_batch(text: str) -> "Batch":
    """Read `day` or a number of events."""
    if text == "day":
        return "day"
    if text.isascii() and text.isdigit() and int(text):
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither a number of events, at least 1, nor 'day'")


def evaluate(
    events: Annotated[
        Path | None,
        typer.Argument(
            metavar="EVENTS",
            help="JSON lines, one impression each, in time order; may be gzipped; - is stdin.",
            show_default=False,
        ),
    ] = None,
    *,
    model: Annotated[Model, typer.Option(help="What is judged.")] = Model.LEARNED,
    batch: Annotated[
        Any,
        typer.Option(
            parser=parse_batch,
            metavar="N|day",
            help="Events that are predicted together and then learned: so many, or a UTC day's.",
        ),
    ] = "50",
    warm_up: Annotated[
        float, typer.Option(min=0, max=0.99, help="First share of events, learned but not judged.")
    ] = 0.2,
    delay: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="A label is known so much later.")
    ] = 0.0,
    score_at_publish: Annotated[
        bool,
        typer.Option(
            "--score-at-publish",
            help="Show too what a feed loses that scores an item once, and what re-keying regains.",
        ),
    ] = False,
    rekey: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="LOGIT",
            help="How far an item's term moves before it is re-keyed.",
            show_default="0.083, as the server",
        ),
    ] = None,
    off_policy: Annotated[
        bool,
        typer.Option(
            "--off-policy",
            help="From propensities: what would be opened of each one's better half.",
        ),
    ] = False,
    decisions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Instead of EVENTS, judge what a server's decision log says was predicted.",
        ),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one probability per input line.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Draw it all into one HTML file.")
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, max=10_000, help="Of devices, for the intervals; 0: none.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 0,
    as_json: shell.AsJson = False,
) -> None:
    """Judge the ranking on a log: predict a batch, then learn it, in the order of time.

    Prints AUC, normalised entropy (NE), log-loss, calibration error (ECE),
    NDCG@10 and list AUC with 95 % intervals, next to two baselines: popularity
    with decay, and newest first.
    """
    if (events is None) == (decisions is None):
        raise Failure("name a file of EVENTS, or a decision log with --decisions", Code.INVALID)
    from feedgen.evaluate.report import policies, report  # noqa: PLC0415 - numpy is slow to import

    if decisions is not None:
        if score_at_publish:
            raise Failure(
                "--score-at-publish needs EVENTS: a decision log has no features", Code.INVALID
            )
        run = _served(decisions, batch=batch, delay=delay, warm_up=warm_up)
        off_policy = True
    elif events is not None:
        rankers = _rankers(model, score_at_publish=score_at_publish, rekey=rekey)
        run = _run(events, rankers, batch=batch, delay=delay, warm_up=warm_up)
    _require_events(run, events or decisions)
    found = report(run, resamples=resamples, seed=seed)
    worth = policies(run, resamples=resamples, seed=seed) if off_policy else None
    if predictions is not None:
        _write_predictions(predictions, next(iter(run.predictions.values())))
    if plot is not None:
        from feedgen.evaluate.page import page  # noqa: PLC0415 - matplotlib is slow to import

        source = (events or decisions or Path()).name
        _write(plot, page(run, found, BASELINES, source=source, resamples=resamples, seed=seed))
    if as_json:
        said = {
            "verdict": found.verdict(BASELINES),
            "caution": found.caution(),
            "rekeying": found.rekeying(),
        }
        extra = {} if worth is None else {"off_policy": worth.as_json()}
        shell.print_json({**found.as_json(), **said, **extra})
    else:
        from broker.commands.evaluation import show  # noqa: PLC0415 - rich

        show(found, worth, BASELINES)


def _rankers(model: Model, *, score_at_publish: bool, rekey: float | None) -> "dict[str, Ranker]":
    """Return the rankers by name, the judged one first."""
    from feedgen.evaluate import event_ranker  # noqa: PLC0415 - numpy is slow to import
    from feedgen.evaluate.baselines import Newest, Popularity, Prior  # noqa: PLC0415 - likewise
    from feedgen.evaluate.progressive import REKEY, Held  # noqa: PLC0415 - likewise
    from feedgen.evaluate.ranker import TermRanker  # noqa: PLC0415 - likewise
    from feedgen.evaluate.report import AT_PUBLISH, REKEYED  # noqa: PLC0415 - likewise

    make: dict[str, Callable[[], Ranker]] = {
        Model.LEARNED: event_ranker,
        Model.POPULARITY: Popularity,
        Model.NEWEST: Newest,
        Model.PRIOR: Prior,
    }
    names = dict.fromkeys((str(model), *BASELINES))
    rankers = {name: make[name]() for name in names}
    if score_at_publish:
        judged = rankers[model]
        if not isinstance(judged, TermRanker):
            raise Failure(f"--score-at-publish needs the learned model, not {model}", Code.INVALID)
        rankers[AT_PUBLISH] = Held(judged)
        rankers[REKEYED] = Held(judged, REKEY if rekey is None else rekey)
    return rankers


def _run(path: Path, rankers: "dict[str, Ranker]", **how: Any) -> "Run":
    from feedgen.evaluate.events import BadEvents, opened, read  # noqa: PLC0415 - numpy
    from feedgen.evaluate.progressive import run  # noqa: PLC0415 - likewise

    source = sys.stdin.buffer if str(path) == "-" else path
    try:
        with opened(source) as lines, _progress() as on_batch:
            return run(read(lines), rankers, on_batch=on_batch, **how)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror or error}", Code.INVALID) from error
    except BadEvents as error:
        raise Failure(f"{path}: {error}", Code.INVALID) from error


def _served(directory: Path, **how: Any) -> "Run":
    """Return a decision log with what was predicted in service, and the baselines on the same."""
    from feedgen.evaluate.baselines import Newest, Popularity  # noqa: PLC0415 - numpy
    from feedgen.evaluate.progressive import run  # noqa: PLC0415 - likewise
    from feedgen.evaluate.served import served  # noqa: PLC0415 - likewise
    from feedgen.store.base import StoreError  # noqa: PLC0415 - likewise
    from feedgen.store.decision_reading import join  # noqa: PLC0415 - likewise

    try:
        log = served(join(directory))
    except (StoreError, OSError) as error:
        raise Failure(str(error), Code.INVALID) from error
    if log.incomplete:
        typer.echo(
            f"{log.incomplete} outcomes without a prediction or a time are left out", err=True
        )
    with _progress() as on_batch:
        found = run(
            log.labelled, {"popularity": Popularity(), "newest": Newest()}, on_batch=on_batch, **how
        )
    return replace(found, predictions={"served": log.p, **found.predictions})


def _require_events(run: "Run", path: Path | None) -> None:
    if run.judged >= len(run):
        raise Failure(f"{path} has no events to judge by", Code.INVALID)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Give what shows on a terminal how many events are done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - likewise

    columns = SpinnerColumn(), TextColumn("{task.completed:,.0f} events"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done: progress.update(task, completed=done)


def _write_predictions(path: Path, p: "Floats") -> None:
    _write(path, "".join(f"{each:.9g}\n" for each in p.tolist()))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error
