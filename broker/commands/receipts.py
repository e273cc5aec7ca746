"""`fleetfeed item show`, and what `fleetfeed publish --dry-run` says: what becomes of items."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from broker.commands import shell
from broker.commands.asking import ask

app = typer.Typer(no_args_is_help=True, help="Show what became of items.")

_PRIORITIES = ("low", "normal", "high", "urgent")
_DROPPED = {
    "where": "their attributes do not match",
    "dismissed": "dismissed it",
    "oversize": "it does not fit their frames",
    "collapsed": "a newer item of its collapse key stands in its place",
    "outranked": "show better items",
    "evicted": "had it, and better items pushed it out",
    "expired": "it expired before it was sent",
    "retracted": "it was retracted before it was sent",
    "reserve": "next in line",
    "held_back": "of these would get it later: their budget is used up, or it is quiet there",
    "pending": "their feeds are being built anew",
}
_COUNTS = {
    "delivered": "frames brought it, those of earlier contents and after reconnects included",
    "acknowledged": "of these frames were acknowledged; at QoS 0 none is",
    "shown": "devices showed it",
    "opened": "opened it",
    "dismissed": "dismissed it",
}
_OUTCOMES = {
    "new": "a new item",
    "update": "an update of the item that is there",
    "unchanged": "what is there already: it would change nothing",
    "stale": "older than what is there: it would change nothing",
    "retract": "a retraction",
}


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="The publisher's key of the item.")],  # noqa: A002 - as the option --id
    *,
    channel: Annotated[
        str | None, typer.Option(help="Where it was published; needed where several have the id.")
    ] = None,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Show what became of an item: whom it is for, who has it, who opened it.

    Of devices that were here lately; counts go on over a restart, but for
    the last minute if the server was killed.
    """
    found = ask(data, config, "item.show", id=id, channel=channel)
    if as_json:
        shell.print_json(found)
        return
    for line in _receipt(found, time.time()):
        typer.echo(line)


def print_trial(found: Mapping[str, Any]) -> None:
    """Print what a dry run found."""
    for line in _trial(found):
        typer.echo(line)


def _receipt(found: Mapping[str, Any], now: float) -> Iterator[str]:
    name = f"{shell.readable(found['id'])} on {shell.readable(found['channel'])}"
    yield f"{name} (#{found['n']}), {_PRIORITIES[found['priority']]} priority, {_state(found, now)}"
    census = found["census"]
    if census is None:
        yield "when it ended there was no time to look who had it"
    else:
        yield from _census(census, ended=found["ended"] is not None)
    for name, count in found["counts"].items():
        yield _line(count, _COUNTS[name])


def _census(census: Mapping[str, Any], *, ended: bool) -> Iterator[str]:
    yield _line(census["followers"], "devices follow its channel")
    yield _line(census["eligible"], "of them it is for, and it fits")
    yield _line(census["admitted"], "took it into their feeds")
    yield _line(census["sent"], "were sent it")
    yield _line(census["seen"], "showed it at its end" if ended else "show it now")
    yield _line(census["held"], f"of these {'were' if ended else 'are'} known to have it")
    for reason, count in census["dropped"].items():
        why = _DROPPED[reason]
        yield _line(count, why if reason == "evicted" else f"did not get it: {why}")
    for reason in ("reserve", "pending"):
        if census.get(reason):
            yield _line(census[reason], _DROPPED[reason])


def _state(found: Mapping[str, Any], now: float) -> str:
    if found["ended"] is not None:
        return f"{found['state']} {_duration(now - found['ended'])} ago"
    published = f"published {_duration(now - found['published'])} ago"
    left = f"{published}, leaves in {_duration(found['expires'] - now)}"
    return f"{left}, still on its way" if found["state"] == "offering" else left


def _trial(found: Mapping[str, Any]) -> Iterator[str]:
    name = f"{shell.readable(found['id'])} on {shell.readable(found['channel'])}"
    outcome = _OUTCOMES[found["outcome"]]
    if found["outcome"] == "retract" and found["held"] != "live":
        there = "of what is not there" if found["held"] is None else "of what was retracted already"
        outcome = f"{outcome} {there}"
    yield f"{name} would be {outcome}; nothing was sent"
    devices, places, away = found["devices"], found["places"], found["away"]
    yield _line(devices["following"], "devices follow its channel")
    for reason in ("where", "dismissed", "oversize"):
        if devices[reason]:
            yield _line(devices[reason], f"would not get it: {_DROPPED[reason]}")
    yield _line(
        devices["eligible"], f"it is for, and it fits; {devices['connected']:,} are connected"
    )
    if devices["shorter_form"]:
        yield _line(devices["shorter_form"], "of these would be sent its brief form")
    if found["outcome"] == "retract":
        yield _line(places["seen"], "show it now, and would lose it")
    else:
        middle = "" if places["median"] is None else f", at place {places['median']} in the middle"
        yield _line(places["seen"], f"would show it, {places['first']:,} as the first{middle}")
        for reason in ("held_back", "outranked", "collapsed", "reserve", "pending"):
            if places[reason]:
                yield _line(places[reason], _DROPPED[reason])
    if away["following"]:
        yield _line(away["eligible"], "more that it is for have not been here for long")
    for sample in found["samples"]:
        place = sample["place"]
        where = _DROPPED[sample["why_not"]] if place is None else f"place {place} of {sample['k']}"
        yield f"  {sample['device']}: {where}{'' if sample['connected'] else ', not connected'}"


def _line(count: int, what: str) -> str:
    return f"{count:>12,}  {what}"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
