from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.ranking import shadow
from feedgen.ranking.ladder import Ladder, Reason, Rung, Settings

LIVE, SNAPSHOT, POPULARITY, NEWEST = Rung
QUICK = Settings(climb_events=2000, climb_seconds=0.0, shadow=shadow.Settings(seconds=0.0))
"""Counts events alone."""


class World:
    """Events of two kinds, with rates .8 and .2, and a ladder that watches predictions of them.

    A second passes with every event.
    """

    def __init__(self, seed=0, ladder=None):
        self.rng = np.random.default_rng(seed)
        self.ladder = ladder or Ladder(QUICK)
        self.t = 0.0
        self.log = []

    def run(self, n, live, snapshot=None, popularity=None, rate=None, batch=100):
        """Let n events happen; predictions and `rate`, the truth, are functions of the right one."""
        for _ in range(0, n, batch):
            right = self.rng.choice([0.2, 0.8], batch)
            y = self.rng.random(batch) < (rate(right) if rate else right)
            says = {LIVE: live, SNAPSHOT: snapshot or nothing, POPULARITY: popularity or nothing}
            predictions = {rung: say(right) for rung, say in says.items()}
            self.t += batch
            self.log += self.ladder.observe(y, predictions, self.t)
        return self

    @property
    def steps(self):
        return [(event.from_, event.to, event.reason) for event in self.log]


def right(p):
    return p


def wrong(p):
    return 1 - p


def nothing(p):
    """The rate of all events."""
    return np.full(len(p), 0.5)


def half_right(p):
    return 0.5 + (p - 0.5) / 2


def too_high(p):
    return p**0.5


def broken(p):
    return np.full(len(p), np.nan)


@pytest.mark.parametrize("seed", range(5))
def test_a_live_model_that_is_right_keeps_its_place(seed):
    assert World(seed).run(40_000, right, half_right).log == []


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.1])
def test_a_right_model_of_rare_outcomes_keeps_its_place(rate):
    for seed in range(10):
        world = World(seed)
        world.run(10_000, lambda p: p * rate, lambda p: p * rate, rate=lambda p: p * rate)
        assert world.log == []


def test_a_model_worse_than_the_prior_falls_to_the_best_rung_below():
    world = World().run(3000, wrong, half_right, nothing)
    assert world.steps == [(LIVE, SNAPSHOT, Reason.WORSE_THAN_PRIOR)]
    assert world.log[0].t <= 1000
    assert world.log[0].numbers["normalised_entropy_from"] > 1.0
    assert world.log[0].numbers["lead"] > 4.0


def test_a_fall_passes_over_rungs_that_are_no_better():
    assert World().run(3000, wrong, wrong, half_right).steps[0][:2] == (LIVE, POPULARITY)
    assert World().run(3000, wrong, wrong, wrong).steps[0][:2] == (LIVE, NEWEST)


def test_a_model_plainly_worse_than_a_lower_rung_falls():
    world = World().run(6000, half_right, right)
    assert world.steps == [(LIVE, SNAPSHOT, Reason.WORSE_THAN_LOWER)]


def test_a_model_out_of_calibration_for_two_windows_falls():
    patient = Settings(
        shadow=shadow.Settings(seconds=0.0, drift=shadow.drift.Settings(threshold=1e9))
    )
    world = World(ladder=Ladder(patient)).run(2000, too_high, too_high, nothing)
    assert world.steps == [(LIVE, POPULARITY, Reason.MISCALIBRATED)]
    assert world.log[0].t == 1500.0
    assert world.log[0].numbers["calibration_from"] < 0.8
    assert world.log[0].numbers["normalised_entropy_from"] < 1.0


def test_a_drift_that_lasts_makes_the_model_fall():
    world = (
        World()
        .run(10_000, right, right, right)
        .run(6000, right, right, nothing, rate=lambda p: 0.85 * p)
    )
    assert world.steps[0] == (LIVE, POPULARITY, Reason.DRIFT)
    assert world.log[0].t < 14_000


@pytest.mark.parametrize("lost", [broken, lambda p: p + 1.0])
def test_a_model_without_probabilities_falls_at_once(lost):
    world = World().run(1000, right, right).run(100, lost, right)
    assert world.steps == [(LIVE, SNAPSHOT, Reason.UNAVAILABLE)]
    assert world.log[0].t == 1100.0


def test_a_model_that_is_not_asked_falls_at_once_before_any_window():
    ladder = Ladder(QUICK)
    (event,) = ladder.observe(np.ones(5, bool), {POPULARITY: np.full(5, 0.5)}, 1.0)
    assert (event.to, event.reason) == (POPULARITY, Reason.UNAVAILABLE)
    assert np.isfinite(list(event.numbers.values())).all()


def test_no_events_say_nothing_about_any_rung():
    world = World().run(1000, right)
    before = world.ladder.state()
    assert world.ladder.observe(np.empty(0, bool), {}, 5000.0) == []
    assert world.ladder.state() == before


def test_newest_first_is_always_there():
    world = World().run(1000, broken, broken, broken)
    assert world.ladder.serving is NEWEST
    assert World(ladder=Ladder(QUICK, start=NEWEST)).run(5000, wrong, wrong, wrong).log == []


def test_a_better_rung_wins_its_place_back_after_a_shadow_comparison():
    world = World().run(2000, wrong, half_right).run(20_000, right, half_right)
    assert world.steps[1:] == [(SNAPSHOT, LIVE, Reason.WON_SHADOW)]
    assert world.log[1].numbers["lead"] >= 2.0
    # Old windows fade first, then it is without fault for 2 000 events.
    assert 4000 <= world.log[1].t <= 12_000


def test_no_climb_before_the_time_is_up():
    slow = Settings(climb_events=500, climb_seconds=9000.0, shadow=shadow.Settings(seconds=0.0))
    world = World(ladder=Ladder(slow)).run(1000, wrong, half_right).run(30_000, right, half_right)
    fall, climb = world.log
    assert climb.t - fall.t >= 9000.0


def test_a_rung_that_is_no_better_does_not_climb():
    world = World(ladder=Ladder(QUICK, start=SNAPSHOT)).run(20_000, right, right)
    assert world.log == []


def test_a_rung_that_was_missing_for_one_batch_starts_its_wait_anew():
    world = World(ladder=Ladder(QUICK, start=POPULARITY))
    world.run(1900, right, broken, nothing).run(100, broken, broken, nothing)
    world.run(4000, right, broken, nothing)
    assert world.steps == [(POPULARITY, LIVE, Reason.WON_SHADOW)]
    assert world.log[0].t >= 4000.0


def test_every_fall_soon_after_another_doubles_the_wait():
    world, waits = World(), []
    for _ in range(4):
        while world.ladder.serving is LIVE:
            world.run(100, wrong, half_right)
        fell = world.t
        while world.ladder.serving is not LIVE:
            world.run(100, right, half_right)
        waits.append(world.t - fell)
    assert world.ladder.falls == 4
    assert waits[1] >= 4000
    assert waits[2] >= 8000
    assert waits[3] >= 16_000


def test_falls_are_forgiven_after_a_day():
    world = World().run(1000, wrong, half_right).run(10_000, right, half_right)
    world.t += 2 * 86_400.0
    world.run(1000, wrong, half_right)
    assert len(world.log) == 3
    assert world.ladder.falls == 1


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    noise=st.sampled_from([0.0, 0.03, 0.1]),
    start=st.sampled_from(Rung),
)
def test_under_pure_noise_it_hardly_ever_moves(seed, noise, start):
    rng = np.random.default_rng(seed)
    world = World(seed, Ladder(QUICK, start=start))

    def noisy(p):
        return 1 / (1 + np.exp(-np.log(p / (1 - p)) - rng.normal(0.0, noise, len(p))))

    world.run(60_000, noisy, noisy, noisy, batch=500)
    assert len(world.log) <= 4


def test_models_that_know_nothing_do_not_make_it_oscillate():
    for seed in range(6):
        rng = np.random.default_rng(seed)

        def noise(p, rng=rng):
            return 0.5 + rng.normal(0.0, 0.03, len(p))

        world = World(seed).run(60_000, noise, noise, noise, batch=500)
        assert len(world.log) <= 4


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    episodes=st.lists(
        st.tuples(
            st.integers(1, 40),
            *[st.sampled_from([right, wrong, half_right, too_high, broken, nothing])] * 3,
        ),
        max_size=12,
    ),
)
def test_whatever_happens_switches_are_bounded_and_explained(seed, episodes):
    world = World(seed)
    for hundreds, live, snapshot, popularity in episodes:
        world.run(100 * hundreds, live, snapshot, popularity)
    climbs = [event for event in world.log if event.reason is Reason.WON_SHADOW]
    assert all(event.to < event.from_ for event in climbs)
    assert all(event.to > event.from_ for event in world.log if event not in climbs)
    assert len(climbs) <= world.t / QUICK.climb_events
    assert len(world.log) <= 4 * len(climbs) + 3
    for before, after in zip(world.log, world.log[1:], strict=False):
        assert after.from_ == before.to
        if after.reason is Reason.WON_SHADOW:
            assert after.t - before.t >= QUICK.climb_events
    assert all(np.isfinite(list(event.numbers.values())).all() for event in world.log)


def test_events_before_a_fall_within_a_window_do_not_count_for_the_climb_after_it():
    world = World(ladder=Ladder(QUICK, start=POPULARITY)).run(600, wrong, wrong, nothing)
    world.run(100, right, right, broken).run(2500, right, right, broken)
    fall, climb = world.log
    assert fall.reason is Reason.UNAVAILABLE
    assert climb.reason is Reason.WON_SHADOW
    assert climb.t - fall.t >= QUICK.climb_events


def test_a_pinned_rung_serves_until_it_is_released():
    world = World()
    (event,) = world.ladder.pin(POPULARITY, 1.0)
    assert (event.from_, event.to, event.reason) == (LIVE, POPULARITY, Reason.PINNED)
    assert world.run(5000, right, half_right, wrong).log == []
    assert world.ladder.serving is POPULARITY
    (event,) = world.ladder.pin(None, world.t)
    assert (event.to, event.reason) == (LIVE, Reason.UNPINNED)


def test_the_evidence_goes_on_choosing_under_a_pin():
    world = World()
    world.ladder.pin(LIVE, 0.0)
    world.run(3000, wrong, right)
    assert (world.ladder.serving, world.ladder.chosen, world.log) == (LIVE, SNAPSHOT, [])


def test_a_pinned_rung_without_predictions_cannot_serve():
    world = World()
    world.ladder.pin(SNAPSHOT, 0.0)
    world.run(100, right, broken).run(1000, right, right)
    assert world.steps == [(SNAPSHOT, LIVE, Reason.UNAVAILABLE), (LIVE, SNAPSHOT, Reason.PINNED)]


def test_overload_forces_a_floor_even_on_a_pinned_rung():
    ladder = Ladder(QUICK)
    ladder.pin(LIVE, 0.0)
    (event,) = ladder.at_least(POPULARITY, 1.0)
    assert (event.to, event.reason) == (POPULARITY, Reason.OVERLOAD)
    assert ladder.at_least(POPULARITY, 2.0) == []
    (event,) = ladder.at_least(LIVE, 3.0)
    assert (event.to, event.reason) == (LIVE, Reason.RELIEVED)


def test_what_overload_excuses_from_predicting_is_not_held_against_it():
    world = World().run(1300, right, right)
    world.ladder.at_least(POPULARITY, world.t)
    world.run(3300, broken, broken, nothing)
    assert world.ladder.chosen is LIVE
    (event,) = world.ladder.at_least(LIVE, world.t)
    assert event.to is LIVE
    assert world.run(5000, right, right, nothing).log == []


def test_a_snapshot_is_due_when_the_live_model_has_been_good_for_a_while():
    world = World()
    assert not world.ladder.snapshot_due(0.0)
    world.run(1000, right)
    assert not world.ladder.snapshot_due(world.t)
    world.run(1000, right)
    assert world.ladder.snapshot_due(world.t)


def test_snapshots_are_an_hour_apart():
    world = World().run(3000, right)
    world.ladder.copied(LIVE, SNAPSHOT, world.t)
    assert not world.ladder.snapshot_due(world.t + 3599.0)
    assert world.ladder.snapshot_due(world.t + 3600.0)


def test_no_snapshot_of_a_model_that_is_in_doubt():
    assert not World().run(3000, wrong).ladder.snapshot_due(3000.0)
    assert (
        not World(ladder=Ladder(QUICK, start=SNAPSHOT))
        .run(3000, right, right)
        .ladder.snapshot_due(3e3)
    )
    world = World().run(3000, right)
    while world.ladder.numbers(LIVE)["drift_level"] <= 0.5:
        world.run(50, right, rate=lambda p: 0.7 * p, batch=50)
    assert not world.ladder.snapshot_due(world.t)


def test_a_fresh_snapshot_has_the_standing_of_the_live_model():
    world = World().run(3000, right, wrong)
    assert world.ladder.standings[SNAPSHOT].fault is Reason.WORSE_THAN_PRIOR
    world.ladder.copied(LIVE, SNAPSHOT, world.t)
    assert world.ladder.standings[SNAPSHOT].well
    world.run(100, broken, right)
    assert world.ladder.serving is SNAPSHOT


class OnlineModel:
    """Logistic regression by plain gradient steps: two kinds of events, one weight each."""

    def __init__(self, weights=(0.0, 0.0)):
        self.weights = np.array(weights)

    def predict(self, kinds):
        return 1 / (1 + np.exp(-self.weights[kinds]))

    def learn(self, kinds, y):
        np.add.at(self.weights, kinds, 0.003 * (y - self.predict(kinds)))


@pytest.mark.parametrize("seed", range(5))
def test_after_a_drift_the_live_model_learns_in_the_shadow_and_wins_back(seed):
    rng, ladder = np.random.default_rng(seed), Ladder(QUICK)
    live, saved = OnlineModel(), OnlineModel()
    log = []
    for t in range(0, 40_000, 50):
        # At 20 000 what people like is turned round.
        rates = np.array([0.2, 0.8] if t < 20_000 else [0.8, 0.2])
        kinds = rng.integers(0, 2, 50)
        y = rng.random(50) < rates[kinds]
        says = {
            LIVE: live.predict(kinds),
            SNAPSHOT: saved.predict(kinds),
            POPULARITY: np.full(50, 0.5),
        }
        log += ladder.observe(y, says, float(t))
        live.learn(kinds, y)
        if ladder.snapshot_due(float(t)):
            saved = OnlineModel(live.weights)
            ladder.copied(LIVE, SNAPSHOT, float(t))
    fall, climb = log
    assert fall.from_ is climb.to is LIVE
    assert fall.to is climb.from_ is POPULARITY
    assert 20_000 < fall.t < 22_000
    assert climb.reason is Reason.WON_SHADOW
    assert climb.t < 30_000
    assert abs(live.weights - [1.4, -1.4]).max() < 0.7


def test_decisions_do_not_depend_on_batches():
    def fed(batch):
        rng, ladder, log = np.random.default_rng(3), Ladder(QUICK), []
        p = rng.choice([0.2, 0.8], 12_000)
        y = rng.random(12_000) < p
        says = {LIVE: p.copy(), SNAPSHOT: half_right(p), POPULARITY: nothing(p), NEWEST: nothing(p)}
        says[LIVE][3000:5000] = 1 - p[3000:5000]
        for start in range(0, 12_000, batch):
            cut = slice(start, start + batch)
            log += ladder.observe(y[cut], {rung: q[cut] for rung, q in says.items()}, 0.0)
        return [(event.from_, event.to, event.reason) for event in log]

    steps = fed(12_000)
    assert [step[:2] for step in steps] == [(LIVE, SNAPSHOT), (SNAPSHOT, LIVE)]
    assert fed(7) == fed(333) == fed(1000) == steps


def test_it_continues_from_its_state():
    first = World(4).run(2300, wrong, half_right)
    first.ladder.pin(POPULARITY, first.t)
    second = World(4, Ladder(QUICK))
    second.ladder.restore(json.loads(json.dumps(first.ladder.state())))
    second.rng.bit_generator.state, second.t = first.rng.bit_generator.state, first.t
    for world in (first, second):
        world.ladder.pin(None, world.t)
        world.run(9000, right, half_right)
    assert second.log == first.log[1:] != []
    assert second.ladder.state() == first.ladder.state()


def test_a_state_of_another_version_is_refused():
    with pytest.raises(ValueError, match="version 0"):
        Ladder().restore({"version": 0})
