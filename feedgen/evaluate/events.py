"""Impressions as JSON lines, read and checked one by one.

    {"t": 1649581149.2, "device": "cab-17", "item": "3892024", "list": "cab-17/2022-04-10",
     "device_fields": {"class": "tram"}, "item_fields": {"channel": "traffic/line/4"},
     "context": {"hour": "9"}, "num": [0.5], "propensity": 0.3, "y": 1}

The three maps hold strings and may be left out when empty; `num` and `propensity` are optional. Lines are in time order.
Any other field is dropped here, so that an outcome which a log happens to hold cannot become a feature.
"""

from __future__ import annotations

import gzip
import json
import zlib
from contextlib import ExitStack, contextmanager
from functools import partial
from io import BufferedReader
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NotRequired, TypedDict, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_LINE = 1 << 20
"""Bytes of the longest line: a file without line ends must not fill the memory."""

_GZIP = b"\x1f\x8b"
_NAMES = ("device", "item", "list")
_MAPS = ("device_fields", "item_fields", "context")
_NUMBER = (int, float)


class Event(TypedDict):
    """One impression: an item that stood before somebody.

    Attributes:
        t: Unix seconds at which it was shown.
        device: to whom.
        item: what.
        list: what was shown together; rankings are judged within a list.
        device_fields: what is known of the device.
        item_fields: what is known of the item: channel, publisher, tags.
        context: of the moment: hour, weekday.
        num: numeric features, always in the same order.
        propensity: with which probability the item was shown, in (0, 1].
    """

    t: float
    device: str
    item: str
    list: str
    device_fields: dict[str, str]
    item_fields: dict[str, str]
    context: dict[str, str]
    num: NotRequired[Sequence[float]]
    propensity: NotRequired[float]


class BadEvents(ValueError):  # noqa: N818 - named for what they are
    """The file of events is wrong; the text names the line."""


@contextmanager
def opened(source: Path | IO[bytes]) -> Iterator[IO[bytes]]:
    """Open a file of events, compressed by gzip or plain, told by its first bytes.

    Args:
        source: a path, or a binary stream such as `sys.stdin.buffer`, which stays open.

    Raises:
        OSError: it cannot be opened.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        buffered = raw if isinstance(raw, BufferedReader) else BufferedReader(cast("Any", raw))
        if buffered.peek(2)[:2] == _GZIP:
            yield cast("IO[bytes]", stack.enter_context(gzip.open(buffered)))
        else:
            yield buffered


def read(lines: IO[bytes]) -> Iterator[tuple[Event, int]]:
    """Yield each event with its label, 0 or 1.

    Args:
        lines: what `opened` gives.

    Raises:
        BadEvents: a line is wrong, or earlier than the one before.
    """
    last = float("-inf")
    for number, line in enumerate(_lines(lines), start=1):
        try:
            event, label = parse(line)
        except BadEvents as error:
            raise BadEvents(f"line {number}: {error}") from None
        if event["t"] < last:
            raise BadEvents(
                f"line {number}: t is {event['t']!r}, earlier than {last!r} in the line before: "
                "sort the file by time"
            )
        last = event["t"]
        yield event, label


def parse(line: bytes) -> tuple[Event, int]:
    """Return the event and the label of one line.

    Raises:
        BadEvents: it is not an impression.
    """
    if len(line) > MAX_LINE:
        raise BadEvents(f"is longer than {MAX_LINE} bytes")
    if line.isspace():
        raise BadEvents("is empty")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadEvents(f"is no JSON ({_reason(error)})") from None
    if type(record) is not dict:
        raise BadEvents("is no JSON object")
    try:
        return _event(record), _label(record["y"])
    except KeyError as error:
        raise BadEvents(f"has no {error.args[0]}") from None


def _lines(stream: IO[bytes]) -> Iterable[bytes]:
    """Yield lines; an overlong one is cut, which `parse` then refuses."""
    try:
        yield from iter(partial(stream.readline, MAX_LINE + 1), b"")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadEvents(f"the file is damaged: {error}") from None


def _event(record: dict[str, Any]) -> Event:
    event: dict[str, Any] = {"t": _time(record["t"])}
    for name in _NAMES:
        value = record[name]
        if type(value) is not str:
            raise BadEvents(f"{name} is {_shown(value)}, must be a string")
        event[name] = value
    for name in _MAPS:
        event[name] = _strings(name, record.get(name, {}))
    if record.get("num") is not None:
        event["num"] = _numbers(record["num"])
    if record.get("propensity") is not None:
        event["propensity"] = _propensity(record["propensity"])
    return cast("Event", event)


def _time(value: Any) -> float:
    if type(value) not in _NUMBER or not isfinite(value):
        raise BadEvents(f"t is {_shown(value)}, must be Unix seconds")
    return float(value)


def _label(value: Any) -> int:
    if type(value) not in (int, float, bool) or value not in (0, 1):
        raise BadEvents(f"y is {_shown(value)}, must be 0 or 1")
    return int(value)


def _strings(name: str, value: Any) -> dict[str, str]:
    if type(value) is not dict:
        raise BadEvents(f"{name} is {_shown(value)}, must be an object of strings")
    for key, each in value.items():
        if type(each) is not str:
            raise BadEvents(f"{name}.{key} is {_shown(each)}, must be a string")
    return value


def _numbers(value: Any) -> list[float]:
    if type(value) is not list:
        raise BadEvents(f"num is {_shown(value)}, must be a list of numbers")
    for each in value:
        if type(each) not in _NUMBER or not isfinite(each):
            raise BadEvents(f"num has {_shown(each)}, must have finite numbers")
    return value


def _propensity(value: Any) -> float:
    if type(value) not in _NUMBER or not 0 < value <= 1:
        raise BadEvents(f"propensity is {_shown(value)}, must be above 0 and at most 1")
    return float(value)


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else "not UTF-8"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else text[:37] + "..."
