"""Hours in which a device wants nothing but urgent items: its attributes `quiet` and `tz`."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from feedgen.ranking.rows import known_zone

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOURS = re.compile(r"(\d{1,2})(?::(\d{2}))?-(\d{1,2})(?::(\d{2}))?")
_DAY = 24 * 60


class QuietHours(NamedTuple):
    """Local times of the day between which a device is left alone.

    Attributes:
        begin: Minutes after midnight; the first quiet one.
        end: The first that is not; below `begin` where the night lies between.
        zone: Name of the time zone in the IANA database, or whole hours east of Greenwich.
    """

    begin: int
    end: int
    zone: str

    def at(self, minute: int) -> bool:
        """Whether this minute of the local day is quiet."""
        if self.begin <= self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end


def quiet_hours(attrs: Mapping[str, str | int]) -> QuietHours | None:
    """The quiet hours of a device; None if it names none, or not as `22-7` or `22:30-06:15`.

    A time zone that nobody knows is UTC. What a device says wrong costs it its quiet hours and nothing
    else: an attribute is opaque to the protocol, and there is nobody to tell.
    """
    found = _HOURS.fullmatch(str(attrs.get("quiet", "")).replace(" ", ""))
    if found is None:
        return None
    first, first_minute, last, last_minute = (int(part or 0) for part in found.groups())
    begin, end = first * 60 + first_minute, last * 60 + last_minute
    if max(first_minute, last_minute) >= 60 or max(begin, end) > _DAY or begin % _DAY == end % _DAY:
        return None
    zone = str(attrs.get("tz", "UTC"))
    return QuietHours(begin % _DAY, end, zone if known_zone(zone) else "UTC")


def minute_of_day(zone: str, now: float) -> int:
    """Minutes since midnight at Unix seconds `now`, in a time zone that is known."""
    if zone.lstrip("+-").isdigit():
        return int(now // 60 + int(zone) * 60) % _DAY
    local = datetime.fromtimestamp(now, _zone(zone))
    return local.hour * 60 + local.minute


_zone = lru_cache(maxsize=1024)(ZoneInfo)
