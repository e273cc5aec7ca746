"""A table of devices as a CSV file: what a line must look like, and what it says.

Pure: lines of text in, rows and faults out, one at a time, so that a file of a million lines costs no
more memory than one of ten. Which of the devices exist already is the caller's to ask.

An empty cell in `follow` leaves that to the server (a new device gets its default, a known one keeps
what it follows). In all other columns the cell is the whole truth: empty means none. A column that is
not in the file is left alone.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from broker.admin.arguments import attribute_value
from devices.profile import Rights
from devices.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NO_SECRET = "none"  # noqa: S105 - the word for none

_FILTERS = ("follow", "publish", "may_follow")
_ATTRIBUTE = "attr."
_COLUMNS = ("device", *_FILTERS, "secret")
_MAX_SECRET = 256
_BASE64 = re.compile(r"[A-Za-z0-9_-]{22,}={0,2}")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_FEW = 8


class BadTable(Exception):  # noqa: N818 - named for the finding, like BadFrame
    """The file as a whole is no table of devices; the text is one sentence about it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One device.

    Attributes:
        line: Where its line begins, from 1.
        device: Its id.
        said: What the columns of the file say, as `fleet.Fleet.import_` takes it, without a secret.
        secret: Its own secret; "" = one is to be made; None = it has none.
    """

    line: int
    device: str
    said: dict[str, Any]
    secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line is no device."""

    line: int
    reason: str


def read(lines: Iterable[str]) -> Iterator[Row | Fault]:
    """What each line after the heading says, in order; empty lines say nothing.

    The lines are those of a file opened with `newline=""`.

    Raises:
        BadTable: The heading is wrong, or the text is no CSV from some line on.
    """
    table = csv.reader(lines, strict=True)
    try:
        columns = _columns(next(table, []))
        checker = Registry(open_mode=False, default_follow=())
        line = table.line_num + 1
        for cells in table:
            if cells:
                yield _row(line, columns, cells, checker)
            line = table.line_num + 1
    except csv.Error as error:
        raise BadTable(f"line {table.line_num} is no CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise BadTable(f"it is no UTF-8 text after line {table.line_num}") from error


def weakness_of(secret: str) -> str | None:
    """Why this is no secret for a machine, or None if it may be.

    Stored secrets are hashed fast, so guessing must be hopeless: 128 bits, which is 32 characters of
    hexadecimal or 22 of url-safe base64. Nobody can see how random a text is; what is plainly not is
    refused.
    """
    if len(secret) > _MAX_SECRET:
        return f"the secret is longer than {_MAX_SECRET} characters"
    if _HEX.fullmatch(secret):
        long_enough = len(secret) >= 32
    else:
        long_enough = _BASE64.fullmatch(secret) is not None
    if not long_enough:
        return "a secret is 32 or more hexadecimal characters, or 22 or more of url-safe base64"
    if len(set(secret)) < _FEW:
        return f"a secret of fewer than {_FEW} different characters can be guessed"
    return None


def _columns(heading: list[str]) -> list[str]:
    columns = [name.strip() for name in heading]
    if "device" not in columns:
        raise BadTable("the first line must name the columns, 'device' among them")
    for name in columns:
        if name not in _COLUMNS and not (name.startswith(_ATTRIBUTE) and name != _ATTRIBUTE):
            raise BadTable(
                f"there is no column {name!r}: it takes {', '.join(_COLUMNS)} and attr.NAME"
            )
        if columns.count(name) > 1:
            raise BadTable(f"the column {name!r} is there twice")
    return columns


def _row(line: int, columns: list[str], cells: list[str], checker: Registry) -> Row | Fault:
    if len(cells) != len(columns):
        return Fault(line, f"{len(cells)} cells for {len(columns)} columns")
    said: dict[str, Any] = {}
    attrs: dict[str, str | int | None] = {}
    device, secret = "", ""
    for column, cell in zip(columns, map(str.strip, cells), strict=True):
        if column == "device":
            device = cell
        elif column == "secret":
            secret = cell
        elif column in _FILTERS:
            said[column] = cell.split() or None
        else:
            name = column.removeprefix(_ATTRIBUTE)
            attrs[name] = attribute_value(cell) if cell else None
    if attrs:
        said["attrs"] = attrs
    reason = _fault_of(device, said, checker)
    own = None if secret == NO_SECRET else secret
    if own and reason is None:
        reason = weakness_of(own)
    return Row(line, device, said, own) if reason is None else Fault(line, reason)


def _fault_of(device: str, said: dict[str, Any], checker: Registry) -> str | None:
    """Why no registry would take this device."""
    may_follow = said.get("may_follow")
    try:
        checker.add(
            device,
            follow=said.get("follow"),
            operator_attrs={k: v for k, v in said.get("attrs", {}).items() if v is not None},
            rights=Rights(
                publish=tuple(said.get("publish") or ()),
                follow=None if may_follow is None else tuple(may_follow),
            ),
        )
    except ValueError as error:
        return str(error)
    checker.remove(device)
    return None
