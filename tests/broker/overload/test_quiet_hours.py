"""What devices say of their quiet hours, and what it means at a moment."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from broker.overload.quiet_hours import QuietHours, minute_of_day, quiet_hours


@pytest.mark.parametrize(
    ("quiet", "begin", "end"),
    [
        ("22-7", 22 * 60, 7 * 60),
        ("22:30-06:15", 22 * 60 + 30, 6 * 60 + 15),
        ("0-6", 0, 360),
        ("20 - 24", 1200, 1440),
        ("24-6", 0, 360),
    ],
)
def test_hours_are_understood(quiet: str, begin: int, end: int) -> None:
    assert quiet_hours({"quiet": quiet}) == QuietHours(begin, end, "UTC")


@pytest.mark.parametrize("quiet", ["", "night", "22", "22-", "25-6", "22:60-6", "7-7", "0-24", 22])
def test_what_is_no_hours_means_none(quiet: str | int) -> None:
    assert quiet_hours({"quiet": quiet}) is None
    assert quiet_hours({}) is None


def test_a_night_goes_over_midnight() -> None:
    night = QuietHours(22 * 60, 7 * 60, "UTC")
    assert [night.at(hour * 60) for hour in (21, 22, 23, 0, 6, 7, 12)] == [
        False, True, True, True, True, False, False,
    ]  # fmt: skip
    noon = QuietHours(12 * 60, 13 * 60, "UTC")
    assert [noon.at(minute) for minute in (719, 720, 779, 780)] == [False, True, True, False]


def test_hours_are_those_of_the_time_zone_summer_time_included() -> None:
    zone = "Europe/Berlin"
    for month in (1, 7):
        at = datetime(2026, month, 1, 22, 30, tzinfo=ZoneInfo(zone)).timestamp()
        assert minute_of_day(zone, at) == 22 * 60 + 30
    assert minute_of_day("-8", 0) == 16 * 60


def test_a_time_zone_that_nobody_knows_is_utc() -> None:
    assert quiet_hours({"quiet": "22-7", "tz": "Mars/Olympus"}) == QuietHours(1320, 420, "UTC")
    assert quiet_hours({"quiet": "22-7", "tz": "Asia/Tokyo"}) == QuietHours(1320, 420, "Asia/Tokyo")


@pytest.mark.parametrize("zone", ["+-3", "--5", "²", "+99", "3+"])
def test_what_only_looks_like_hours_from_greenwich_is_utc(zone: str) -> None:
    assert quiet_hours({"quiet": "22-7", "tz": zone}) == QuietHours(1320, 420, "UTC")
