"""People with known tastes: the same answers in every order, at the chances that are said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.drift import Kind
from simulator.offerings import Items, Market, Stream
from simulator.people import CLASSES, Fatigue, People, Responses, Settings, best

HOUR = 3600.0
DAY = 24 * HOUR
NOW = 10 * DAY
MARKET = Market(channels=6, tags=10, publishers=5)
PEOPLE = People(1, 500, MARKET)
ITEMS = Stream(1, MARKET, start=NOW - 4 * HOUR).between(NOW - 4 * HOUR, NOW)
ALL = np.arange(500)[:, None]


def columns(responses: Responses) -> list[np.ndarray]:
    return [getattr(responses, name) for name in Responses.__dataclass_fields__]


def twins(count: int) -> Items:
    """Return items that are alike but for their numbers, published now."""
    one = ITEMS.take(np.zeros(count, np.int64))
    return replace(one, number=np.arange(count), published=np.full(count, NOW))


@given(st.lists(st.tuples(st.integers(0, 499), st.integers(0, 39), st.integers(0, 7)), min_size=1, max_size=30))  # fmt: skip
@settings(max_examples=50)
def test_the_same_person_item_and_rank_give_the_same_answer_whatever_else_is_asked(asked) -> None:
    who, place, rank = (np.array(column) for column in zip(*asked, strict=True))
    together = columns(PEOPLE.respond(who, ITEMS.take(place), NOW, rank))
    again = People(1, 500, MARKET)
    for at in reversed(range(len(asked))):
        one = slice(at, at + 1)
        alone = columns(again.respond(who[one], ITEMS.take(place[one]), NOW, rank[one]))
        assert [column[at] for column in together] == [column[0] for column in alone]


def test_people_of_another_seed_are_other_people() -> None:
    other = People(2, 500, MARKET).interests(NOW)
    assert abs(np.corrcoef(PEOPLE.interests(NOW).ravel(), other.ravel())[0, 1]) < 0.2


def test_more_people_leave_the_first_ones_as_they_are() -> None:
    more = People(1, 600, MARKET)
    assert np.array_equal(more.interests(NOW)[:500], PEOPLE.interests(NOW))
    assert np.array_equal(more.kind[:500], PEOPLE.kind)


def test_interests_have_the_strengths_of_the_settings() -> None:
    # Of one population factors are few: the mean over many is what the settings say.
    made = [People(seed, 200, Market(20, 20, 20)).interests(NOW) for seed in range(60)]
    squares = np.mean([interests**2 for interests in made], axis=(0, 1))
    assert squares[:20].mean() ** 0.5 == pytest.approx(1.0, rel=0.1)
    assert squares[20:40].mean() ** 0.5 == pytest.approx(0.4, rel=0.1)
    assert squares[40:].mean() ** 0.5 == pytest.approx(0.5 / 2**0.5, rel=0.1)


def test_people_with_the_same_class_of_device_have_tastes_in_common() -> None:
    interests = People(1, 3_000, Market(20, 20, 20)).interests(NOW)
    kind = People(1, 3_000, Market(20, 20, 20)).kind
    means = np.stack([interests[kind == each].mean(axis=0) for each in range(len(CLASSES))])
    # By chance alone the means of a thousand people would differ by a thirtieth of a logit.
    assert means[:, :20].std(axis=0).mean() > 0.15
    shares = np.bincount(kind) / 3_000
    assert shares == pytest.approx([each.weight for each in CLASSES], abs=0.03)


def test_items_are_opened_as_often_as_their_probability_says() -> None:
    who, items = (
        np.repeat(np.arange(500), len(ITEMS)),
        ITEMS.take(np.tile(np.arange(len(ITEMS)), 500)),
    )
    rank = who % 8
    done = PEOPLE.respond(who, items, NOW, rank)
    chance = PEOPLE.probability(who, items, NOW, rank)
    for group in np.array_split(np.argsort(chance), 5):
        seen = group[done.shown[group]]
        opened, expected = done.opened[seen].sum(), chance[seen].sum()
        assert abs(opened - expected) < 4 * np.sqrt(expected)


def test_the_lower_it_stands_the_less_it_is_looked_at_and_quality_has_no_part_in_it() -> None:
    ratio = PEOPLE.probability(ALL, ITEMS, NOW, rank=3) / PEOPLE.probability(ALL, ITEMS, NOW)
    assert ratio == pytest.approx(4**-0.5)
    assert np.all(np.diff(PEOPLE.examination(np.arange(8))) < 0)


def test_what_is_not_on_the_screen_is_not_shown_and_never_opened() -> None:
    who, items = np.repeat(np.arange(500), 16), twins(500 * 16)
    rank = np.tile(np.arange(16), 500)
    done = PEOPLE.respond(who, items, NOW, rank)
    shown = done.shown.reshape(500, 16)
    assert not np.any(done.opened & ~done.shown)
    assert not np.any(done.dismissed & ~done.shown)
    # Who sees a place has seen those above it.
    assert np.all(np.diff(shown.astype(int), axis=1) <= 0)
    screens = np.array([each.screen for each in CLASSES])[PEOPLE.kind]
    assert np.all(shown.sum(axis=1) >= screens)
    watches = shown[screens == 2]
    assert watches[:, 4].mean() == pytest.approx(0.8**3, abs=0.15)


def test_nobody_dismisses_what_they_opened_and_only_the_opened_is_read() -> None:
    who, items = np.repeat(np.arange(500), 40), twins(500 * 40)
    done = PEOPLE.respond(who, items, NOW, np.zeros(500 * 40, np.int64))
    assert done.dismissed.any()
    assert not np.any(done.opened & done.dismissed)
    assert np.array_equal(done.dwell > 0, done.opened)
    assert np.array_equal(np.isfinite(done.delay), done.opened | done.dismissed)
    assert np.median(done.delay[done.opened]) == pytest.approx(PEOPLE.settings.delay, rel=0.15)


def test_who_likes_it_more_reads_longer_and_dismisses_less() -> None:
    who, items = np.repeat(np.arange(500), 40), twins(500 * 40)
    done = PEOPLE.respond(who, items, NOW, np.zeros(500 * 40, np.int64))
    fond = PEOPLE.probability(who, items, NOW) > np.median(PEOPLE.probability(who, items, NOW))
    assert done.dwell[done.opened & fond].mean() > done.dwell[done.opened & ~fond].mean()
    assert done.dismissed[fond].sum() < done.dismissed[~fond].sum()


def test_news_fade() -> None:
    fresh, later = (PEOPLE.probability(ALL, twins(3), at) for at in (NOW, NOW + DAY))
    assert later == pytest.approx(fresh * np.exp(-4))  # the same hour, a day of 4 · fades later
    assert PEOPLE.probability(ALL, twins(3), NOW - DAY) == pytest.approx(fresh)


def test_people_look_as_often_as_they_do_and_at_their_hours() -> None:
    people = People(1, 2_000, MARKET, Settings(busy=0.0))
    looks = np.zeros(2_000)
    hours = np.zeros(24)
    for step in range(7 * 144):
        now = step * 600.0
        who = people.looking(now, 600.0)
        np.add.at(looks, who, 1)
        np.add.at(hours, people.hour(who, now).astype(int), 1)
    assert looks.mean() / 7 == pytest.approx(6.0, rel=0.03)
    assert hours.argmax() in range(16, 23)
    assert hours.min() < hours.max() / 4


def test_some_are_busy_and_some_sleepy() -> None:
    looks = np.zeros(2_000)
    people = People(1, 2_000, MARKET)
    for step in range(7 * 144):
        np.add.at(looks, people.looking(step * 600.0, 600.0), 1)
    low, high = np.quantile(looks / 7, [0.05, 0.95])
    assert low < 3
    assert high > 12


def test_a_look_is_the_same_when_it_is_asked_for_again() -> None:
    assert np.array_equal(PEOPLE.looking(NOW, 600.0), People(1, 500, MARKET).looking(NOW, 600.0))


def test_fatigue_grows_with_what_was_shown_of_a_channel_and_rests() -> None:
    fatigue = Fatigue(PEOPLE)
    who = np.array([4])
    item = ITEMS.take(slice(0, 1))
    assert fatigue.level(who, item, NOW) == 0
    fatigue.exposed(np.array([4, 4, 4]), ITEMS.take(np.zeros(3, np.int64)), NOW)
    tired = fatigue.level(who, item, NOW).item()
    # Three times its channel and three times its publisher.
    assert tired == pytest.approx(6 * PEOPLE.settings.tires)
    rested = fatigue.level(who, item, NOW + PEOPLE.settings.rests).item()
    assert rested == pytest.approx(tired / np.e)
    assert fatigue.level(np.array([5]), item, NOW) == 0
    assert PEOPLE.probability(who, item, NOW, tired=tired) < PEOPLE.probability(who, item, NOW)


def test_exposures_at_different_times_add_up_as_they_fade() -> None:
    fatigue, rests = Fatigue(PEOPLE), PEOPLE.settings.rests
    who, item = np.array([4]), ITEMS.take(slice(0, 1))
    fatigue.exposed(who, item, NOW)
    fatigue.exposed(who, item, NOW + rests)
    expected = 2 * PEOPLE.settings.tires * (1 + np.exp(-1)) * np.exp(-1)
    assert fatigue.level(who, item, NOW + 2 * rests).item() == pytest.approx(expected)


def test_fatigue_has_an_end() -> None:
    fatigue = Fatigue(PEOPLE)
    fatigue.exposed(np.full(1_000, 4), ITEMS.take(np.zeros(1_000, np.int64)), NOW)
    assert fatigue.level(np.array([4]), ITEMS, NOW).max() == PEOPLE.settings.most_tired


def test_a_sudden_drift_moves_the_interests_of_a_share_of_the_people() -> None:
    people = People(1, 500, MARKET)
    people.drift(Kind.SUDDEN, 0.3, at=NOW, until=NOW + DAY)
    before, during = people.interests(NOW - 1).copy(), people.interests(NOW).copy()
    moved = np.any(before != during, axis=1)
    assert moved.mean() == pytest.approx(0.3, abs=0.06)
    # The same interests, in other places: channels among channels, and so on.
    for part in (slice(0, 6), slice(6, 11), slice(11, 21)):
        assert np.allclose(np.sort(before[:, part]), np.sort(during[:, part]), atol=1e-6)
        assert not np.any(np.isclose(before[moved, part], during[moved, part], atol=1e-9))
    assert np.array_equal(people.interests(NOW + DAY), before)


def test_a_gradual_drift_passes_through_the_middle() -> None:
    people = People(1, 500, MARKET)
    people.drift(Kind.GRADUAL, 1.0, at=NOW, over=DAY)
    first, middle, last = (people.interests(at).copy() for at in (NOW, NOW + DAY / 2, NOW + DAY))
    assert np.allclose(middle, (first + last) / 2, atol=1e-6)
    assert not np.allclose(first, last)


def test_a_drop_takes_the_same_share_from_everything_that_its_people_open() -> None:
    people = People(1, 500, MARKET)
    before = people.probability(ALL, ITEMS, NOW)
    people.drift(Kind.DROP, 0.5, at=NOW, by=0.2)
    ratio = people.probability(ALL, ITEMS, NOW) / before
    assert np.unique(np.round(ratio, 6)).tolist() == [0.8, 1.0]
    assert np.mean(ratio[:, 0] < 0.9) == pytest.approx(0.5, abs=0.08)
    assert np.array_equal(people.interests(NOW), PEOPLE.interests(NOW))


def test_a_second_drift_starts_from_where_the_first_one_led() -> None:
    people = People(1, 500, MARKET)
    people.drift(Kind.SUDDEN, 1.0, at=NOW)
    people.drift(Kind.SUDDEN, 1.0, at=NOW + DAY)
    first, second, third = (people.interests(NOW + days * DAY).copy() for days in (-1, 0, 1))
    assert not np.allclose(second, third)
    for interests in (second, third):
        assert np.allclose(np.sort(first[:, :6]), np.sort(interests[:, :6]), atol=1e-5)


def test_a_drift_changes_no_draw() -> None:
    people = People(1, 500, MARKET)
    people.drift(Kind.SUDDEN, 0.5, at=NOW)
    same = np.all(people.interests(NOW) == PEOPLE.interests(NOW), axis=1)
    who = np.flatnonzero(same)[:, None]
    rank = np.zeros((1, 1), np.int64)
    for one, other in zip(
        columns(people.respond(who, ITEMS, NOW, rank)),
        columns(PEOPLE.respond(who, ITEMS, NOW, rank)),
        strict=True,
    ):
        assert np.array_equal(one, other)


def test_the_oracle_names_the_best_and_nothing_beats_it() -> None:
    chosen = PEOPLE.oracle(ALL[:, 0], ITEMS, NOW, 5)
    chances = PEOPLE.probability(ALL, ITEMS, NOW)
    values = np.take_along_axis(chances, chosen, axis=1)
    assert np.array_equal(values, -np.sort(-chances, axis=1)[:, :5])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 15))
def test_the_best_are_in_falling_order_and_ties_by_place(values, k) -> None:
    expected = sorted(range(len(values)), key=lambda place: (-values[place], place))[:k]
    assert best(np.array([values], np.float64), k).tolist() == [expected]


def test_fields_tell_what_a_server_may_know_of_a_device() -> None:
    told = [PEOPLE.fields(person) for person in range(500)]
    assert {each["class"] for each in told} == {each.name for each in CLASSES}
    assert {int(each["zone"]) for each in told} == set(range(-11, 13))
