"""Labels from real life: what was shown becomes opened or not, though feedback comes as it likes.

An *impression* is one item on one device. It begins with the earliest that is heard of it; when its
window has passed, one *outcome* says whether it was opened and dismissed and for how long it was
looked at. Feedback of devices that sleep arrives hours late, twice, and in any order. So what is
known of an impression only joins (see `impressions`), and its label is a function of what is known:

- opened: an opening happened within the window, whenever it was heard of. One that happened later
  counts with `late_opens`. The same for dismissed.
- dwell: the longest that was reported, whenever.
- Opened, dismissed or looked at without having been shown: it was shown, at an unknown rank.
- Never heard of: nothing is learned. Not shown is no negative.

What arrives after the outcome and changes the label gives a second outcome, a *correction*: the
caller takes the label before back and learns this one.

Ktena et al. (RecSys 2019, arXiv 1907.06558) compare ways to learn while labels are late. Their false
negative losses tell every impression as negative at once, tell it again as positive when the click
comes, and correct the bias of that by weights or by calibration. So nothing has to wait, but every
positive is learned wrongly first, and the weights trust the model's own estimate. Here features
wait, of at most 2 `max_pending` + `max_told` impressions: with a short window most outcomes are
right when they are told, and the few that are not name what to take back. Telling an opening at
once, before its window ends, was rejected: until the negatives of the same minutes follow, every
rate would be too high, and a dismissal may still come.

Nothing here has a clock: the time is the latest that a caller named.
"""

from __future__ import annotations

from collections import Counter
from sys import float_info
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feedgen.ranking.chains import NOWHERE, Queue, Wheel
from feedgen.ranking.impressions import (
    DISMISSED,
    EARLY,
    NO_RANK,
    NO_REF,
    OPENED,
    QUEUED,
    TOLD,
    Impressions,
    Places,
)
from feedgen.ranking.labelled import Labelled, Settings
from feedgen.ranking.limits import DeviceLimits, clipped_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = ["NO_REF", "Labelled", "Labels", "Settings"]

_SLICES = 64
"""Impressions whose windows end in the same 1/64 of a window are told together."""
_WORST_RANK = 127
_VERSION = 2


class Labels:
    """All impressions whose labels may still change.

    An event names a device (its token), an item (its number), when it happened (`at`, Unix seconds,
    never in the future) and optionally a `ref`, where the caller keeps what was true of the two.
    The methods return whether the ref was taken; if not, it stays with the caller. Where the caller
    reports only a sample of all impressions, it says with the first event of each one how many it
    stands for (`scale`).

    Attributes:
        dropped: how often, by reason: `too_old` events beyond the horizon; `late` openings and
            dismissals after the window; `unread` events of new impressions, as nobody called
            `close`; `limited` outcomes without weight, of devices beyond their rate;
            `correction_limited` corrections not told, for the same reason; `closed_early`
            outcomes told before the window ended; `forgotten` impressions that late feedback could
            still have corrected.
        limits: the rates of the devices.
    """

    __slots__ = (
        "_changed",
        "_early",
        "_now",
        "_reach",
        "_settings",
        "_table",
        "_told",
        "_waiting",
        "dropped",
        "limits",
    )

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reach = float_info.max if settings.late_opens else settings.window
        self._now = 0.0
        self._table = Impressions()
        self._waiting = Wheel(self._table.next, settings.window / _SLICES)
        self._early: list[int] = []
        self._told = Queue(self._table.next)
        self._changed: list[int] = []
        self.dropped: Counter[str] = Counter()
        self.limits = DeviceLimits(settings.per_hour, settings.burst, settings.max_devices)

    @property
    def pending(self) -> int:
        """Impressions whose outcome was not told yet."""
        return len(self._waiting) + len(self._early)

    @property
    def told(self) -> int:
        """Impressions that are remembered for corrections."""
        return len(self._told)

    def knows(self, device: int, n: int) -> bool:
        """Tell whether anything was heard of this impression, and is not forgotten."""
        return self._table.find(device, n) != NOWHERE

    def wants_ref(self, device: int, n: int) -> bool:
        """Tell whether the next event of this impression could bring a ref that is taken.

        So the caller needs to look up features once per impression, not once per event.
        """
        place = self._table.find(device, n)
        if place == NOWHERE:
            return True
        return self._table.ref[place] == NO_REF and not self._table.flags[place] & TOLD

    def shown(
        self, device: int, n: int, rank: int, at: float, ref: int = NO_REF, scale: float = 1.0
    ) -> bool:
        """Note that an item was shown; `rank` counts from 0, -1 if unknown."""
        place = self._heard(device, n, at, scale)
        if place == NOWHERE:
            return False
        table = self._table
        # An outcome is learned with its rank and taken back with it: it is fixed when told.
        if rank >= 0 and not table.flags[place] & TOLD:
            table.rank[place] = min(rank, _WORST_RANK, table.rank[place])
        return self._settled(place, ref)

    def opened(self, device: int, n: int, at: float, ref: int = NO_REF, scale: float = 1.0) -> bool:
        """Note that an item was opened."""
        place = self._heard(device, n, at, scale)
        if place == NOWHERE:
            return False
        self._count_late(place, at)
        self._table.opened[place] = min(at, self._table.opened[place])
        return self._settled(place, ref)

    def dismissed(
        self, device: int, n: int, at: float, ref: int = NO_REF, scale: float = 1.0
    ) -> bool:
        """Note that an item was dismissed."""
        place = self._heard(device, n, at, scale)
        if place == NOWHERE:
            return False
        self._count_late(place, at)
        self._table.dismissed[place] = min(at, self._table.dismissed[place])
        return self._settled(place, ref)

    def dwell(
        self, device: int, n: int, seconds: float, at: float, ref: int = NO_REF, scale: float = 1.0
    ) -> bool:
        """Note for how long an item was looked at."""
        place = self._heard(device, n, at, scale)
        if place == NOWHERE:
            return False
        seconds = min(max(seconds, 0.0), self._settings.longest_dwell)
        self._table.dwell[place] = max(seconds, self._table.dwell[place])
        return self._settled(place, ref)

    def close(self, now: float, most: int | None = None) -> Labelled:
        """Return the outcomes of impressions whose window has passed, and corrections.

        Takes time for what it returns and releases, not for what waits. An outcome is told up to
        1/64 of a window after the window's end, so that events of the same message are heard first.

        Args:
            now: Unix seconds.
            most: first outcomes at most; the next call returns the others. None: all.
        """
        self._now = max(self._now, now)
        first = self._ended(most)
        rows = self._tell(np.array(first, np.int64), self._corrected())
        for place in first:
            self._told.append(place)
        return Labelled(**rows, released=self._forget())

    def refs(self) -> NDArray[np.int64]:
        """Return the refs that are taken now; a caller that restarts needs to keep just these."""
        refs = self._table.column("ref", self._all_places())
        return np.asarray(refs[refs != NO_REF])

    def state(self) -> dict[str, Any]:
        """Return all that a restart needs, as integers, floats, bytes and maps of them.

        The refs are part of it: the caller has to keep what they stand for. What was dropped is not:
        a process counts its own.
        """
        return {
            "version": _VERSION,
            "now": self._now,
            "impressions": self._table.pack(self._all_places()),
            "limits": self.limits.state(),
        }

    @classmethod
    def restored(cls, settings: Settings, state: Mapping[str, Any]) -> Self:
        """Return labels that go on where `state` was taken, as if nothing had happened.

        The settings may be others: then labels are what the new ones say, and outcomes that wait
        are told when the old ones said.

        Raises:
            ValueError: this is no such state, or one of another version.
        """
        if state.get("version") != _VERSION:
            raise ValueError(
                f"state of labels has version {state.get('version')}, not {_VERSION}: begin anew"
            )
        labels = cls(settings)
        try:
            labels._now = float(state["now"])
            labels._table.restore(state["impressions"])
            labels.limits.restore(state["limits"])
            labels._line_up()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"state of labels is damaged, begin anew: {error}") from error
        return labels

    def _line_up(self) -> None:
        """Put each place of a restored table where its flags say that it was."""
        table = self._table
        for place in range(len(table)):
            flags = table.flags[place]
            if flags & TOLD:
                self._told.append(place)
            elif flags & EARLY:
                self._early.append(place)
            else:
                self._waiting.put(place, table.told_at[place])
            if flags & QUEUED:
                self._changed.append(place)

    # ---- Events

    def _heard(self, device: int, n: int, at: float, scale: float) -> int:
        """Return the place of the impression that an event belongs to, `NOWHERE` if dropped."""
        if not at >= self._now - self._settings.horizon:  # also what is no number
            self.dropped["too_old"] += 1
            return NOWHERE
        self._now = max(self._now, at)
        table = self._table
        place = table.find(device, n)
        if place == NOWHERE:
            if not self._make_room():
                self.dropped["unread"] += 1
                return NOWHERE
            place = table.add(device, n, at, scale)
            self._wait(place)
        elif at < table.begun[place]:
            # Its window ends earlier than it is in line for: late by some of a window, not wrong.
            table.begun[place] = at
        return place

    def _count_late(self, place: int, at: float) -> None:
        if at > self._table.begun[place] + self._reach:
            self.dropped["late"] += 1

    def _settled(self, place: int, ref: int) -> bool:
        """Take the ref if one is wanted; of what was told, note that the label may have changed."""
        table = self._table
        flags = table.flags[place]
        if flags & TOLD:
            if not flags & QUEUED:
                table.flags[place] = flags | QUEUED
                self._changed.append(place)
            return False
        if ref == NO_REF or table.ref[place] != NO_REF:
            return False
        table.ref[place] = ref
        return True

    def _differs(self, place: int) -> bool:
        table = self._table
        end = table.begun[place] + self._reach
        said = table.flags[place]
        return (
            (table.opened[place] <= end) != bool(said & OPENED)
            or (table.dismissed[place] <= end) != bool(said & DISMISSED)
            or table.dwell[place] != table.told_dwell[place]
        )

    # ---- Outcomes

    def _corrected(self) -> Places:
        """Return the changed whose corrections are told, and begin to note changes anew."""
        table, places = self._table, np.array(self._changed, np.int64)
        # If a device's rate does not allow all, which ones must depend neither on the order of
        # events nor on places, which a restart changes: those told first are forgotten first.
        keys = [table.column(name, places) for name in ("n", "device", "told_at")]
        corrected = [place for place in places[np.lexsort(keys)].tolist() if self._corrects(place)]
        self._changed = []
        return np.array(corrected, np.int64)

    def _corrects(self, place: int) -> bool:
        """Whether a changed label is told: if it still differs, and the device's rate allows it."""
        table = self._table
        table.flags[place] &= ~QUEUED
        if not self._differs(place):
            return False
        # What was told without weight teaches nothing, and neither does its correction.
        if not table.weight[place]:
            return True
        if self.limits.take(table.device[place], self._now, table.scale[place]):
            return True
        self.dropped["correction_limited"] += 1
        return False

    def _tell(self, first: Places, corrected: Places) -> dict[str, NDArray[Any]]:
        """Return the columns of outcomes and note what they say."""
        table = self._table
        table.update("weight", first, self._weights(first))
        table.update("told_at", first, np.full(len(first), self._now))
        places = np.concatenate((first, corrected))
        told = table.column("flags", places)
        was_dwell = table.column("told_dwell", places)
        rank = table.column("rank", places)
        begun = table.column("begun", places)
        opened = table.column("opened", places) <= begun + self._reach
        dismissed = table.column("dismissed", places) <= begun + self._reach
        dwell = table.column("dwell", places)
        table.update("flags", places, TOLD | OPENED * opened | DISMISSED * dismissed)
        table.update("told_dwell", places, dwell)
        return {
            "device": table.column("device", places),
            "n": table.column("n", places),
            "ref": table.column("ref", places),
            "rank": np.where(rank == NO_RANK, -1, rank).astype(np.int8),
            "shown_at": begun,
            "opened": opened,
            "dismissed": dismissed,
            "dwell": dwell,
            "weight": table.column("weight", places),
            "correction": told & TOLD != 0,
            "was_opened": told & OPENED != 0,
            "was_dismissed": told & DISMISSED != 0,
            "was_dwell": was_dwell,
        }

    def _weights(self, first: Places) -> NDArray[np.float32]:
        """Return what first outcomes may count for."""
        now, take = self._now, self.limits.take
        devices, scale = self._table.column("device", first), self._table.column("scale", first)
        allowed = scale * np.array(
            [
                take(device, now, tokens)
                for device, tokens in zip(devices.tolist(), scale.tolist(), strict=True)
            ],
            np.float32,
        )
        if limited := len(allowed) - int(np.count_nonzero(allowed)):
            self.dropped["limited"] += limited
        settings = self._settings
        return clipped_weights(devices, settings.max_share, allowed, settings.free_share)

    # ---- Room

    def _make_room(self) -> bool:
        """Take the oldest out of the line if it is full; False if nobody takes what was taken out."""
        if len(self._waiting) < self._settings.max_pending:
            return True
        if len(self._early) >= self._settings.max_pending:
            return False
        place = self._waiting.pop_first()
        self._table.flags[place] |= EARLY
        self._early.append(place)
        self.dropped["closed_early"] += 1
        return True

    def _ended(self, most: int | None) -> list[int]:
        """Take those out of the line whose window has passed."""
        places = self._early[:most]
        self._early = self._early[len(places) :]
        left = None if most is None else most - len(places)
        return places + self._waiting.pop_passed(self._now, left)

    def _wait(self, place: int) -> None:
        # Kept, as neither its beginning nor the time need still be the same when labels are restored.
        due = max(self._table.begun[place] + self._settings.window, self._now)
        self._table.told_at[place] = due
        self._waiting.put(place, due)

    def _forget(self) -> NDArray[np.int64]:
        """Forget told impressions past their time or too many; return their refs."""
        table, settings = self._table, self._settings
        refs = []
        while self._told:
            place = self._told.first
            expired = table.told_at[place] + settings.horizon < self._now
            if not expired and len(self._told) <= settings.max_told:
                break
            if not expired:
                self.dropped["forgotten"] += 1
            refs.append(table.ref[self._told.pop()])
            table.remove(place)
        released = np.array(refs, np.int64)
        return np.asarray(released[released != NO_REF])

    def _all_places(self) -> Places:
        """Return the places of all impressions, each kind in its order: early, waiting, told."""
        return np.array([*self._early, *self._waiting, *self._told], np.int64)
