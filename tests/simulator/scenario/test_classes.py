"""From classes to devices."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.links.profiles import PROFILES
from simulator.scenario.classes import TooFew, chosen, sample, sizes, specs
from simulator.scenario.model import Scenario
from simulator.scenario.tables import DeviceClass, Publisher


def classes(*shares: float, count: int | None = None) -> list[DeviceClass]:
    found = [DeviceClass(name=f"c{place}", share=share) for place, share in enumerate(shares)]
    return found if count is None else [*found, DeviceClass(name="fixed", count=count)]


def scenario(*tables: dict[str, Any]) -> Scenario:
    return Scenario.model_validate(
        {
            "scenario": {"name": "x", "about": "y"},
            "class": tables,
            "publisher": [{"name": "p", "rate": 1, "people": True}],
            "phase": [{"name": "one", "seconds": 10}],
        }
    )


@settings(max_examples=100)
@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=8),
    st.integers(0, 50),
    st.integers(100, 5_000),
)
def test_all_devices_are_dealt_out_and_nobody_goes_empty(
    shares: list[float], count: int, devices: int
) -> None:
    found = sizes(classes(*shares, count=count or 1), devices)
    assert sum(found.values()) == devices
    assert found["fixed"] == (count or 1)
    assert min(found.values()) >= 1


def test_shares_decide_within_one_device_or_two() -> None:
    assert sizes(classes(5, 3, 2), 1_000) == {"c0": 500, "c1": 300, "c2": 200}


def test_fewer_devices_than_the_counts_ask_for_are_refused() -> None:
    with pytest.raises(TooFew, match="5 devices are too few: the classes with a count have 4"):
        sizes(classes(1, 1, count=4), 5)


def test_devices_are_what_their_class_says() -> None:
    found = specs(
        scenario(
            {"name": "bulb", "share": 1, "sleep": {"period": 100, "awake": 10}, "messages": 50},
            {"name": "panel", "share": 1, "k": 16, "link": "wifi", "people": True, "attrs": {"class": "p"}},
        ),
        20,
        seed=1,
    )  # fmt: skip
    bulbs, panels = found[:10], found[10:]
    assert [spec.device for spec in bulbs[:2]] == ["bulb-1", "bulb-2"]
    offsets = sorted(spec.sleep.offset for spec in bulbs if spec.sleep is not None)
    assert [int(offset // 10) for offset in offsets] == [*range(10)]  # one in each tenth
    assert [spec.person for spec in panels] == [*range(10)]
    assert panels[0].link == PROFILES["wifi"]
    assert panels[0].attrs == {"class": "p"}
    assert bulbs[0].person is None


def test_the_same_share_of_devices_is_drawn_for_the_same_seed() -> None:
    members = {"a": [f"a-{n}" for n in range(10)], "b": [f"b-{n}" for n in range(30)]}
    first = chosen("*", 0.25, members, Random(3))
    assert len(first) == 10
    assert first == chosen("*", 0.25, members, Random(3))
    assert chosen(("a",), 1.0, members, Random(3)) == members["a"]


def test_a_sample_has_some_of_every_class_and_never_one_twice() -> None:
    members = {"big": [f"b{n}" for n in range(990)], "small": [f"s{n}" for n in range(10)]}
    found = sample(members, 100)
    assert len(found) == len(set(found)) == 101
    assert sum(name.startswith("s") for name in found) == 2
    assert sample({"one": ["x"]}, 100) == ["x"]


def test_of_a_filter_with_a_range_each_device_follows_one_in_turn() -> None:
    found = specs(scenario({"name": "a", "follow": ["site/{1..3}/x", "alarm"]}), 6, 1)
    assert [spec.follow for spec in found] == [
        (f"site/{place}/x", "alarm") for place in (2, 3, 1, 2, 3, 1)
    ]


@pytest.mark.parametrize("text", ["a/{3..1}", "a/{1..2}/{1..2}", "a/{1..99999}"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must have one range"):
        scenario({"name": "a", "follow": [text]})


def test_a_publisher_uses_every_channel_of_a_range() -> None:
    found = Publisher(name="p", rate=1, channels=("a/{8..10}", "b"))
    assert found.channels == ("a/8", "a/9", "a/10", "b")
