"""What is published: each text names one item, and the same seed says the same."""

from __future__ import annotations

import json
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pytest

from simulator.scenario.model import Fault
from simulator.scenario.offers import POISON, burst, offers
from simulator.scenario.tables import Publisher
from simulator.sources import SourceError


def publisher(**more: Any) -> Publisher:
    return Publisher(name="news", **{"rate": 10, **more})


def some(count: int, seed: int = 1, **more: Any) -> list[Any]:
    return [*islice(offers(publisher(**more), seed, 60.0), count)]


def texts(found: list[Any]) -> list[str]:
    contents = [offer.item.content for offer in found if not offer.item.content.retract]
    return [text for one in contents for text in (one.payload, one.brief) if text is not None]


def test_a_generator_is_due_at_its_rate_and_says_the_same_for_the_same_seed() -> None:
    found = some(20)
    assert [offer.nominal for offer in found] == [place / 10 for place in range(20)]
    assert found == some(20)
    assert found != some(20, seed=2)


def test_no_text_occurs_twice_even_where_items_are_updated() -> None:
    found = some(2_000, updates=0.4, retracts=0.1, sizes=(16, 300))
    assert len(set(texts(found))) == len(texts(found))
    keys = [offer.item.content.key for offer in found]
    assert len(set(keys)) < 0.7 * len(keys)
    retracted = [offer.item.content.key for offer in found if offer.item.content.retract]
    assert 100 < len(retracted) < 300
    assert set(retracted) <= set(keys)


def test_payloads_have_the_sizes_and_priorities_that_were_asked_for() -> None:
    contents = [offer.item.content for offer in some(500, sizes=(60, 200), priorities=(1, 0, 0, 1))]
    sizes = [len(one.payload) for one in contents]
    assert min(sizes) >= 60
    assert max(sizes) <= 200
    assert {one.priority for one in contents} == {0, 3}
    assert all(one.brief is not None and len(one.brief) <= 32 for one in contents)


def test_poison_is_marked_in_all_its_texts() -> None:
    contents = [offer.item.content for offer in some(400, poison=0.25, sizes=(80, 90))]
    poison = [one for one in contents if one.payload.startswith(POISON)]
    assert 50 < len(poison) < 150
    assert all(one.brief is not None and one.brief.startswith(POISON) for one in poison)


def test_a_real_week_is_spread_over_the_run_with_a_number_behind_each_text() -> None:
    week = Publisher(name="week", stream="week", rate=5)
    found = [*offers(week, 1, 60.0)]
    assert 250 <= len(found) <= 330
    assert found[0].nominal == 0
    assert found[-1].nominal <= 60
    assert len(set(texts(found))) == len(texts(found))
    briefs = [one for offer in found if (one := offer.item.content.brief) is not None]
    assert max(len(brief.encode()) for brief in briefs) <= 32


def test_a_file_of_ones_own_is_published_whole(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    lines = [
        {"channel": "a", "payload": "one", "where": {"region": "ca"}, "at": 0},
        {"channel": "b", "id": "x", "payload": {"deep": 1}, "tags": ["t"], "rev": 7, "at": 5},
        {"channel": "b", "id": "x", "retract": True, "at": 10},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    one, two, three = offers(Publisher(name="mine", stream=str(file)), 1, 20.0)
    assert one.item.content.where == {"region": ("ca",)}
    assert (two.item.tags, two.item.rev) == (("t",), 7)
    assert two.item.content.payload.startswith('{"deep": 1}')
    assert (three.nominal, three.item.content.retract) == (20.0, True)


def test_a_stream_that_cannot_be_read_is_refused_by_its_name() -> None:
    with pytest.raises(SourceError, match=r"nowhere\.jsonl"):
        offers(Publisher(name="mine", stream="nowhere.jsonl"), 1, 20.0)


def test_items_for_people_carry_what_a_ranking_may_learn_from() -> None:
    found = some(200, people=True)
    assert [offer.number for offer in found] == [*range(200)]
    assert {offer.item.content.key.channel[0] for offer in found} == {"c"}
    assert all(any(tag.startswith("p") for tag in offer.item.tags) for offer in found)
    assert len({offer.item.content.key.channel for offer in found}) == 8


def test_a_burst_goes_on_where_the_last_one_ended() -> None:
    fault = Fault(do="burst", at=0, count=3, channel="alerts/x")
    first, second = burst(fault, 0), burst(fault, 3)
    assert len({item.content.payload for item in (*first, *second)}) == 6
    assert [*takewhile(lambda item: item.content.priority == 3, first)] == first
    assert burst(Fault(do="poison", at=0), 9)[0].content.payload.startswith(POISON)
