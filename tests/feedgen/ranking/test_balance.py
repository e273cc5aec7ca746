from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from math import exp, inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking.balance import OTHERS, Balance, Settings, both_ways
from feedgen.windows import EMPTY

HOUR = 3600.0
TAU = 6 * HOUR
TICKS = 100
SEEDS = range(10)


# A feed with people who look at it


PUBLISHERS = 13  # number 0 publishes nothing: it is the others
BUSY, WEAK, LATE = 1, 2, 12
DEVICES, VISIBLE, WIDTH = 40, 8, 16
ATTENTION = np.concatenate((1 / np.log2(2 + np.arange(VISIBLE)), np.zeros(WIDTH - VISIBLE)))
IMPRESSIONS = 20_000


@dataclass
class Items:
    """The live items: who published them and when, and how likely each device opens them."""

    publisher: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    published: np.ndarray = field(default_factory=lambda: np.zeros(0))
    truth: np.ndarray = field(default_factory=lambda: np.zeros((DEVICES, 0)))
    predicted: np.ndarray = field(default_factory=lambda: np.zeros((DEVICES, 0)))
    shown: np.ndarray = field(default_factory=lambda: np.zeros((DEVICES, 0), np.bool_))

    def expire(self, before: float) -> None:
        live = self.published > before
        self.publisher, self.published = self.publisher[live], self.published[live]
        for name in ("truth", "predicted", "shown"):
            setattr(self, name, getattr(self, name)[:, live])

    def publish(self, publisher: np.ndarray, at: np.ndarray, truth: np.ndarray, guess: np.ndarray):
        self.publisher = np.concatenate((self.publisher, publisher))
        self.published = np.concatenate((self.published, at))
        self.truth = np.hstack((self.truth, truth))
        self.predicted = np.hstack((self.predicted, guess))
        self.shown = np.hstack((self.shown, np.zeros(truth.shape, np.bool_)))


class Feed:
    """Twelve publishers, ten items an hour, windows of eight that forty devices look at.

    One publishes five times as much as each other, one has items of half the appeal, one comes when
    two fifths of the impressions are over. Places further down get less attention. An impression is
    the first time that a device sees an item.
    """

    def __init__(self, seed: int, *, corrected: bool, settings: Settings | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.corrected = corrected
        self.balance = Balance(settings or Settings())
        self.rate = np.ones(PUBLISHERS)
        self.rate[[OTHERS, BUSY]] = 0, 5
        self.appeal = self.rng.normal(0, 0.1, PUBLISHERS)
        self.appeal[WEAK] = -0.7
        self.items = Items()
        self.now = 0.0
        self.impressions = 0
        self.opens = 0.0

    def run(self) -> Feed:
        while self.impressions < IMPRESSIONS:
            self.now += HOUR
            self._publish()
            if len(self.items.publisher) >= WIDTH:
                self._look()
            self.balance.step(self.now)
        return self

    @property
    def opens_per_impression(self) -> float:
        return self.opens / self.impressions

    def ratios(self) -> dict[int, float]:
        return {share.group: share.ratio for share in self.balance.report() if share.group}

    def _publish(self) -> None:
        rng, count = self.rng, self.rng.poisson(10)
        rate = self.rate.copy()
        rate[LATE] *= self.impressions > 0.4 * IMPRESSIONS
        publisher = rng.choice(PUBLISHERS, count, p=rate / rate.sum())
        item, taste = rng.normal(0, 0.4, count), rng.normal(0, 0.5, (DEVICES, count))
        truth = 1 / (1 + np.exp(2.2 - self.appeal[publisher] - item - taste))
        predicted = truth * np.exp(rng.normal(0, 0.2, truth.shape))
        self.items.expire(self.now - 48 * HOUR)
        self.items.publish(publisher, self.now - HOUR * rng.random(count), truth, predicted)
        self.balance.offered(np.tile(publisher, DEVICES), predicted.ravel())

    def _look(self) -> None:
        items, device = self.items, self.rng.permutation(DEVICES)[: DEVICES // 3, None]
        correction = self.balance.correction(items.publisher) * self.corrected
        ticks = np.rint(TICKS * TAU * correction).astype(np.int64)
        plain = TICKS * (
            items.published - self.now + TAU * np.log(items.predicted[device[:, 0]] / 0.1)
        )
        keys = np.rint(plain).astype(np.int64) + ticks
        held = np.argsort(-keys, axis=1)[:, :WIDTH]
        self.balance.compared(
            *both_ways(
                np.take_along_axis(keys, held, axis=1).astype(np.int32),
                ticks[held],
                items.predicted[device, held],
                ATTENTION,
            )
        )
        row, place = np.nonzero(~items.shown[device, held[:, :VISIBLE]])
        seen, who = held[row, place], device[row, 0]
        self.balance.exposed(items.publisher[seen], ATTENTION[place])
        self.opens += float(items.truth[who, seen] @ ATTENTION[place])
        items.shown[who, seen] = True
        self.impressions += len(seen)


@cache
def feed(seed: int, *, corrected: bool) -> Feed:
    return Feed(seed, corrected=corrected).run()


def true_cost(seed: int) -> float:
    fair, free = feed(seed, corrected=True), feed(seed, corrected=False)
    return 1 - fair.opens_per_impression / free.opens_per_impression


def test_ranking_alone_concentrates_exposure_beyond_merit():
    worst = [feed(seed, corrected=False).ratios() for seed in SEEDS]
    assert all(ratios[WEAK] < 0.5 for ratios in worst)
    assert np.mean([max(ratios.values()) for ratios in worst]) > 1.2


@pytest.mark.parametrize("seed", SEEDS)
def test_after_20_000_impressions_every_publisher_is_shown_as_it_merits(seed):
    ratios = feed(seed, corrected=True).ratios()
    assert set(ratios) == set(range(1, PUBLISHERS))
    assert min(ratios.values()) >= 0.8
    assert max(ratios.values()) <= 1.25


@pytest.mark.parametrize("seed", SEEDS)
def test_fairness_costs_at_most_2_percent_of_opens(seed):
    assert true_cost(seed) <= 0.02


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cost_that_is_reported_is_near_the_true_one(seed):
    estimate = feed(seed, corrected=True).balance.cost()
    assert estimate == pytest.approx(true_cost(seed), abs=0.003)


def test_nothing_is_reported_as_cost_where_nothing_is_corrected():
    assert feed(0, corrected=False).balance.cost() == pytest.approx(0, abs=1e-12)


def test_a_budget_bounds_the_cost_at_the_price_of_fairness():
    cheap = Feed(3, corrected=True, settings=Settings(budget=0.005)).run()
    assert true_cost(3) > 0.015
    assert cheap.balance.cost() == pytest.approx(0.005, abs=0.002)
    assert 1 - cheap.opens_per_impression / feed(3, corrected=False).opens_per_impression < 0.008
    assert feed(3, corrected=False).ratios()[WEAK] < cheap.ratios()[WEAK]
    assert cheap.ratios()[WEAK] < feed(3, corrected=True).ratios()[WEAK]


# Corrections


PLAIN = Settings(boost=0.0, newcomer=1, doubt=1e-9)


def some(*groups: int) -> np.ndarray:
    return np.array(groups, np.int64)


def unfair(times: int = 100, settings: Settings = PLAIN) -> Balance:
    """Two groups of the same merit; the second is shown three times as often."""
    balance = Balance(settings)
    for _ in range(times):
        balance.offered(some(1, 2), np.ones(2))
        balance.exposed(some(1, 2, 2, 2))
    return balance


def test_who_is_shown_less_than_it_merits_rises_and_who_is_shown_more_falls():
    balance = unfair()
    balance.step(0)
    rises, falls = balance.correction(some(1, 2)).tolist()
    assert rises > 0 > falls


def test_as_long_as_nothing_was_scored_nobody_is_shown_too_much():
    balance = Balance(Settings())
    for turn in range(20):
        balance.exposed(np.array([1, 2] * 200))
        balance.step(60.0 * turn)
    assert [share.correction for share in balance.report()] == [0, 0, 0]


def test_who_publishes_more_merits_more():
    balance = Balance(PLAIN)
    balance.offered(some(1, 1, 1, 2), np.array([0.1, 0.1, 0.1, 0.1]))
    balance.exposed(some(*[1] * 300, *[2] * 100))
    balance.step(0)
    assert balance.correction(some(1, 2)) == pytest.approx([0, 0], abs=1e-12)
    assert [share.ratio for share in balance.report() if share.group] == pytest.approx([1, 1])


def test_exposure_counts_by_attention_if_that_is_told():
    balance = Balance(PLAIN)
    balance.offered(some(1, 2), np.ones(2))
    balance.exposed(some(1, 2, 2), np.array([1.0, 0.5, 0.5]))
    balance.step(0)
    assert balance.correction(some(1, 2)).tolist() == [0, 0]
    assert {share.group: share.impressions for share in balance.report()} == {0: 0, 1: 1, 2: 2}


def test_corrections_only_tell_groups_apart():
    balance = Balance(PLAIN)
    balance.offered(some(1, 2, 3), np.array([1.0, 2.0, 5.0]))
    balance.exposed(some(*[1] * 120, *[2] * 200, *[3] * 480))
    balance.step(0)
    corrections = balance.correction(some(1, 2, 3))
    assert np.abs(corrections).max() > 0.1
    assert corrections @ [1, 2, 5] == pytest.approx(0, abs=1e-6)


def test_corrections_stop_at_the_cap():
    balance = Balance(PLAIN)
    balance.exposed(some(1))
    for now in range(100):
        balance.offered(some(1, 2, 3), np.ones(3))
        balance.exposed(some(*[2, 3] * 500))
        balance.step(now)
    assert balance.correction(some(1))[0] == np.float32(PLAIN.cap)
    assert (np.abs(balance.correction(some(1, 2, 3))) <= np.float32(PLAIN.cap)).all()


def test_without_impressions_corrections_only_leak_away():
    balance = unfair()
    balance.step(1000)
    before = balance.correction(some(1, 2))
    balance.step(1000 + PLAIN.leak)
    assert balance.correction(some(1, 2)) == pytest.approx(before * exp(-1))


def test_nothing_leaks_when_the_clock_goes_back():
    balance = unfair()
    balance.step(1000)
    before = balance.correction(some(1, 2)).tolist()
    balance.step(0)
    assert balance.correction(some(1, 2)).tolist() == before


def test_old_impressions_are_forgotten():
    balance = unfair()
    for now in range(10):
        balance.offered(some(1, 2), np.ones(2) * 1000)
        balance.exposed(some(*[1, 2] * 4000))
        balance.step(now)
    assert [share.ratio for share in balance.report() if share.group] == pytest.approx(
        [1, 1], abs=0.01
    )


def test_steps_may_be_many_or_few():
    often, seldom = Balance(PLAIN), Balance(PLAIN)
    for turn in range(400):
        for balance in (often, seldom):
            balance.offered(some(1, 2), np.ones(2))
            balance.exposed(some(1, 1, 1, 2, 2))
        often.step(turn)
        if turn % 20 == 19:
            seldom.step(turn)
    one, other = often.correction(some(1, 2)), seldom.correction(some(1, 2))
    assert one == pytest.approx(other, rel=0.03)
    assert np.abs(one).min() > 0.05


def test_corrections_shrink_while_they_cost_more_than_the_budget():
    balance = unfair()
    balance.step(0)
    before = balance.correction(some(1, 2))
    balance.compared(95.0, 100.0)
    balance.offered(some(1, 2), np.ones(2))
    balance.exposed(some(*[1, 2, 2, 2] * 200))
    balance.step(1)
    assert balance.cost() == pytest.approx(0.05)
    shrunk = balance.correction(some(1, 2)) / before
    assert (shrunk > 0.3).all()
    assert (shrunk < 0.8).all()


def test_the_cost_is_that_of_the_last_impressions():
    balance = unfair()
    balance.compared(50.0, 100.0)
    for now in range(10):
        balance.exposed(some(*[1, 2] * 4000))
        balance.step(now)
        balance.compared(99.0, 100.0)
    assert balance.cost() == pytest.approx(0.01, abs=0.001)


# Newcomers


def test_a_newcomer_is_boosted_the_less_the_more_it_was_shown():
    balance = Balance(Settings(boost=0.5, newcomer=100))
    boosts = [balance.correction(some(7))[0]]
    for _ in range(4):
        balance.exposed(some(*[7] * 25))
        boosts.append(balance.correction(some(7))[0])
    assert boosts == pytest.approx([0.5, 0.375, 0.25, 0.125, 0])


def test_a_newcomer_is_not_punished_while_its_evidence_is_thin():
    balance = Balance(Settings(newcomer=50))
    balance.offered(some(1, 2), np.ones(2))  # and nothing of 9: whatever it is shown is too much
    balance.exposed(some(*[1, 2] * 200, *[9] * 49))
    balance.step(0)
    assert balance.correction(some(9))[0] == pytest.approx(0.5 * (1 - 49 / 50))
    balance.exposed(some(*[1, 2] * 10, *[9] * 20))
    balance.step(1)
    assert balance.correction(some(9))[0] < 0


def test_what_has_no_group_is_neither_boosted_nor_corrected():
    balance = unfair()
    balance.exposed(some(*[0] * 1000))
    balance.step(0)
    assert balance.correction(some(0, 0)).tolist() == [0, 0]
    assert Balance(Settings()).correction(some(0)).tolist() == [0]


# Bounds


def test_where_there_is_no_room_newcomers_are_others():
    balance = Balance(Settings(groups=2))
    balance.exposed(some(1, 2))
    balance.exposed(some(3, 3))
    assert {share.group: share.impressions for share in balance.report()} == {0: 2, 1: 1, 2: 1}
    assert balance.correction(some(3)).tolist() == [0]


def test_who_was_not_shown_for_long_makes_room():
    balance = Balance(Settings(groups=2, memory=10))
    balance.exposed(some(1))
    balance.exposed(some(*[2] * 11))
    balance.offered(some(3, 4), np.ones(2))
    shares = {share.group: share for share in balance.report()}
    assert set(shares) == {0, 2, 3}
    assert shares[0].impressions == 1
    assert shares[0].exposure == pytest.approx(1 / 12)
    assert shares[0].merit == pytest.approx(0.5)


def test_who_has_just_come_is_not_sent_away_evidence():
    balance = Balance(Settings(groups=2, memory=10))
    balance.exposed(some(1))
    balance.exposed(some(*[2] * 11))
    balance.offered(some(3), np.ones(1))
    balance.offered(some(4), np.ones(1))
    assert {share.group for share in balance.report()} == {0, 2, 3}


def test_doubt_weighs_the_same_however_long_a_feed_runs():
    balance, evidence = Balance(Settings(newcomer=1)), []
    for now in range(200):
        balance.offered(some(1, 2), np.array([0.001, 0.999]))
        balance.exposed(some(*[2] * 1000, 1))
        balance.step(now)
        evidence.append(balance.state()["evidence"])
    assert evidence[100] == pytest.approx(evidence[-1], rel=0.001)
    assert evidence[-1] < Settings().memory


@st.composite
def stories(draw: st.DrawFn) -> tuple[Settings, list[tuple[str, np.ndarray, np.ndarray]]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    most = draw(st.sampled_from([1, 3, 20]))
    steps = [
        (kind, rng.integers(0, most + 1, count), rng.gamma(0.3, size=count) * (rng.random(count) < 0.7))
        for kind in draw(st.lists(st.sampled_from(["offered", "exposed", "compared", "step"]), max_size=30))
        for count in [int(rng.integers(0, 300))]
    ]  # fmt: skip
    return Settings(
        groups=draw(st.sampled_from([1, 4, 50])), memory=draw(st.sampled_from([10, 1000]))
    ), steps


def tell(balance: Balance, story: list[tuple[str, np.ndarray, np.ndarray]]) -> Balance:
    for kind, groups, weights in story:
        if kind == "offered":
            balance.offered(groups, weights)
        elif kind == "exposed":
            balance.exposed(groups, weights)
        elif kind == "compared":
            balance.compared(float(weights[::2].sum()), float(weights.sum()))
        else:
            balance.step(float(len(groups)))
    return balance


@given(stories())
@settings(max_examples=100, deadline=None)
def test_whatever_happens_corrections_are_bounded_and_shares_add_up(drawn):
    limits, story = drawn
    balance = tell(Balance(limits), story)
    report = balance.report()
    got = balance.correction(np.arange(25))
    assert (np.abs(got) <= np.float32(limits.cap + limits.boost)).all()
    assert len(report) <= limits.groups + 1
    for column in ([share.merit for share in report], [share.exposure for share in report]):
        assert sum(column) == pytest.approx(1) or not any(column)
    shown = sum(len(groups) for kind, groups, _ in story if kind == "exposed")
    assert sum(share.impressions for share in report) == shown


@given(stories(), stories())
@settings(max_examples=50, deadline=None)
def test_a_balance_continues_from_its_state_as_if_nothing_had_been(first, then):
    limits, story = first
    balance = tell(Balance(limits), story)
    restored = Balance.from_state(limits, json.loads(json.dumps(balance.state())))
    assert restored.state() == balance.state()
    assert tell(restored, then[1]).state() == tell(balance, then[1]).state()


def test_a_state_with_more_groups_than_there_is_room_for_keeps_the_most_recent():
    balance = Balance(Settings())
    for group in (5, 3, 9, 5):
        balance.exposed(some(group))
    restored = Balance.from_state(Settings(groups=2), balance.state())
    assert {share.group: share.impressions for share in restored.report()} == {0: 1, 5: 2, 9: 1}


@pytest.mark.parametrize(
    "damage",
    [
        {"columns": {}},
        {"values": [1.0, 2.0, 3.0]},
        {"evidence": None},
        {"columns": {name: [] for name in Balance(Settings()).state()["columns"]}},
        {"columns": {name: [1] for name in Balance(Settings()).state()["columns"]}},
    ],
)
def test_a_damaged_state_is_refused(damage):
    with pytest.raises(ValueError, match="stored balance of exposure is damaged"):
        Balance.from_state(Settings(), Balance(Settings()).state() | damage)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_merit_that_would_poison_the_shares_is_refused(weight):
    balance = unfair()
    before = balance.state()
    with pytest.raises(ValueError, match="merit of a group must be finite"):
        balance.offered(some(5), np.array([weight]))
    with pytest.raises(ValueError, match="numbered from 0"):
        balance.exposed(some(-1))
    assert balance.state() == before


# Reports


def test_a_report_names_the_groups_with_the_most_merit_first():
    balance = Balance(PLAIN)
    balance.offered(some(4, 2), np.array([1.0, 3.0]))
    balance.exposed(some(2, 2, 8))
    assert [(share.group, share.merit, share.ratio) for share in balance.report()] == [
        (2, 0.75, pytest.approx(2 / 3 / 0.75)),
        (4, 0.25, 0),
        (0, 0, inf),
        (8, 0, inf),
    ]


def test_a_balance_that_compared_nothing_does_not_know_its_cost():
    assert unfair().cost() is None


# What windows are worth both ways


def test_the_cost_of_a_window_is_what_the_corrections_pushed_out_of_sight():
    keys = np.array([[50, 40, 30, EMPTY]], np.int32)
    ticks = np.array([[0, 15, 0, 0]])
    values = np.array([[0.4, 0.1, 0.3, np.nan]])
    visible = np.array([1.0, 0.5, 0.0, 0.0])
    assert both_ways(keys, ticks, values, visible) == pytest.approx((0.45, 0.55))


@given(st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_uncorrected_windows_are_worth_the_same_both_ways(seed):
    rng = np.random.default_rng(seed)
    keys = -np.sort(-rng.integers(-9, 9, (20, 16)).astype(np.int32), axis=1)
    keys[:, 12:] = EMPTY
    values = rng.random((20, 16))
    one, other = both_ways(keys, np.zeros((20, 16), np.int64), values, ATTENTION)
    assert one == other
