"""Rankings for tests: arbitrary, but always the same, and known to the test."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from feedgen.ranking.scoring import Scores
from feedgen.ranking.tokens import device_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from feedgen.attributes import Value
    from feedgen.items import Record
    from feedgen.windows import Rows

TAGS = {"": 0, "red": 1, "blue": 2}


def fraction(*parts: object) -> float:
    """Return a number in (0, 1) that looks random and depends on `parts` alone."""
    digest = blake2b(repr(parts).encode(), digest_size=4).digest()
    return (int.from_bytes(digest) + 0.5) / 2**32


class Tastes:
    """Devices with tastes that nobody can explain.

    Args:
        bound: most ticks that a taste is worth.
        sd: ticks of uncertainty, the same everywhere; 0: nothing is explored.
        grain: tastes are multiples of this, so that keys tie.

    Attributes:
        moods: per device, changes all of its tastes.
        terms: per item number, ticks for everybody.
        told: tastes that a test chose, per device and item number.
        silent: nothing personal is said.
        held_out: devices whose windows are not varied.
        prepared: item numbers whose terms were about to be asked for.
        asked: rows that scores were asked for.
        told_last: the term and the time that scores were last asked for with.
    """

    def __init__(self, bound: int, *, sd: float = 0.0, grain: int = 1, seed: int = 0) -> None:
        self.bound = bound
        self.version = 7
        self.rung = 0
        self.sd = sd
        self.grain = grain
        self.seed = seed
        self.moods: dict[str, int] = {}
        self.terms: dict[int, int] = {}
        self.told: dict[tuple[str, int], int] = {}
        self.silent = False
        self.held_out: set[str] = set()
        self.prepared: list[int] = []
        self.asked = 0
        self.told_last = 0, 0.0
        self.devices: dict[tuple[int, int], str] = {}
        self.attrs: dict[tuple[int, int], Mapping[str, Value]] = {}

    def seat(self, shelf: int, row: int, device: str, attrs: Mapping[str, Value]) -> None:
        assert (shelf, row) not in self.devices, "a row has one device"
        self.devices[shelf, row] = device
        self.attrs[shelf, row] = attrs

    def change(self, shelf: int, row: int, attrs: Mapping[str, Value]) -> None:
        self.attrs[shelf, row] = attrs

    def unseat(self, shelf: int, row: int) -> None:
        del self.devices[shelf, row], self.attrs[shelf, row]

    def prepare(self, records: Sequence[Record]) -> None:
        self.prepared += [record.n for record in records]

    def plain(self, shelf: int, rows: Rows) -> NDArray[np.bool_] | None:
        held_out = [self.devices[shelf, row] in self.held_out for row in rows.tolist()]
        return np.array(held_out) if any(held_out) else None

    def term(self, record: Record) -> int:
        return self.terms.get(record.n, 0)

    def taste(self, device: str, n: int) -> int:
        """Return the mean of what an item is worth to a device, in ticks."""
        if self.silent:
            return 0
        if (device, n) in self.told:
            return self.told[device, n]
        reach = self.bound // self.grain
        part = fraction("taste", device, self.moods.get(device, 0), n)
        return self.grain * round((2 * part - 1) * reach)

    def scores(
        self, record: Record, term: int, shelf: int, rows: Rows, now: float
    ) -> Scores | None:
        assert rows.size, "no rows are not asked for"
        devices = [self.devices[shelf, row] for row in rows.tolist()]
        self.asked += len(devices)
        self.told_last = term, now
        if self.silent:
            return None
        mean = np.array([self.taste(device, record.n) for device in devices], np.float32)
        if not self.sd:
            return Scores(mean)
        draws = [fraction("draw", self.seed, device, record.n) for device in devices]
        sd = np.full(len(mean), self.sd, np.float32)
        return Scores(mean, sd, np.array(draws, np.float32))

    def table(
        self,
        records: Sequence[Record],
        terms: Sequence[int],
        shelf: int,
        rows: Rows,
        now: float,
    ) -> Scores | None:
        assert rows.size, "no rows are not asked for"
        columns = [
            self.scores(record, term, shelf, rows, now)
            for record, term in zip(records, terms, strict=True)
        ]
        if self.silent:
            return None
        stacked = [
            None if column[0] is None else np.stack(column, axis=1)
            for column in zip(*columns, strict=True)
        ]
        return Scores(*stacked)

    def tokens(self, shelf: int, rows: Rows) -> NDArray[np.uint64]:
        named = [device_token(self.devices[shelf, row]) for row in rows.tolist()]
        return np.array(named, np.uint64)

    def groups(self, record: Record) -> Sequence[int]:
        return len(record.item.channel), *(TAGS[tag] for tag in record.item.tags[:2])
