"""The last minutes of a server, as charts and words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from broker.figures.histogram import NOTHING, Histogram
from broker.figures.reading import Reading
from broker.web.pages.history import KEPT, SPAN, History

NAMES = ("fleetfeed_publish_to_frame_seconds", "fleetfeed_publish_to_ack_seconds")


@dataclass
class World:
    """A server of which only the figures exist, and a clock that moves with them."""

    now: float = 1_000.0
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    frames: Histogram = field(default_factory=Histogram)

    def __post_init__(self) -> None:
        self.history = History(clock=lambda: self.now + 1e9)
        self.numbers = {
            "fleetfeed_frames_total": {"sent": 0, "acked": 0},
            "fleetfeed_items_total": {"received": 0},
            "fleetfeed_devices": {"subscribed": 3},
            "fleetfeed_overload_level": {"": 0},
            "fleetfeed_overload_rises_total": {"": 0},
            "fleetfeed_store_up": {"": 1},
            "fleetfeed_dropped_total": {},
            "fleetfeed_closed_total": {},
        }

    def reading(self) -> Reading:
        numbers = {name: dict(values) for name, values in self.numbers.items()}
        totals = dict.fromkeys(NAMES, NOTHING) | {NAMES[0]: self.frames.read()}
        return Reading(self.now, "1", numbers, totals, totals, {})

    def look(self, after: float = 1.0, **changes: float) -> None:
        """Time passes, figures change, and a look is taken. `figure__of=value`."""
        self.now += after
        for name, value in changes.items():
            figure, _, of = name.partition("__")
            self.numbers.setdefault(f"fleetfeed_{figure}", {})[of] = value
        self.history.take(self.reading())

    def words(self) -> list[str]:
        return [each["words"] for each in self.history.happened()]


@pytest.fixture
def world() -> World:
    world = World()
    world.look()
    return world


def test_a_first_look_makes_no_point_for_there_is_nothing_to_compare_it_with(world: World) -> None:
    assert not world.history.points
    assert world.history.columns()["at"] == []


def test_a_rate_is_what_came_between_two_looks(world: World) -> None:
    world.look(after=2.0, frames_total__sent=100, items_total__received=4)

    (point,) = world.history.points
    assert (point.frames, point.items, point.at) == (50.0, 2.0, world.now + 1e9)


def test_a_counter_that_begins_anew_has_a_rate_of_none(world: World) -> None:
    world.look(frames_total__sent=500)
    world.look(frames_total__sent=3)

    assert [point.frames for point in world.history.points] == [500.0, 0.0]


def test_the_same_reading_makes_no_second_point(world: World) -> None:
    world.look(after=1.0)
    same = world.history.last
    assert same is not None

    assert not world.history.take(same)
    assert len(world.history.points) == 1


def test_points_are_forgotten_after_ten_minutes(world: World) -> None:
    for _ in range(int(KEPT) + 50):
        world.look()

    first, last = world.history.points[0], world.history.points[-1]
    assert KEPT - 2 <= last.at - first.at <= KEPT


def test_quantiles_are_of_the_last_seconds_and_nothing_where_nothing_was_sent(world: World) -> None:
    world.frames.add_many(np.full(100, 0.010))
    world.look()
    assert world.history.points[-1].frame_p50 == pytest.approx(0.010, rel=0.25)
    assert world.history.points[-1].ack_p50 is None

    for _ in range(int(SPAN) + 1):
        world.look()
    assert world.history.points[-1].frame_p50 is None

    world.frames.add_many(np.full(100, 2.0))
    world.look()
    assert world.history.points[-1].frame_p50 == pytest.approx(2.0, rel=0.25)


def test_the_mean_of_the_last_seconds_leaves_out_what_is_older(world: World) -> None:
    world.look(frames_total__sent=1_000_000)
    for second in range(1, int(SPAN) + 1):
        world.look(frames_total__sent=1_000_000 + 20 * second)

    assert world.history.rate("frames") == pytest.approx(20.0)


def test_drops_are_told_in_words_those_that_happen_now_first(world: World) -> None:
    world.look(dropped_total__outbox_full=7, closed_total__taken_over=900)
    for _ in range(80):
        world.look()
    world.look(dropped_total__poison=2)

    told = world.history.drops()
    assert [(each["reason"], each["minute"], each["total"]) for each in told] == [
        ("poison", 2, 2),
        ("outbox_full", 0, 7),
        ("taken_over", 0, 900),
    ]
    assert told[0]["words"] == "item that a device failed at again and again"
    assert not told[2]["fault"]


def test_only_what_is_a_fault_is_in_the_rate_of_drops(world: World) -> None:
    world.look(dropped_total__outbox_full=6, closed_total__taken_over=900)

    assert world.history.points[-1].drops == 6.0


def test_a_rise_of_overload_is_told_with_what_is_given_up(world: World) -> None:
    world.look(overload_level__=4, overload_rises_total__=1)

    (event,) = world.history.happened()
    assert (
        event["words"] == "Overload rose from level 0 to 4: items of low and normal priority wait."
    )
    assert event["grade"] == "bad"


def test_the_steps_of_a_fall_are_told_as_one(world: World) -> None:
    world.look(overload_level__=3, overload_rises_total__=1)
    for level in (2, 1, 0):
        world.look(overload_level__=level)

    newest, oldest = world.history.happened()
    assert newest["words"] == "Overload fell from level 3 to 0: everything as it should be."
    assert newest["grade"] == "ok"
    assert oldest["words"].startswith("Overload rose from level 0 to 3")


def test_the_steps_of_a_rise_are_told_as_one(world: World) -> None:
    for level in (1, 3, 4):
        world.look(overload_level__=level)

    (event,) = world.history.happened()
    assert event["words"].startswith("Overload rose from level 0 to 4:")


def test_two_falls_with_a_rise_between_are_two(world: World) -> None:
    for level in (2, 1, 2, 1):
        world.look(overload_level__=level)

    assert [each.split(":")[0] for each in world.words()] == [
        "Overload fell from level 2 to 1",
        "Overload rose from level 1 to 2",
        "Overload fell from level 2 to 1",
        "Overload rose from level 0 to 2",
    ]


def test_a_rise_between_two_looks_is_told_though_no_look_saw_it(world: World) -> None:
    world.look(overload_rises_total__=1)

    assert world.words() == ["Overload rose for a moment, and is back at level 0."]


def test_a_store_that_goes_and_comes_is_told(world: World) -> None:
    world.look(store_up__=0)
    world.look(store_up__=1)

    back, away = world.words()
    assert away.startswith("The store is away")
    assert back == "The store is back."


def test_a_fall_of_the_ranking_is_told(world: World) -> None:
    world.look(ranking_rung__=0)
    world.look(ranking_rung__=2)

    assert world.words()[0] == "The ranking fell from learned to popularity."


def test_the_model_is_kept_every_ten_seconds_as_far_as_it_is_known(world: World) -> None:
    for second in range(25):
        world.look(ranking_rung__=0, ranking_drift__all=second / 100)

    columns: dict[str, list[Any]] = world.history.model_columns()
    assert columns["drift"] == [0.0, 0.1, 0.2]
    assert columns["calibration"] == [None] * 3


def test_a_clock_that_is_set_back_leaves_times_that_grow_and_no_more_points_than_before() -> None:
    world, skew = World(), 0.0
    world.history = History(clock=lambda: world.now + skew)
    world.look()
    for _ in range(700):
        world.look()
    skew = -3_600.0
    for _ in range(700):
        world.look()
        times = world.history.columns()["at"]
        assert times[-1] == world.now + skew
        assert times == sorted(times)
    assert len(times) <= KEPT + 1


def test_a_clock_that_is_set_back_does_not_stop_what_is_kept_of_the_model() -> None:
    world, skew = World(), 0.0
    world.history = History(clock=lambda: world.now + skew)
    for _ in range(30):
        world.look(ranking_rung__=0)
    skew = -3_600.0
    for _ in range(30):
        world.look(ranking_rung__=0)
    times = world.history.model_columns()["at"]
    assert len(times) == 3
    assert times == sorted(times)


def test_a_gateway_tells_when_its_broker_goes_and_comes(world: World) -> None:
    world.look(uplink_up__frames=1)
    world.look(uplink_up__frames=0)
    world.look(uplink_up__frames=0)
    world.look(uplink_up__frames=1)

    back, away, first = world.words()
    assert first == back == "The broker is back."
    assert away.startswith("The broker is away")
