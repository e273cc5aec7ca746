"""The loop: nothing is shown twice, nothing is known too early, and a world is its seed."""

# ruff: noqa: ARG002 - hooks are told more than each needs
from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from simulator.offerings import Settings as StreamSettings
from simulator.people import Settings as Habits
from tests.world.loop import History, Hooks, Settings, Shown, World, run
from tests.world.policies import Chance, Events, Newest, Tastes, Truth

SMALL = Settings(people=400, steps=100)
TINY = Settings(people=100, steps=40)


class Recording(Hooks):
    """Remembers what was shown, and in which order things happened."""

    def __init__(self) -> None:
        self.was_shown: list[Shown] = []
        self.was_learned: list[Shown] = []
        self.log: list[tuple[str, float]] = []

    def offered(self, who, items, scores, fresh, now) -> None:
        self.log.append(("offered", now))

    def shown(self, shown) -> None:
        self.was_shown.append(shown)

    def learned(self, shown) -> None:
        self.was_learned.append(shown)
        self.log.append(("learned", shown.at))

    def pairs(self) -> list[tuple[int, int]]:
        """Return who was shown which item, once for each time."""
        return [
            pair
            for shown in self.was_shown
            for pair in zip(shown.who.tolist(), shown.items.number.tolist(), strict=True)
        ]


def test_a_world_is_its_seed() -> None:
    def one(seed: int) -> History:
        world = World(seed, TINY)
        return run(world, Tastes(world))

    first, again, other = one(1), one(1), one(2)
    assert np.array_equal(first.opens, again.opens)
    assert np.array_equal(first.exposure, again.exposure)
    assert not np.array_equal(first.opens, other.opens)


def test_two_policies_that_show_the_same_get_the_same_answers() -> None:
    answers = []
    tireless = replace(SMALL, habits=Habits(tires=0.0))
    for policy in (Newest(), Chance(3)):
        recording = Recording()
        run(World(1, tireless), policy, recording)
        answers.append(
            {
                (shown.at, person, number, rank): opened
                for shown in recording.was_shown
                for person, number, rank, opened in zip(
                    shown.who.tolist(), shown.items.number.tolist(), shown.rank.tolist(),
                    shown.opened.tolist(), strict=True,
                )
            }
        )  # fmt: skip
    both = answers[0].keys() & answers[1].keys()
    assert sum(answers[0][key] for key in both) > 20
    assert all(answers[0][key] == answers[1][key] for key in both)


def test_nothing_is_shown_twice_nor_after_its_end_nor_below_the_last_place() -> None:
    recording = Recording()
    run(World(1, TINY), Newest(), recording)
    pairs = recording.pairs()
    assert len(pairs) == len(set(pairs)) > 500
    for shown in recording.was_shown:
        assert np.all(shown.items.published < shown.at)
        assert np.all(shown.items.published >= shown.at - TINY.ttl)
        assert np.all(shown.rank < TINY.k)


def test_more_places_than_items_are_left_empty() -> None:
    few = replace(TINY, stream=StreamSettings(rate=0.5))
    recording = Recording()
    history = run(World(1, few), Newest(), recording)
    assert all(len(np.unique(shown.items.number)) <= 3 for shown in recording.was_shown)
    pairs = recording.pairs()
    assert history.impressions.sum() == len(pairs) == len(set(pairs)) > 0


def test_a_look_is_learned_once_and_only_when_its_window_has_closed() -> None:
    # So many that at no step nobody looks.
    late = replace(SMALL, steps=40, window=1_500.0)
    recording = Recording()
    run(World(1, late), Newest(), recording)
    assert recording.was_learned == recording.was_shown[: len(recording.was_learned)]
    offers = 0.0
    for what, at in recording.log:
        if what == "offered":
            offers = at
        else:
            # It is learned before the next offer, which comes ten minutes after the last at the soonest.
            assert at <= offers + late.step - late.window
    left = len(recording.was_shown) - len(recording.was_learned)
    assert 0 < left <= 3


def test_what_is_opened_after_the_window_counts_as_not_opened() -> None:
    slow = replace(TINY, habits=Habits(delay=1e6))
    assert (
        run(World(1, slow), Newest()).opens.sum() < 0.01 * run(World(1, TINY), Newest()).opens.sum()
    )


def test_whoever_the_ladder_names_serves_while_all_that_is_shown_is_learned() -> None:
    class Ladder(Hooks):
        def __init__(self, rescue, at) -> None:
            self._rescue, self._at = rescue, at

        def serve(self, policy, now):
            return policy if now < self._at else self._rescue

    world, calm = World(1, SMALL), World(1, SMALL)
    turn = world.start + 60 * SMALL.step
    mixed = run(world, Chance(7), Ladder(Truth(world), turn))
    alone = run(calm, Chance(7))
    assert np.array_equal(mixed.opens[:60], alone.opens[:60])
    assert mixed.share_missed(0, 60) > 0.5
    assert mixed.share_missed(60) == pytest.approx(0, abs=1e-9)


def test_a_publisher_is_new_on_the_day_that_it_appears() -> None:
    debuts = (*(0.0 for _ in range(11)), SMALL.ttl + 60 * SMALL.step)
    world = World(1, replace(SMALL, stream=StreamSettings(debuts=debuts, weights=(1.0,) * 12)))
    history = run(world, Newest())
    assert history.exposure[:60, 11].sum() == 0
    assert history.exposure[61:, 11].sum() > 0


class Listening:
    """A ranker of events that remembers what it was told."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.told: list[tuple[dict, float]] = []

    def predict(self, events):
        self.asked += events
        return np.linspace(0.1, 0.9, len(events))

    def learn(self, events, labels) -> None:
        self.told += zip(events, labels.tolist(), strict=True)


def test_a_ranker_of_events_sees_what_a_server_would() -> None:
    world, ranker, recording = World(1, TINY), Listening(), Recording()
    run(world, Events(world, ranker), recording)
    shown = [(float(opened), rank) for each in recording.was_learned
             for opened, rank in zip(each.opened, each.rank.tolist(), strict=True)]  # fmt: skip
    assert [(label, int(event["context"]["rank"])) for event, label in ranker.told] == shown
    assert {event["context"]["rank"] for event in ranker.asked} == {"0"}
    looks = {(person, each.at) for each in recording.was_learned for person in each.who.tolist()}
    assert len({event["list"] for event, _ in ranker.told}) == len(looks)
    times = [event["t"] for event in ranker.asked]
    assert times == sorted(times)
    for event in ranker.asked[:100]:
        assert set(event) == {
            "t", "device", "item", "list", "device_fields", "item_fields", "context"
        }  # fmt: skip
        assert set(event["context"]) == {"hour", "weekday", "rank"}
        person = int(event["device"][1:])
        assert event["device_fields"] == world.people.fields(person)
        assert int(event["context"]["hour"]) == int(world.people.hour(person, event["t"]))


def test_a_ranker_of_events_that_knows_the_truth_is_as_good_as_the_truth() -> None:
    world = World(1, TINY)

    class Knowing(Listening):
        def predict(self, events):
            who = np.array([int(event["device"][1:]) for event in events])
            number = np.array([int(event["item"][1:]) for event in events])
            items, now = world.stream.items(number), events[0]["t"]
            tired = world.fatigue.level(who, items, now)
            return world.people.probability(who, items, now, tired=tired)

    assert run(world, Events(world, Knowing(), tau=inf)).share_missed() == pytest.approx(
        0, abs=1e-9
    )


def test_predicted_values_are_those_of_the_items_shown() -> None:
    world, recording = World(1, TINY), Recording()
    run(world, Truth(world), recording)
    for shown in recording.was_shown:
        assert shown.predicted == pytest.approx(shown.truth)
