"""`fleetfeed explain`: why each item of a device's feed has its rank."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from broker.commands import shell
from broker.commands.asking import ask
from broker.commands.ranking import RUNGS

_KEYS = {
    "priority": "its priority",
    "filter": "how closely it is followed",
    "everybody": "everybody",
    "fairness": "fairness",
    "device": "this device",
    "exploration": "trying out",
}
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def explain(
    device: Annotated[str, typer.Argument(help="The device's id.")],
    *,
    parts: Annotated[
        int, typer.Option(min=0, help="Contributions to each prediction, the strongest.")
    ] = 4,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Show a device's feed and why each item has its rank.

    Newer items stand higher; everything else counts as time: an item with
    +2 h ranks as if it were published two hours later. A contribution is
    what a feature adds to the logit of being opened.
    """
    found = ask(data, config, "explain", device=device)
    if as_json:
        shell.print_json(found)
        return
    typer.echo(_headline(found))
    for item in found["items"]:
        _print_item(item, time.time(), parts)


def _headline(found: Mapping[str, Any]) -> str:
    name = found["device"]
    if found["held_out"]:
        return f"{name} stays on newest first, to measure against what the ranking is worth."
    ranked = f"{name} is ranked by {RUNGS[found.get('rung', found['model'])]}"
    version = f", version {found['version']}" if "version" in found else ""
    return f"{ranked}{version}." if found["items"] else f"{ranked}{version}; its feed is empty."


def _print_item(item: Mapping[str, Any], now: float, parts: int) -> None:
    from rich.padding import Padding  # noqa: PLC0415 - only when something is printed
    from rich.text import Text  # noqa: PLC0415 - likewise

    console = shell.console()
    title = Text(f"\n{item['place']:>2}  ", "dim").append(shell.readable(item["payload"]), "bold")
    console.print(title)
    for line in _lines(item, now, parts):
        console.print(Padding(Text(line), (0, 0, 0, 4)))


def _lines(item: Mapping[str, Any], now: float, parts: int) -> Iterator[str]:
    key = {name: seconds for name, seconds in item["key"].items() if abs(seconds) >= 1}
    age = _duration(max(now - item["published"], 0))
    counts = "" if not key else f", counts as {_shift(sum(key.values()))}"
    yield f"#{item['n']} on {shell.readable(item['channel'])}, published {age} ago{counts}"
    if len(key) > 1 or (key and "everybody" not in key):
        yield ", ".join(f"{_signed(seconds)} for {_KEYS[name]}" for name, seconds in key.items())
    if item["probability"] is not None:
        chance = f"{item['probability']:.1%}".replace("%", " %")
        said = ", ".join(f"{name} {logit:+.2f}" for name, logit in item["parts"][:parts])
        yield f"opened with {chance}" + (f": {shell.readable(said)}" if said else "")
    moved = item["place"] - item["place_by_key"]
    if moved > 0:
        yield f"{moved} lower than its key says, as what stands above it is much alike"
    elif moved < 0:
        yield f"{-moved} higher than its key says, as others repeat what stands above them"


def _shift(seconds: float) -> str:
    return f"{_duration(abs(seconds))} {'newer' if seconds >= 0 else 'older'}"


def _signed(seconds: float) -> str:
    return f"{'+' if seconds >= 0 else '-'}{_duration(abs(seconds))}"


def _duration(seconds: float) -> str:
    """Say how long, in its two largest units."""
    left = round(seconds)
    said: list[str] = []
    for unit, size in _UNITS:
        if left >= size or (size == 1 and not said):
            said.append(f"{left // size} {unit}")
            left %= size
    return " ".join(said[:2])
