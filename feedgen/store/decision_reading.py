"""How the files of the decision log are named, and how anybody reads them.

A file is eight bytes that name its form, then frames (`feedgen.ranking.decisions`). Only the one with
the highest number grows, and what is whole in it never changes but by an erasure, which puts another
file in its place.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from feedgen.ranking import joined
from feedgen.ranking.decisions import (
    Admissions,
    BadDecision,
    Decision,
    Outcomes,
    decode,
    payloads,
)
from feedgen.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from feedgen.ranking.joined import Joined

FORM = 1
"""Of the files; raised when a reader of today could not read them."""
MAGIC = b"fleetdl" + bytes((FORM,))
NAME = re.compile(r"decisions-([0-9]{8,})\.log")


def named(number: int) -> str:
    """Return the name of a file."""
    return f"decisions-{number:08d}.log"


def numbered(directory: Path) -> dict[int, Path]:
    """Return the files of a log by their numbers, the oldest first.

    Raises:
        StoreError: There is no such directory.
    """
    try:
        paths = list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(
            f"{directory} is no directory: name the one that the decision log is in."
        ) from error
    found = {int(match[1]): path for path in paths if (match := NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def whole(path: Path, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield payloads and their ends, as `payloads` does, of what was read from a file.

    Raises:
        StoreError: Another version wrote it.
    """
    if data[: len(MAGIC) - 1] != MAGIC[:-1] or len(data) < len(MAGIC):
        return  # torn before its first frame
    if data[len(MAGIC) - 1] != FORM:
        raise StoreError(
            f"{path} was written by another version (form {data[len(MAGIC) - 1]}, this one knows"
            f" {FORM}): use that version, or move the file away."
        )
    yield from payloads(data, len(MAGIC))


def read(
    directory: str | Path, since: float | None = None, *, unread: Counter[str] | None = None
) -> Iterator[Decision]:
    """Yield the records of a log in the order in which they were written.

    Needs neither the server nor its lock. Beside a writer at work it yields what was written until it
    came to the end, and passes over files that are deleted meanwhile.

    Args:
        directory: of the log.
        since: Unix seconds; earlier records are left out.
        unread: told what was passed over: `bytes_torn` behind the last whole frame of a file (one that
            is just being written, after a kill, or damaged), `records_unknown` of a later version,
            `records_bad`.

    Raises:
        StoreError: There is no such directory, or another version wrote a file.
    """
    unread = Counter() if unread is None else unread
    for path in numbered(Path(directory)).values():
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        end = len(MAGIC) if data.startswith(MAGIC) else 0
        for end, payload in whole(path, data):  # noqa: B007 - wanted behind the loop
            record = _decoded(payload, unread)
            if record is not None and (since is None or record.t >= since):
                yield record
        if end < len(data):
            unread["bytes_torn"] += len(data) - end


def join(directory: str | Path, since: float | None = None) -> Joined:
    """Return the outcomes of a log, each with the last admission of its device and item before it.

    Reads the log twice, so that only the admissions that are needed take memory.

    Args:
        directory: of the log.
        since: Unix seconds; outcomes logged earlier are left out, their admissions are not.

    Raises:
        StoreError: As `read`.
    """
    outcomes = [record for record in read(directory, since) if isinstance(record, Outcomes)]
    return joined.join(
        outcomes, (record for record in read(directory) if isinstance(record, Admissions))
    )


def _decoded(payload: bytes, unread: Counter[str]) -> Decision | None:
    try:
        record = decode(payload)
    except BadDecision:
        unread["records_bad"] += 1
        return None
    if record is None:
        unread["records_unknown"] += 1
    return record
