from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from feedgen.ranking.rows import MAX_VALUES, Codes, People, local_hour
from feedgen.ranking.tokens import device_token, token

ROWS = np.array([0, 1], np.intp)


def people(*, holdout=0.0, seed=0, shelves=2):
    return People(shelves, ["class", "region"], holdout, seed)


# ---- Codes


def test_values_are_numbered_from_1_and_none_is_0():
    codes = Codes("device.class")
    assert [codes.number(value) for value in ("tv", "phone", "tv")] == [1, 2, 1]
    assert codes.values == ["tv", "phone"]
    assert codes.tokens.tolist() == [0, token("device.class", "tv"), token("device.class", "phone")]


def test_values_beyond_the_bound_are_as_if_absent():
    codes = Codes("device.class")
    numbers = [codes.number(str(value)) for value in range(MAX_VALUES + 10)]
    assert numbers[:MAX_VALUES] == list(range(1, MAX_VALUES + 1))
    assert numbers[MAX_VALUES:] == [0] * 10
    assert len(codes.tokens) == MAX_VALUES + 1
    assert codes.number("0") == 1


# ---- People


def test_who_is_in_a_row_is_known_by_token_fields_and_zone():
    found = people()
    found.seat(1, 0, "tv-1", {"class": "tv", "region": 7, "tz": "Asia/Tokyo"})
    found.seat(1, 1, "tv-2", {"region": 8})
    assert found.devices(1, ROWS).tolist() == [device_token("tv-1"), device_token("tv-2")]
    assert found.codes(1, ROWS).tolist() == [[1, 1], [0, 2]]
    assert found.fields[1].values == ["7", "8"]
    names = [None, *found.zones.values]
    assert [names[zone] for zone in found.zone(1, ROWS)] == ["Asia/Tokyo", "UTC"]


def test_shelves_have_rows_of_their_own():
    found = people()
    found.seat(0, 0, "a", {})
    found.seat(1, 0, "b", {})
    row = np.array([0])
    assert found.devices(0, row) != found.devices(1, row)


def test_rows_far_beyond_those_seen_so_far_have_room():
    found = people()
    for row in (0, 100_000, 63, 64):
        found.seat(0, row, f"d{row}", {"class": str(row)})
    assert found.device(0, 100_000) == device_token("d100000")
    assert found.device(0, 0) == device_token("d0")
    assert found.devices(0, np.array([5])).tolist() == [0]


def test_whoever_leaves_a_row_leaves_nothing_there():
    found = people(holdout=1.0)
    found.seat(0, 0, "a", {"class": "tv", "tz": "Asia/Tokyo"})
    found.unseat(0, 0)
    row = np.array([0])
    assert found.devices(0, row).tolist() == [0]
    assert found.codes(0, row).tolist() == [[0, 0]]
    assert found.holdout(0, row).tolist() == [False]
    found.seat(0, 0, "b", {})
    assert found.codes(0, row).tolist() == [[0, 0]]
    names = [None, *found.zones.values]
    assert names[found.zone(0, row)[0]] == "UTC"


def test_attributes_that_change_are_those_of_the_same_device():
    found = people()
    found.seat(0, 0, "a", {"class": "tv"})
    found.change(0, 0, {"class": "phone", "tz": "+2"})
    assert found.device(0, 0) == device_token("a")
    codes, zone, _ = found.person(0, 0)
    assert found.fields[0].values[codes[0] - 1] == "phone"
    assert found.zones.values[zone - 1] == "+2"


def test_a_stranger_is_known_by_what_is_told_of_it_as_if_it_had_a_row():
    found = people()
    attrs = {"class": "tv", "tz": "Asia/Tokyo"}
    found.seat(0, 3, "a", attrs)
    here = found.reporter(0, 3)
    told = found.stranger(device_token("a"), attrs, held_out=False)
    assert told.codes.tolist() == here.codes.tolist()
    assert (told.device, told.zone, told.held_out) == (here.device, here.zone, here.held_out)
    odd = found.stranger(7, {"class": None, "tz": "nowhere"}, held_out=True)
    assert odd.codes.tolist() == [0, 0]
    assert [None, *found.zones.values][odd.zone] == "UTC"
    assert odd.held_out


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_the_share_that_stays_on_newest_first_is_the_one_asked_for(share):
    found = people(holdout=share)
    held = np.mean([found.held_out(device_token(f"d{n}")) for n in range(20_000)])
    assert held == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 20_000))


def test_who_stays_on_newest_first_is_the_same_for_good_and_another_with_another_seed():
    one, again, other = (people(holdout=0.3, seed=seed) for seed in (1, 1, 2))
    tokens = [device_token(f"d{n}") for n in range(2000)]
    held, held_again, held_other = ([p.held_out(t) for t in tokens] for p in (one, again, other))
    assert held == held_again
    # Drawn anew: two draws of 30 % agree in 58 % of cases.
    assert np.mean(np.array(held) == np.array(held_other)) == pytest.approx(0.58, abs=0.05)


# ---- Time zones


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York", "Asia/Kolkata"])
def test_hour_and_weekday_are_those_of_the_clock_there(zone):
    for hour in range(470_000, 480_000, 137):
        there = datetime.fromtimestamp(hour * 3600, UTC).astimezone(ZoneInfo(zone))
        assert local_hour(zone, hour) == (there.hour, there.weekday())


def test_the_clock_of_a_zone_with_daylight_saving_jumps():
    first = int(datetime(2026, 3, 8, 6, tzinfo=UTC).timestamp()) // 3600
    hours = [local_hour("America/New_York", first + n)[0] for n in range(3)]
    assert hours == [1, 3, 4]


@pytest.mark.parametrize(("zone", "expected"), [("+2", (2, 3)), ("-1", (23, 2)), ("5", (5, 3))])
def test_a_zone_may_be_hours_east_of_greenwich(zone, expected):
    assert local_hour(zone, 0) == expected


@pytest.mark.parametrize(
    "zone",
    ["", "Nowhere/At_All", "../etc/passwd", "99", "-24", "+", "1e400", "²", "\x00", "a" * 999],
)
def test_any_other_zone_is_taken_as_utc(zone):
    assert local_hour(zone, 100) == local_hour("UTC", 100)
