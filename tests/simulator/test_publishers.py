"""The streams of the package, files of the user, and the schedule."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.publishers import (
    Publication,
    Schedule,
    SourceError,
    alerts,
    earthquakes,
    replay_file,
    week,
)
from simulator.sources import DAY, LONGEST_TTL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PUBLICATIONS = st.lists(
    st.builds(
        Publication,
        st.floats(0, 2e9),
        st.just("a"),
        st.fixed_dictionaries({"payload": st.just("x"), "ttl": st.integers(1, LONGEST_TTL)}),
    ),
    min_size=1,
)


def test_the_week_of_earthquakes_is_whole_and_in_order() -> None:
    quakes = earthquakes()
    assert len(quakes) == 1_707
    assert [one.at for one in quakes] == sorted(one.at for one in quakes)
    assert Counter(one.item["priority"] for one in quakes) == {0: 1_410, 1: 212, 2: 80, 3: 5}
    assert len({one.item["id"] for one in quakes}) == 1_707


def test_every_alert_file_of_the_package_is_read() -> None:
    assert Counter(one.channel for one in alerts()) == {
        "alerts/weather/us-or": 2,
        "alerts/weather/us-mt": 1,
        "alerts/weather/ca-on": 1,
        "alerts/geo/us-ak": 1,
        "alerts/geo/world": 1,
        "alerts/fire/au-nsw": 1,
    }


def test_the_alerts_are_woven_evenly_into_the_week() -> None:
    stream = week()
    quakes = [one for one in stream if one.channel.startswith("quakes/")]
    woven = [one for one in stream if one.channel.startswith("alerts/")]
    assert len(woven) == 7
    assert quakes[0].at < woven[0].at
    assert woven[-1].at < quakes[-1].at
    steps = {round(b.at - a.at) for a, b in pairwise(woven)}
    assert len(steps) == 1
    assert all(one.item["ttl"] >= 2 * DAY for one in woven)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A file of two items, the later one first."""
    file = tmp_path / "two.jsonl"
    rows = [{"channel": "b", "at": 9, "payload": "late"}, {"channel": "a", "at": 1, "payload": ""}]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_a_file_of_lines_is_read_in_the_order_of_time(lines: Path) -> None:
    assert [one.channel for one in replay_file(lines)] == ["a", "b"]


def test_a_packed_file_is_the_same_stream(lines: Path, tmp_path: Path) -> None:
    packed = tmp_path / "two.jsonl.gz"
    packed.write_bytes(gzip.compress(lines.read_bytes()))
    assert replay_file(packed) == replay_file(str(lines))


def test_a_usgs_file_is_known_by_its_content(tmp_path: Path) -> None:
    facts = {"mag": 1, "place": "x", "time": 0, "net": "ci"}
    file = tmp_path / "download"
    feature = {"id": "ci1", "properties": facts}
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}, indent=1))
    assert replay_file(file)[0].channel == "quakes/ci"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is no item in it"),
        (b'{"channel": "a", "payload": "x"}\n\xff', ":2: not UTF-8 text"),
        (b'{"type": "FeatureCollection",\n"features": [', ":2: no JSON"),
        (b'{"type": "FeatureCollection"}', "a GeoJSON object has a list"),
        (b'["FeatureCollection"]', "a GeoJSON object has a list"),
        (b'{"type": "FeatureCollection", "features": [1]}', "feature 1: "),
        (b"<alert>", r":1: no well-formed XML"),
        (b"channel,payload\n", ":1: no JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "my.file"
    file.write_bytes(content)
    with pytest.raises(SourceError, match=rf"^my\.file.*{message}"):
        replay_file(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^none\.jsonl: No such file"):
        replay_file(tmp_path / "none.jsonl")


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"no gzip" + data])
def test_damaged_gzip_data_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "broken.gz"
    file.write_bytes(damage(gzip.compress(b'{"channel": "a", "payload": "x"}')))
    with pytest.raises(SourceError, match=r"^broken\.gz: "):
        replay_file(file)


def test_a_schedule_runs_at_its_speed_and_shortens_lifetimes_likewise() -> None:
    stream = [
        Publication(1_000.0, "a", {"payload": "x", "ttl": 600}),
        Publication(1_060.0, "b", {"payload": "y", "ttl": 5}),
        Publication(1_030.0, "c", {"id": "z", "retract": True}),
    ]
    schedule = Schedule(stream, speed=10.0)
    assert [(due.offset, due.channel) for due in schedule] == [(0.0, "a"), (3.0, "c"), (6.0, "b")]
    assert [due.item.get("ttl") for due in schedule] == [60, None, 1]
    assert schedule.seconds == 6.0
    assert schedule.stream_time(3.0) == 1_030.0


def test_a_schedule_leaves_the_stream_as_it_is() -> None:
    publication = Publication(0.0, "a", {"payload": "x", "ttl": 600})
    list(Schedule([publication], speed=10.0))
    assert publication.item["ttl"] == 600


def test_an_empty_schedule_is_over_at_once() -> None:
    assert list(Schedule([])) == []
    assert Schedule.over([], 10.0).seconds == 0.0


def test_a_stream_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="speed -1"):
        Schedule([], speed=-1)


@given(PUBLICATIONS, st.floats(1, 1e5))
def test_a_stream_spread_over_some_seconds_stays_in_order_and_in_time(
    publications: list[Publication], seconds: float
) -> None:
    dues = list(Schedule.over(publications, seconds))
    offsets = [due.offset for due in dues]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0.0
    assert offsets[-1] <= seconds * 1.001
    assert all(1 <= due.item["ttl"] <= LONGEST_TTL for due in dues)
