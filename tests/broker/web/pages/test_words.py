"""Every count of drops has words, and the words say something."""

from __future__ import annotations

import re

import pytest

from broker.figures.catalog import FIGURES, Kind
from broker.overload.levels import Level
from broker.web.pages.words import FAMILIES, LEVELS, RUNGS
from feedgen.items import ItemError
from feedgen.ranking.rungs import Rung
from tests.broker.support import ROOT

BY_FIGURE = {family.figure: family for family in FAMILIES}
DROPPED = BY_FIGURE["fleetfeed_dropped_total"]
CLOSED = BY_FIGURE["fleetfeed_closed_total"]


def _counted(kind: str) -> set[str]:
    """The reasons that are written out where something is counted."""
    sources = [path for package in ("broker",) for path in (ROOT / package).rglob("*.py")]
    pattern = re.compile(rf"counters\.{kind}\[\"([a-z_0-9]+)\"\]")
    return {reason for path in sources for reason in pattern.findall(path.read_text())}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.figure)
def test_a_family_is_a_counter_that_exists(family: object) -> None:
    assert FIGURES[family.figure].kind is Kind.COUNTER  # type: ignore[attr-defined]


def test_each_reason_for_a_drop_that_stands_in_the_code_has_words() -> None:
    counted = _counted("dropped")

    assert len(counted) > 15
    assert counted <= set(DROPPED.words)


def test_each_reason_for_closing_that_stands_in_the_code_has_words() -> None:
    close = re.compile(r"\.(?:close|abort)\(\s*\"([a-z_0-9]+)\"")
    lane = (ROOT / "broker" / "lane").rglob("*.py")
    counted = {reason for path in lane for reason in close.findall(path.read_text())}

    assert len(counted) > 8
    # A client that leaves by itself is not counted.
    assert counted - {"disconnect", "lost"} <= set(CLOSED.words)


def test_each_reason_for_refusing_an_item_has_words() -> None:
    assert set(BY_FIGURE["fleetfeed_items_rejected_total"].words) == {
        each.value for each in ItemError
    }


def test_a_reason_that_only_a_foreign_packet_knows_is_told_by_its_beginning() -> None:
    assert CLOSED.of("malformed_bad_length") == "client broke MQTT: bad length"
    assert DROPPED.of("up_bad_msgpack") == "message of a device that cannot be read: bad msgpack"


def test_a_reason_that_nobody_thought_of_is_told_as_it_is_counted() -> None:
    assert DROPPED.of("brand_new_reason") == "brand new reason"


def test_what_happens_all_day_is_nobodys_fault() -> None:
    assert not CLOSED.fault("taken_over")
    assert CLOSED.fault("stalled")


def test_what_another_family_counts_as_well_is_told_once() -> None:
    errors = BY_FIGURE["fleetfeed_errors_total"]

    assert errors.counts({"fleetfeed_errors_total": {"accept_failed": 2, "store": 1}}) == {
        "store": 1
    }
    assert "accept_failed" in DROPPED.words


def test_each_level_and_each_rung_has_words() -> None:
    assert len(LEVELS) == len(Level)
    assert len(RUNGS) == len(Rung)
