"""Arguments of commands, as they come out of JSON, and what they must look like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from broker.control import ControlError
from devices.profile import Rights

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Handler = Callable[[dict[str, Any]], Awaitable[Any]]

MAX_LISTED = 10_000
"""Names in one answer."""

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)


def text(args: Mapping[str, Any], name: str) -> str:
    """A string that must be there."""
    value = args.get(name)
    if not isinstance(value, str):
        raise ControlError(f"{name!r} is missing")
    return value


def texts(args: Mapping[str, Any], name: str) -> list[str]:
    """A list of strings; empty where there is none."""
    value = args.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ControlError(f"{name!r} must be a list of strings")
    return value


def some_texts(args: Mapping[str, Any], name: str) -> list[str] | None:
    """A list of strings, or None where nothing was said: an empty list says something."""
    return None if args.get(name) is None else texts(args, name)


def flag(args: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    """A truth value. `"false"` is none: what a mistake would grant must not be granted."""
    value = args.get(name, default)
    if not isinstance(value, bool):
        raise ControlError(f"{name!r} must be true or false")
    return value


def limit(args: Mapping[str, Any]) -> int:
    """How many names are wanted, at most `MAX_LISTED`."""
    value = args.get("limit") or MAX_LISTED
    if type(value) is not int or value < 1:
        raise ControlError("'limit' must be a whole number above 0")
    return min(value, MAX_LISTED)


def attributes(args: Mapping[str, Any]) -> dict[str, str | int]:
    """Attributes of a device."""
    value = args.get("attrs") or {}
    if not isinstance(value, dict) or not all(type(each) in {str, int} for each in value.values()):
        raise ControlError("'attrs' must be an object of strings and whole numbers")
    return value


def rights(args: Mapping[str, Any]) -> Rights:
    """What somebody may do; what is not named is not granted."""
    follow = some_texts(args, "may_follow")
    return Rights(
        publish=tuple(texts(args, "publish")),
        read=tuple(texts(args, "read")),
        write=tuple(texts(args, "write")),
        follow=None if follow is None else tuple(follow),
        operator=flag(args, "operator"),
    )


def attribute_value(written: str) -> str | int:
    """An attribute as people write it: what looks like a whole number is one."""
    return int(written) if _WHOLE.fullmatch(written) else written
