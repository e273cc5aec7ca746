"""From a TOML file to a valid scenario, or to sentences that say where it is wrong and what is allowed.

`scenarios` in the package are found by name; anything that ends in .toml, or is a path, is a file.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from simulator.scenario import model, tables
from simulator.scenario.model import Scenario
from simulator.scenario.words import near

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

_SHIPPED = files("simulator") / "scenarios"
_HEADER = re.compile(r"^\s*(\[\[?)\s*([\w.\-\"' ]+?)\s*\]\]?\s*(#.*)?$")

_TABLES: dict[str, type[BaseModel]] = {
    "scenario": model.Head,
    "server": model.Server,
    "class": tables.DeviceClass,
    "publisher": tables.Publisher,
    "phase": model.Phase,
    "fault": model.Fault,
    "expect": model.Expect,
}
_NESTED: dict[tuple[str, str], type[BaseModel]] = {
    ("class", "sleep"): tables.SleepSchedule,
    ("expect", "class"): model.ClassBounds,
}


class ScenarioError(Exception):
    """A scenario that cannot be used; `problems` has a sentence for each fault of the file.

    Attributes:
        problems: Each begins with the file and, where it is known, the line.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def shipped() -> dict[str, str]:
    """The scenarios in the package: names, and what each is about."""
    found = {}
    for entry in sorted(_SHIPPED.iterdir(), key=lambda each: each.name):
        if entry.name.endswith(".toml"):
            head = tomllib.loads(entry.read_text(encoding="utf-8"))["scenario"]
            found[entry.name.removesuffix(".toml")] = " ".join(head["about"].split())
    return found


def load(name: str) -> Scenario:
    """The scenario of a file, or the shipped one of this name.

    Raises:
        ScenarioError: There is no such file, or it is wrong.
    """
    known = shipped()
    if name in known:
        return parse((_SHIPPED / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml")
    path = Path(name)
    if not name.endswith(".toml") and not path.exists():
        raise ScenarioError(
            [
                f"there is no scenario {name!r}{near(name, known)}; there are {', '.join(known)}, or give a .toml file"
            ]
        )
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError([f"{name} cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError:
        raise ScenarioError([f"{name} is not UTF-8 text"]) from None
    return parse(text, name)


def parse(text: str, file: str) -> Scenario:
    """The scenario that a text says.

    Args:
        text: TOML.
        file: What to call it in errors.

    Raises:
        ScenarioError: It is no TOML, or says something wrong.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError([f"{file}: no valid TOML: {error}"]) from None
    try:
        return Scenario(**table)
    except ValidationError as error:
        lines = _lines(text)
        # A key that is written wrong is also one that is missing: the reason comes first.
        faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        found = [_sentence(fault, file, lines, table) for fault in faults]
        raise ScenarioError(list(dict.fromkeys(found))) from None
    except TypeError as error:  # a key that is no name of an argument
        raise ScenarioError([f"{file}: {error}"]) from None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a key is written: its table (with a number among those of the same name) and its name."""

    table: str
    number: int
    key: str


def _lines(text: str) -> dict[_Place, int]:
    """The line of every table and key, as far as a look at the lines tells; from 1."""
    found: dict[_Place, int] = {}
    counts: dict[str, int] = {}
    table, number = "", 0
    for line, content in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(content):
            table = re.sub(r"[\s\"']", "", header[2])
            number = counts[table] = counts.get(table, -1) + 1 if header[1] == "[[" else 0
            if header[1] == "[" and (above := table.partition(".")[0]) in counts:
                number = counts[above]
            found.setdefault(_Place(table, number, ""), line)
        elif "=" in content and not content.lstrip().startswith("#"):
            key = content.partition("=")[0].strip().strip("\"'")
            found.setdefault(_Place(table, number, key), line)
    return found


def _sentence(
    fault: ErrorDetails, file: str, lines: dict[_Place, int], table: dict[str, Any]
) -> str:
    """One fault that validation found: file and line, table, key, what is wrong and what is allowed."""
    keys = [*fault["loc"]]
    top = str(keys[0]) if keys else ""
    number = next((key for key in keys[1:2] if isinstance(key, int)), None)
    rest = [str(key) for key in (keys[1:] if number is None else keys[2:])]
    line = _line(top, number or 0, rest, lines)
    where = f"{file}, line {line}" if line else file
    name = _title(top, number, table)
    return f"{where}: {_fault(fault, name, top, rest)}"


def _line(top: str, number: int, rest: Sequence[str], lines: dict[_Place, int]) -> int | None:
    """Of the key, else of the nearest table above it."""
    for depth in range(len(rest), -1, -1):
        below = ".".join([top, *rest[: depth - 1]]) if depth else top
        key = rest[depth - 1] if depth else ""
        for place in (
            _Place(below, number, key),
            _Place(".".join([top, *rest[:depth]]), number, ""),
        ):
            if place in lines:
                return lines[place]
    return lines.get(_Place("", 0, top))


def _title(top: str, number: int | None, table: dict[str, Any]) -> str:
    """How people call the table: `[[class]] "bulb"`, `[[fault]] 2 (kill)`, `[expect]`."""
    if number is None:
        return f"[{top}]" if top in _TABLES else ""
    entries = table.get(top)
    entry = entries[number] if isinstance(entries, list) and number < len(entries) else {}
    called = entry.get("name") if isinstance(entry, dict) else None
    return f"[[{top}]] {called!r}" if called else f"[[{top}]] {number + 1}"


def _fault(fault: ErrorDetails, title: str, top: str, rest: Sequence[str]) -> str:
    kind, message = fault["type"], fault["msg"].removeprefix("Value error, ")
    key = ".".join(rest)
    if kind == "extra_forbidden" and not rest:
        return f"there is no table [{top}]{near(top, _TABLES)}; there are {', '.join(_TABLES)}"
    if kind == "extra_forbidden":
        known = _keys(top, rest)
        return f"{title} has no key `{rest[-1]}`{near(rest[-1], known)}; it has {', '.join(known)}"
    if kind == "missing":
        what = f"`{key}`" if key else f"a table [{top}]"
        return f"{title} needs {what}" if key else f"{what} is missing"
    info = _info(top, rest)
    if kind == "value_error" or info is None:
        return f"{title} `{key}`: {message}" if key else f"{title}: {message}" if title else message
    if kind == "literal_error":
        allowed = [str(each) for each in _choices(info)]
        return f"{title} `{key}` = {fault['input']!r}{near(str(fault['input']), allowed)}; allowed: {', '.join(allowed)}"
    bounds = _range(info)
    said = message.removeprefix("Input should be ").removeprefix("Input ")
    return f"{title} `{key}` = {fault['input']!r} must be {bounds or said}"


def _keys(top: str, rest: Sequence[str]) -> list[str]:
    table = _model(top, rest)
    return (
        [] if table is None else [info.alias or name for name, info in table.model_fields.items()]
    )


def _model(top: str, rest: Sequence[str]) -> type[BaseModel] | None:
    """The model that the last key stands in."""
    return _NESTED.get((top, rest[0])) if len(rest) > 1 else _TABLES.get(top)


def _info(top: str, rest: Sequence[str]) -> FieldInfo | None:
    table = _model(top, rest)
    return None if table is None or not rest else table.model_fields.get(rest[-1])


def _choices(info: FieldInfo) -> tuple[Any, ...]:
    return getattr(info.annotation, "__args__", ())


def _range(info: FieldInfo) -> str:
    """What a field may be, where it is a number."""
    bounds: dict[str, Any] = {
        name: getattr(each, name)
        for each in info.metadata
        for name in ("ge", "gt", "le")
        if getattr(each, name, None) is not None
    }
    whole = "a whole number" if "int" in str(info.annotation) else "a number"
    if "ge" in bounds and "le" in bounds:
        return f"{whole} from {bounds['ge']:g} to {bounds['le']:g}"
    low = (
        f" of {bounds['ge']:g} or more"
        if "ge" in bounds
        else f" above {bounds['gt']:g}"
        if "gt" in bounds
        else ""
    )
    high = f" up to {bounds['le']:g}" if "le" in bounds else ""
    return f"{whole}{low}{high}" if bounds else ""
