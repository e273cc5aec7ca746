"""A result as JSON, and back. Pure.

Numbers that are not known (NaN) are null, an open upper end is "inf": JSON itself has neither. Beside what `Result`
holds, the text has what scripts ask for first and would otherwise have to work out: "ok" of the run, and mean,
"p50", "p90" and "p99" of each distribution. Whoever reads it back works these out anew.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin, get_type_hints

from simulator.results import FORM, Distribution, Result, Truth

if TYPE_CHECKING:
    from collections.abc import Callable

_Number = TypeVar("_Number", int, float)

_DERIVED: Final[dict[type, dict[str, Callable[[Any], object]]]] = {
    Result: {"ok": lambda result: result.ok},
    Distribution: {
        "mean": lambda many: many.mean,
        "p50": lambda many: many.quantile(0.5),
        "p90": lambda many: many.quantile(0.9),
        "p99": lambda many: many.quantile(0.99),
    },
}
_MOST = 10**15
"""No run counts or measures more; what is drawn and compared may rely on it."""
_LAST = 253_402_300_799
"""Unix seconds of the end of the year 9999."""
_NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class BadReport(ValueError):  # noqa: N818 - named as BadFrame and BadItem are
    """The text is no result of a simulation; the message says where and why."""


def to_json(result: Result) -> str:
    """Return a result as JSON, a line for each of its attributes."""
    whole = {"form": FORM, **_plain(result)}
    lines = ",\n".join(
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in whole.items()
    )
    return f"{{\n{lines}\n}}\n"


def from_json(text: str) -> Result:
    """Return the result that `to_json` wrote.

    Raises:
        BadReport: It is no JSON, of another form, or something in it is missing, unknown or of a wrong kind.
    """
    try:
        whole = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadReport(f"This is no JSON: {error}.") from error
    if not isinstance(whole, dict) or "form" not in whole:
        raise BadReport(
            'This is no result of a simulation: an object with "form" is expected. '
            "`fleetfeed simulate --json FILE` writes one."
        )
    form = whole.pop("form")
    if form != FORM:
        raise BadReport(
            f"This result has form {form!r} and this version of fleetfeed reads form {FORM}: "
            "compare with the version that wrote it, or run the scenario again."
        )
    result: Result = _object(Result, whole, "")
    for i, series in enumerate(result.series):
        _length(len(result.at), series.values, f"series[{i}].values")
    if result.started > _LAST:
        raise BadReport("started is after the year 9999.")
    return result


def _plain(value: Any) -> Any:
    """Return what JSON has for a value."""
    if is_dataclass(value) and not isinstance(value, type):
        found = {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
        derived = _DERIVED.get(type(value), {})
        return found | {name: _plain(work_out(value)) for name, work_out in derived.items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


@cache
def _kinds(noun: type) -> dict[str, Any]:
    """Return the types of a dataclass's attributes."""
    return get_type_hints(noun, localns={"Mapping": Mapping})


def _value(kind: Any, raw: Any, where: str) -> Any:
    """Return what JSON says at a place as the type that is due there."""
    if is_dataclass(kind) and isinstance(kind, type):
        return _object(kind, raw, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is types.UnionType:
        (other,) = (one for one in arguments if one is not types.NoneType)
        return None if raw is None else _value(other, raw, where)
    if origin is tuple:
        each = _expect(list, raw, where)
        return tuple(_value(arguments[0], one, f"{where}[{i}]") for i, one in enumerate(each))
    if origin is Mapping:
        each = _expect(dict, raw, where)
        return {key: _value(arguments[1], one, f"{where}.{key}") for key, one in each.items()}
    if kind is float:
        return _number(raw, where)
    return _whole(raw, where) if kind is int else _expect(kind, raw, where)


def _object(noun: type, raw: Any, where: str) -> Any:
    """Return the dataclass that a JSON object stands for."""
    given, kinds = _expect(dict, raw, where), _kinds(noun)
    unknown = given.keys() - kinds.keys() - _DERIVED.get(noun, {}).keys()
    if unknown:
        raise BadReport(
            f"{_at(where, min(unknown))} is not known: another version of fleetfeed wrote this."
        )
    required = {one.name for one in fields(noun) if one.default is one.default_factory is MISSING}
    missing = required - given.keys()
    if missing:
        raise BadReport(f"{_at(where, min(missing))} is missing.")
    made = noun(
        **{
            name: _value(kind, given[name], _at(where, name))
            for name, kind in kinds.items()
            if name in given
        }
    )
    if isinstance(made, Distribution):
        _sound(made, where)
    elif isinstance(made, Truth):
        for name in ("shown", "best", "newest"):
            _length(len(made.at), getattr(made, name), _at(where, name))
    return made


def _sound(found: Distribution, where: str) -> None:
    """Refuse a distribution that no values can have."""
    _length(len(found.bounds), found.counts, _at(where, "counts"))
    if any(not low < high for low, high in pairwise(found.bounds)):
        raise BadReport(f"{_at(where, 'bounds')} must rise.")
    if sum(found.counts) > found.count:
        raise BadReport(f"{_at(where, 'counts')} are more than count says.")


def _length(expected: int, found: tuple[object, ...], where: str) -> None:
    if len(found) != expected:
        raise BadReport(f"{where} has {len(found)} values where {expected} belong.")


def _number(raw: Any, where: str) -> float:
    """Return a number; only samples over time may be unknown, and only a bucket may have an open end."""
    attribute = where.rpartition(".")[2].partition("[")[0]
    if raw is None and attribute in ("values", "shown", "best", "newest"):
        return math.nan
    if raw == "inf" and attribute == "bounds":
        return math.inf
    # The type itself: to Python, true is a whole number.
    if type(raw) is not int:
        _expect(float, raw, where)
    return float(_in_range(raw, where))


def _whole(raw: Any, where: str) -> int:
    number: int = _expect(int, raw, where)
    return number if where == "seed" else _in_range(number, where)


def _in_range(number: _Number, where: str) -> _Number:
    if not 0 <= number <= _MOST:
        raise BadReport(
            f"{where} is {'negative' if number < 0 else 'too large'}: 0 to {_MOST:.0e} is possible."
        )
    return number


def _expect(kind: type, raw: Any, where: str) -> Any:
    if type(raw) is not kind:
        found = _NAMES.get(type(raw), type(raw).__name__)
        raise BadReport(f"{where or 'This'} is {found} where {_NAMES[kind]} belongs.")
    return raw


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
