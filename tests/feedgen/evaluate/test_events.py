from __future__ import annotations

import gzip
import io
import json

import pytest

from feedgen.evaluate.events import MAX_LINE, BadEvents, opened, parse, read

LINE = {"t": 5, "device": "d", "item": "i", "list": "l", "y": 1}


def lines(*records):
    return "".join(json.dumps({**LINE, **record}) + "\n" for record in records).encode()


def events(data):
    with opened(io.BytesIO(data)) as stream:
        return list(read(stream))


def test_an_impression_comes_with_its_label_beside_it_and_its_maps_filled_in():
    maps = {"device_fields": {}, "item_fields": {}, "context": {}}
    assert events(lines({})) == [({"t": 5.0, "device": "d", "item": "i", "list": "l", **maps}, 1)]


def test_everything_that_an_impression_may_say_is_kept():
    said = {
        "device_fields": {"class": "tram"},
        "item_fields": {"channel": "a/b"},
        "context": {"hour": "7"},
        "num": [1, -0.5],
        "propensity": 0.25,
    }
    ((event, y),) = events(lines({**said, "y": 0}))
    assert {name: event[name] for name in said} == said
    assert y == 0


def test_fields_of_other_names_do_not_reach_a_ranker_because_outcomes_hide_there():
    ((event, _),) = events(lines({"play_time_ms": 46_186, "label": 1}))
    assert not {"y", "play_time_ms", "label"} & event.keys()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"y": 2}, "y is 2, must be 0 or 1"),
        ({"y": "1"}, 'y is "1", must be 0 or 1'),
        ({"y": None}, "y is null"),
        ({"t": "now"}, 't is "now", must be Unix seconds'),
        ({"t": True}, "t is true"),
        ({"t": float("nan")}, "t is NaN"),
        ({"device": 7}, "device is 7, must be a string"),
        ({"list": None}, "list is null"),
        ({"context": [1]}, "context is [1], must be an object of strings"),
        ({"context": {"hour": 7}}, "context.hour is 7, must be a string"),
        ({"num": 1}, "num is 1, must be a list"),
        ({"num": [0, float("inf")]}, "num has Infinity, must have finite numbers"),
        ({"propensity": 0}, "propensity is 0, must be above 0"),
        ({"propensity": 1.5}, "propensity is 1.5"),
        ({"device": [0] * 100}, "device is [0, 0, 0"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(record, said):
    with pytest.raises(BadEvents, match=r"line 2: ") as error:
        events(lines({}, record))
    assert said in str(error.value)
    assert len(str(error.value)) < 120


@pytest.mark.parametrize("name", ["t", "device", "item", "list", "y"])
def test_a_field_that_is_missing_is_named(name):
    record = {key: value for key, value in LINE.items() if key != name}
    with pytest.raises(BadEvents, match=f"has no {name}"):
        parse(json.dumps(record).encode())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\n", "is empty"),
        (b"[1]", "is no JSON object"),
        (b'{"t": 1,', "is no JSON .*column"),
        (b'{"t": "\xff"}', "is no JSON .*UTF-8"),
        (b"[" * 100_000, "is no JSON .*nested too deeply"),
        (b"x" * (MAX_LINE + 1), "is longer than"),
    ],
)
def test_a_line_that_is_no_impression_is_refused(line, said):
    with pytest.raises(BadEvents, match=said):
        parse(line)


def test_a_file_without_line_ends_does_not_fill_the_memory():
    class Endless(io.RawIOBase):
        given = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            self.given += len(buffer)
            assert self.given < 8 * MAX_LINE
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    endless = Endless()
    with opened(endless) as stream, pytest.raises(BadEvents, match="line 1: is longer than"):
        next(read(stream))
    assert endless.given < 2 * MAX_LINE


def test_a_line_earlier_than_the_one_before_is_an_error_and_one_at_the_same_time_is_not():
    assert len(events(lines({"t": 5}, {"t": 5}))) == 2
    with pytest.raises(BadEvents, match=r"line 3: t is 4\.0, earlier than 5\.0"):
        events(lines({}, {}, {"t": 4}))


def test_a_gzipped_file_reads_like_a_plain_one_whatever_its_name(tmp_path):
    data = lines({}, {"t": 6})
    (tmp_path / "plain.gz").write_bytes(data)
    (tmp_path / "packed").write_bytes(gzip.compress(data))
    for name in ("plain.gz", "packed"):
        with opened(tmp_path / name) as stream:
            assert list(read(stream)) == events(data)


def test_a_gzipped_file_that_is_cut_short_is_said_to_be_damaged():
    packed = gzip.compress(lines(*({"t": t} for t in range(2000))))
    with pytest.raises(BadEvents, match="damaged"):
        events(packed[: len(packed) // 2])


def test_an_empty_file_has_no_events():
    assert events(b"") == []
