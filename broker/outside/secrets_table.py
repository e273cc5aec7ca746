"""Secrets in plain text, as `device import --secrets`, `device add` and `device rotate` gave them out."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker.admin.fleet_file import NO_SECRET, BadTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Given:
    """One secret.

    Attributes:
        line: Where its line ends, from 1.
        name: Of the device or user.
        secret: In plain text.
    """

    line: int
    name: str
    secret: str = field(repr=False)


def read(lines: Iterable[str]) -> Iterator[Given]:
    """The secrets of a CSV table with the columns `device` and `secret`.

    Other columns are passed over, so that the table of `device import` will do, and so are lines
    without a secret.

    Raises:
        BadTable: It has no such columns, or is no CSV from some line on.
    """
    table = csv.reader(lines, strict=True)
    try:
        heading = [name.strip() for name in next(table, [])]
        if not {"device", "secret"} <= set(heading):
            raise BadTable("the first line must name the columns, 'device' and 'secret' among them")
        for cells in table:
            row = dict(zip(heading, cells, strict=False))
            secret = row.get("secret", "")
            if secret not in ("", NO_SECRET):
                yield Given(table.line_num, row.get("device", "").strip(), secret)
    except csv.Error as error:
        raise BadTable(f"line {table.line_num} is no CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise BadTable(f"it is no UTF-8 text after line {table.line_num}") from error
