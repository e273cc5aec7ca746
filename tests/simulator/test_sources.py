"""What earthquakes, alerts and lines become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.items import decode_item
from simulator import publishers
from simulator.sources import (
    DAY,
    HIGH,
    ITEM_KEYS,
    LOW,
    NORMAL,
    URGENT,
    Publication,
    SourceError,
    read_cap,
    read_earthquakes,
    read_lines,
    read_nws,
)

QUAKE: dict[str, Any] = {
    "id": "ak18156775",
    "properties": {
        "mag": 4.87,
        "place": "43km SSE of Attu, Alaska",
        "time": 1_517_500_000_500,
        "updated": 1_517_500_060_000,
        "net": "ak",
        "type": "earthquake",
        "tsunami": 0,
    },
}


def quake(**properties: object) -> Publication:
    feature = {**QUAKE, "properties": {**QUAKE["properties"], **properties}}
    return read_earthquakes({"features": [feature]}, "week.geojson")[0]


def cap(
    info: str = "", *, kind: str = "Alert", references: str = "", severity: str = "Severe"
) -> list[Publication]:
    text = f"""<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">
<identifier>one</identifier><sender>me</sender><sent>2020-01-01T00:00:00-00:00</sent>
<msgType>{kind}</msgType><references>{references}</references>
<info><category>Met</category><event>high wind</event><urgency>Past</urgency>
<severity>{severity}</severity><area><areaDesc>Here; There</areaDesc>{info}</area></info></alert>"""
    return read_cap(text, "one.cap")


def geocode(name: str, *values: str) -> str:
    return "".join(
        f"<geocode><valueName>{name}</valueName><value>{value}</value></geocode>"
        for value in values
    )


def attempt(text: str) -> tuple[list[Publication], SourceError | None]:
    """What the lines are, and what is wrong with them."""
    try:
        return read_lines(text, "f"), None
    except SourceError as error:
        return [], error


def test_an_earthquake_is_a_short_text_on_the_channel_of_its_network() -> None:
    publication = quake()
    assert publication.channel == "quakes/ak"
    assert publication.at == 1_517_500_000.5
    assert publication.item == {
        "id": "ak18156775",
        "payload": "M 4.9 · 43 km SSE of Attu, Alaska",
        "brief": "M 4.9 Alaska",
        "priority": HIGH,
        "ttl": 2 * DAY,
        "rev": 1_517_500_060,
        "tags": ["earthquake", "alaska"],
    }


@pytest.mark.parametrize(
    ("magnitude", "priority"),
    [
        (None, LOW), (-0.5, LOW), (2.49, LOW), (2.5, NORMAL), (4.49, NORMAL),
        (4.5, HIGH), (5.99, HIGH), (6, URGENT), (9.1, URGENT),
    ],
)  # fmt: skip
def test_the_magnitude_decides_the_priority(magnitude: float | None, priority: int) -> None:
    assert quake(mag=magnitude).item["priority"] == priority


def test_a_stronger_earthquake_is_news_for_longer() -> None:
    lifetimes = [quake(mag=magnitude).item["ttl"] for magnitude in (1, 3, 5, 7)]
    assert lifetimes == sorted(set(lifetimes))


def test_what_is_no_earthquake_says_so() -> None:
    assert quake(type="quarry blast", mag=1.5).item["payload"].startswith("M 1.5 quarry blast · ")


def test_a_possible_tsunami_is_a_tag() -> None:
    assert "tsunami" in quake(tsunami=1).item["tags"]


def test_an_event_without_size_or_place_is_still_an_item() -> None:
    assert quake(mag=None, place=None).item["payload"] == "M ? · place unknown"


@pytest.mark.parametrize(
    "feature", [{}, {"id": "x"}, {"id": "x", "properties": {"mag": "big"}}, 7, None]
)
def test_a_feature_that_is_no_earthquake_is_named_by_its_number(feature: object) -> None:
    with pytest.raises(SourceError, match=r"^week\.geojson: feature 2: "):
        read_earthquakes({"features": [QUAKE, feature]}, "week.geojson")


def test_a_cap_alert_is_an_item_with_its_severity_and_lifetime() -> None:
    text = publishers._text(publishers._STREAMS / "alerts" / "wcatwc-warning.cap")
    (publication,) = read_cap(text, "tsunami.cap")
    assert publication.channel == "alerts/geo/us-ak"
    assert publication.item["payload"].startswith("Tsunami Warning · Coastal areas between")
    assert publication.item["brief"] == "Tsunami Warning"
    assert publication.item["priority"] == URGENT
    assert publication.item["ttl"] == 3_600
    assert publication.item["collapse"] == "PAAQ.TS.W.0021"
    assert publication.item["tags"] == ["tsunami-warning", "extreme", "immediate"]


@pytest.mark.parametrize(
    ("severity", "priority"),
    [("Extreme", URGENT), ("Severe", HIGH), ("Moderate", NORMAL), ("Minor", LOW), ("?", NORMAL)],
)
def test_the_severity_decides_the_priority(severity: str, priority: int) -> None:
    assert cap(severity=severity)[0].item["priority"] == priority


@pytest.mark.parametrize(
    ("codes", "region"),
    [
        (geocode("UGC", "MTZ014"), "us-mt"),
        (geocode("UGC", "WAZ001", "ORZ001", "ORZ002"), "us-or"),
        (geocode("profile:CAP-CP:Location:0.3", "3537001"), "ca-on"),
        (geocode("http://www.iso.org/iso/country_codes.html", "AU-NSW"), "au-nsw"),
        (geocode("FIPS6", "030049"), "world"),
        ("", "world"),
    ],
)
def test_the_region_is_where_most_geocodes_lie(codes: str, region: str) -> None:
    assert cap(codes)[0].channel == f"alerts/weather/{region}"


def test_an_alert_without_expiry_lives_for_a_day() -> None:
    assert cap()[0].item["ttl"] == DAY


def test_messages_about_one_event_collapse_to_the_newest() -> None:
    first, second = cap(), cap(references="me,one,2020-01-01T00:00:00-00:00 me,two,2020")
    assert first[0].item["collapse"] == second[0].item["collapse"] == "one"


def test_a_cancel_retracts_what_it_names() -> None:
    cancelled = cap(kind="Cancel", references="me,one,2020 me,two,2020")
    assert [one.item for one in cancelled] == [
        {"id": "one", "retract": True},
        {"id": "two", "retract": True},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<alert>\n<sent>\n</alert>", r"^a\.cap:3: no well-formed XML"),
        ("<feed/>", r"^a\.cap: the root is <feed>"),
        ("<alert/>", r"^a\.cap: `info` is missing"),
        ("<alert><info/></alert>", r"^a\.cap: `identifier` is missing"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><alert/>', r"^a\.cap: .* document type"),
    ],
)
def test_what_is_no_cap_alert_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_cap(text, "a.cap")


def test_an_nws_feature_without_properties_is_named_by_its_number() -> None:
    with pytest.raises(SourceError, match=r"^n: feature 1: `properties` is missing"):
        read_nws({"features": [{}]}, "n")


def test_two_nws_messages_about_one_flood_share_a_collapse_key() -> None:
    floods = [one for one in publishers.alerts() if one.channel == "alerts/weather/us-or"]
    assert {one.item["collapse"] for one in floods} == {"KPQR.FA.A.0004"}
    assert len({one.item["id"] for one in floods}) == 2


def test_every_item_of_the_package_is_one_that_the_server_accepts() -> None:
    for publication in publishers.week():
        payload = json.dumps(publication.item).encode()
        assert decode_item(publication.channel, payload).id == publication.item["id"]


def test_every_text_of_the_package_is_short() -> None:
    for publication in publishers.week():
        assert len(publication.item["payload"].encode()) <= 96
        assert len(publication.item["brief"].encode()) <= 32


def test_lines_are_items_with_channel_and_time() -> None:
    text = '{"channel": "a/b", "at": 5, "payload": "x", "ttl": 60}\n\n{"channel": "c", "payload": {}}\n'
    first, second = read_lines(text, "f")
    assert (first.at, first.channel, first.item) == (5.0, "a/b", {"payload": "x", "ttl": 60})
    assert (second.at, second.channel, second.item) == (6.0, "c", {"payload": {}})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "no JSON: "),
        ("[]", "a line is an object"),
        ('{"payload": "x"}', "`channel` must be"),
        ('{"channel": "a/#", "payload": "x"}', "`channel` must be"),
        ('{"channel": "", "payload": "x"}', "`channel` must be"),
        ('{"channel": "a"}', "`payload` is missing"),
        ('{"channel": "a", "retract": false}', "`payload` is missing"),
        ('{"channel": "a", "payload": 7}', "`payload` must be"),
        ('{"channel": "a", "payload": "x", "at": -1}', "`at` must be"),
        ('{"channel": "a", "payload": "x", "at": NaN}', "`at` must be"),
        ('{"channel": "a", "payload": "x", "at": true}', "`at` must be"),
        ('{"channel": "a", "payload": "x", "prioritty": 1}', "`prioritty` is no key of an item"),
        ('{"channel": "a", "payload": "x", "priority": 4}', "`priority` must be .* 0 to 3"),
        ('{"channel": "a", "payload": "x", "priority": 1.0}', "`priority` must be"),
        ('{"channel": "a", "payload": "x", "ttl": 0}', "`ttl` must be"),
        ('{"channel": "a", "payload": "x", "id": ""}', "`id` must be"),
    ],
)
def test_a_line_that_is_no_item_is_named_with_its_fault(line: str, message: str) -> None:
    with pytest.raises(SourceError, match=rf"^f:2: {message}"):
        read_lines('{"channel": "ok", "payload": ""}\n' + line, "f")


@given(
    st.dictionaries(
        st.sampled_from([*sorted(ITEM_KEYS), "channel", "at", "other"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("a/b"),
    )
)
@settings(max_examples=200)
def test_any_object_is_an_item_or_refused_with_its_line(keys: dict[str, object]) -> None:
    publications, fault = attempt(json.dumps(keys))
    if fault is None:
        assert publications[0].item.keys() <= ITEM_KEYS
    else:
        assert fault.where == "f:1"


@given(st.text())
@settings(max_examples=200)
def test_any_text_is_lines_or_refused(text: str) -> None:
    publications, fault = attempt(text)
    assert fault is None or fault.where.startswith("f:")
    assert len(publications) <= text.count("\n") + 1
