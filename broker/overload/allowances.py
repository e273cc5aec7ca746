"""What the devices of one shelf may still be sent: hourly budgets and quiet hours, as columns over rows.

The scarcer a budget, the better a change must rank to be sent now: with a share s of it left, those
changes go whose best rank is below 2 s k. So with more than half left everything goes, and what waits is
always what would stand lowest. It waits as the difference between ledger and window, which costs nothing
and is never more than one frame's worth. A device that asks is answered whatever it has left, as asking
again would cost more; and urgent items pass (`held_back.with_urgent`). Both are paid for later.

Budgets are those of `hourly`. A device whose row was given back goes on with what it had left; a restart
of the server begins with full ones.
"""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np

from broker.overload.hourly import depth, refill
from broker.overload.quiet_hours import minute_of_day, quiet_hours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from broker.config_overload import BudgetSettings
    from broker.overload.quiet_hours import QuietHours

    Rows = NDArray[np.int32]
    Left = tuple[float, float, float]

_UNLIMITED = 1.0
_FREE = 2.0
"""Ranks that pass for each share of the budget that is left, as multiples of the window's length."""
_PARTED = 10_000
"""Devices without a row whose budgets are remembered; those that left first are forgotten."""


class Allowances:
    """The rows of one shelf.

    Args:
        budgets: The settings.
        size: Rows allotted at first; more by doubling.

    Attributes:
        limited: Whether there are budgets.
        waiting: bool [rows], a change waits for budget or for the end of quiet hours.
        quiet: bool [rows], in quiet hours now.
        put_off: Pushes that were put off, counted in rows.
    """

    def __init__(self, budgets: BudgetSettings, size: int = 64) -> None:
        self._limits = _limits(budgets)
        self.limited = bool(self._limits.any())
        self._heeds_quiet = budgets.quiet_hours
        self.waiting = np.zeros(size, np.bool_)
        self.quiet = np.zeros(size, np.bool_)
        self.put_off = 0
        self._left = np.zeros((size, 2))  # frames and bytes
        self._at = np.zeros(size)
        # Share of the budget that the best change of a waiting row needs.
        self._wants = np.zeros(size, np.float32)
        self._hours: dict[int, QuietHours] = {}
        self._parted: dict[str, Left] = {}
        self._minute = -1

    def adopt(self, budgets: BudgetSettings, now: float) -> bool:
        """Other budgets hold from now on; who has spent a share of the old one has spent it of the new one.

        Returns: whether quiet hours count otherwise than before, so that `change` is due for each row.
        """
        every = np.arange(len(self._at), dtype=np.int32)
        self._refill(every, now)
        before, self._limits = self._limits, _limits(budgets)
        self._left = self._rescaled(self._left, before)
        for device, (*left, at) in self._parted.items():
            frames, octets = self._rescaled(np.array(left), before).tolist()
            self._parted[device] = frames, octets, at
        self.limited = bool(self._limits.any())
        heeded, self._heeds_quiet = self._heeds_quiet, budgets.quiet_hours
        return heeded != budgets.quiet_hours

    def _rescaled(
        self, left: NDArray[np.float64], before: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What is left under the present limits of what was under those before; shape [..., 2]."""
        whole = depth(1) * before
        share = np.divide(left, whole, out=np.ones_like(left), where=whole > 0)
        return share * (depth(1) * self._limits)

    @property
    def active(self) -> bool:
        """Whether any row may have to wait."""
        return self.limited or bool(self._hours) or bool(self.waiting.any())

    def concerns(self, rows: Rows) -> bool:
        """Whether any of these rows may have to wait now."""
        return self.limited or (bool(self._hours) and bool(self.quiet[rows].any()))

    # ---- Rows

    def seat(self, row: int, device: str, attrs: Mapping[str, str | int], now: float) -> None:
        """A device takes a row; `now` in Unix seconds, here and below."""
        while row >= len(self.waiting):
            self._grow()
        left = self._parted.pop(device, None)
        full = depth(1) * self._limits
        self._left[row], self._at[row] = (full, now) if left is None else (left[:2], left[2])
        self.waiting[row] = False
        self.change(row, attrs, now)

    def change(self, row: int, attrs: Mapping[str, str | int], now: float) -> None:
        """The device of a row has these attributes from now on."""
        hours = quiet_hours(attrs) if self._heeds_quiet else None
        if hours is None:
            self._hours.pop(row, None)
            self.quiet[row] = False
        else:
            self._hours[row] = hours
            self.quiet[row] = hours.at(minute_of_day(hours.zone, now))

    def unseat(self, row: int, device: str) -> None:
        """A row is given back."""
        if self.limited:
            frames, octets = self._left[row].tolist()
            self._parted[device] = frames, octets, float(self._at[row])
            if len(self._parted) > _PARTED:
                del self._parted[next(iter(self._parted))]
        self._hours.pop(row, None)
        self.waiting[row] = self.quiet[row] = False

    def _grow(self) -> None:
        for name in ("waiting", "quiet", "_left", "_at", "_wants"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate((column, np.zeros_like(column))))

    # ---- What may be sent

    def share(self, rows: Rows, now: float) -> NDArray[np.float64]:
        """What each row has left: 1 all that can be spent at once, 0 or less nothing."""
        share = np.ones(len(rows))
        if self.limited:
            self._refill(rows, now)
            some = self._limits > 0
            least = np.where(some[0], 1.0, 0.0)  # a frame is sent whole
            left = self._left[rows]
            left[:, 0] = np.where(left[:, 0] < least, np.minimum(left[:, 0], 0.0), left[:, 0])
            share = (left[:, some] / (depth(1) * self._limits[some])).min(axis=1)
        share[self.quiet[rows]] = 0.0
        return share

    def passes(
        self,
        rows: Rows,
        rank: NDArray[np.intp],
        k: NDArray[np.uint8],
        now: float,
        asked: NDArray[np.bool_] | bool = False,
    ) -> NDArray[np.bool_]:
        """Which rows may be sent what begins to differ at `rank`; the others wait.

        Args:
            rows: Distinct rows.
            rank: Of the best change of each, from 0; `k` or more if there is none.
            k: Window length of each.
            now: Unix seconds.
            asked: Whether the devices asked for it.
        """
        share = self.share(rows, now)
        wants = rank / (_FREE * np.maximum(k, 1))
        passed: NDArray[np.bool_] = (share > 0) & (share >= np.minimum(wants, _UNLIMITED))
        passed |= (rank >= k) | asked
        self.waiting[rows] = ~passed
        self._wants[rows] = wants
        self.put_off += len(rows) - int(passed.sum())
        return passed

    def spend(self, rows: Rows, octets: NDArray[np.int64], now: float) -> None:
        """One frame of so many bytes was sent to each of these rows."""
        if not self.limited or not len(rows):
            return
        self._refill(rows, now)
        left = self._left[rows]
        left[:, 0] -= 1
        left[:, 1] -= octets
        self._left[rows] = np.maximum(left, -depth(1) * self._limits)

    def _refill(self, rows: Rows, now: float) -> None:
        gained = np.maximum(now - self._at[rows], 0.0)[:, None] * (refill(1) * self._limits)
        self._left[rows] = np.minimum(self._left[rows] + gained, depth(1) * self._limits)
        self._at[rows] = now

    # ---- Time

    def due(self, now: float) -> Rows:
        """Rows that waited and may be sent what waits; they wait no longer, unless it turns out so."""
        self._look_at_the_clock(now)
        rows = np.flatnonzero(self.waiting).astype(np.int32)
        if not len(rows):
            return rows
        share = self.share(rows, now)
        rows = rows[(share > 0) & (share >= np.minimum(self._wants[rows], _UNLIMITED))]
        self.waiting[rows] = False
        return rows

    def _look_at_the_clock(self, now: float) -> None:
        """Quiet hours begin and end with a minute."""
        if int(now // 60) == self._minute:
            return
        self._minute = int(now // 60)
        minutes = {
            zone: minute_of_day(zone, now) for zone in {h.zone for h in self._hours.values()}
        }
        for row, hours in self._hours.items():
            self.quiet[row] = hours.at(minutes[hours.zone])

    def describe(self, row: int, now: float) -> dict[str, Any]:
        """What the device of a row has left, for people.

        Returns:
            `left`, the share that decides, as `share` has it; whether changes are `waiting` and whether it
            is `quiet`; and of `frames` and of `bytes` each, None without a limit: how much is `left` (below
            0 what was sent on credit), of how much that it can be sent `at_once`, and the limit of `an_hour`.
        """
        share = float(self.share(np.array([row], np.int32), now)[0])
        found = {"waiting": bool(self.waiting[row]), "quiet": bool(self.quiet[row]), "left": share}
        return found | {
            name: {"left": floor(left), "at_once": floor(depth(limit)), "an_hour": int(limit)}
            if limit
            else None
            for name, limit, left in zip(
                ("frames", "bytes"), self._limits.tolist(), self._left[row].tolist(), strict=True
            )
        }


def _limits(budgets: BudgetSettings) -> NDArray[np.float64]:
    return np.array([budgets.device_frames, budgets.device_bytes], np.float64)
