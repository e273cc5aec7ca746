from __future__ import annotations

import numpy as np
import pytest

from feedgen.evaluate.offpolicy import Model, estimate, model_of, top_half

ACTIONS = 4


class Bandit:
    """Devices with a taste, of which a softmax policy logs what it showed; the truth is known."""

    def __init__(self, seed, devices=150, each=12):
        rng = np.random.default_rng(seed)
        self.device = np.repeat(np.arange(devices), each).astype(np.int32)
        taste = rng.normal(size=(devices, ACTIONS))[self.device]
        self.rates = 1 / (1 + np.exp(-(taste + np.linspace(-1, 1, ACTIONS))))
        logging = np.exp(0.8 * rng.normal(size=self.rates.shape))
        self.logging = logging / logging.sum(axis=1, keepdims=True)
        target = np.exp(1.5 * np.linspace(-1, 1, ACTIONS)) * np.ones_like(self.rates)
        self.target = target / target.sum(axis=1, keepdims=True)
        rows = np.arange(len(self.device))
        action = (rng.random(len(rows))[:, None] > self.logging.cumsum(axis=1)).sum(axis=1)
        self.at = rows, np.minimum(action, ACTIONS - 1)
        self.reward = (rng.random(len(rows)) < self.rates[self.at]).astype(float)

    def model(self, q):
        return Model(q[self.at], (self.target * q).sum(axis=1))

    def estimate(self, q, propensity=None):
        propensity = self.logging[self.at] if propensity is None else propensity
        clusters = {"clusters": self.device, "seed": 1}
        return estimate(self.reward, propensity, self.target[self.at], self.model(q), **clusters)


def truth():
    """Return the target's value in the population of devices."""
    rng = np.random.default_rng(99)
    taste = rng.normal(size=(200_000, ACTIONS)) + np.linspace(-1, 1, ACTIONS)
    target = np.exp(1.5 * np.linspace(-1, 1, ACTIONS))
    return float(((1 / (1 + np.exp(-taste))) @ (target / target.sum())).mean())


def test_intervals_hold_the_known_truth_of_a_simulated_bandit():
    expected, found = truth(), {"ips": [], "snips": [], "dr": []}
    for seed in range(20):
        bandit = Bandit(seed)
        each = bandit.estimate(np.full_like(bandit.rates, 0.5))
        assert each.too_few is None
        for name, intervals in found.items():
            intervals.append(getattr(each, name))
    for name, intervals in found.items():
        assert sum(one.low <= expected <= one.high for one in intervals) >= 17, name
        assert np.mean([one.value for one in intervals]) == pytest.approx(expected, abs=0.02), name


def test_the_doubly_robust_estimate_is_right_if_either_the_propensity_or_the_model_is():
    right, wrong = [], []
    for seed in range(10):
        bandit = Bandit(seed)
        skewed = np.clip(bandit.logging[bandit.at] * (1 + bandit.at[1]) / 2, 0.01, 1)
        value = (bandit.target * bandit.rates).sum(axis=1).mean()
        by_model = bandit.estimate(bandit.rates, skewed)
        right.append(by_model.dr.value - value)
        wrong.append(by_model.ips.value - value)
    assert abs(np.mean(right)) < 0.02
    assert abs(np.mean(wrong)) > 0.1


def test_a_good_model_makes_the_doubly_robust_interval_narrower():
    bandit = Bandit(3)
    found = bandit.estimate(bandit.rates)
    assert found.dr.width < 0.8 * found.ips.width
    assert found.snips.width < found.ips.width


def test_the_logging_policy_itself_is_worth_what_it_earned():
    bandit = Bandit(0)
    propensity = bandit.logging[bandit.at]
    found = estimate(bandit.reward, propensity, propensity, clusters=bandit.device)
    assert found.ips.value == found.snips.value == pytest.approx(bandit.reward.mean())
    assert found.ess == pytest.approx(len(bandit.reward))
    assert found.dr is None


def some(count, *, devices=50, weight=1.0):
    rng = np.random.default_rng(0)
    reward = (rng.random(count) < 0.5).astype(float)
    target = np.full(count, 0.5 * weight)
    return reward, np.full(count, 0.5), target, np.arange(count, dtype=np.int32) % devices


def test_too_few_effective_events_tell_nothing():
    reward, propensity, target, clusters = some(5000)
    target[80:] = 0  # the target would show almost nothing of what was shown
    found = estimate(reward, propensity, target, clusters=clusters)
    assert found.ess == pytest.approx(80)
    assert found.too_few == "they count as 80, and it takes 100"


def test_a_handful_of_devices_tells_nothing():
    reward, propensity, target, clusters = some(5000, devices=9)
    assert "of 9 devices" in estimate(reward, propensity, target, clusters=clusters).too_few


def test_an_interval_wider_than_what_there_is_to_decide_tells_nothing():
    reward, propensity, target, clusters = some(400)
    assert estimate(reward, propensity, target, clusters=clusters).too_few is None
    found = estimate(reward, propensity, target, clusters=clusters, decisive=0.05)
    assert "0.05 is all there is to decide" in found.too_few


def test_no_events_tell_nothing():
    found = estimate(*some(0)[:3])
    assert (found.ess, found.events) == (0, 0)
    assert found.too_few


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"propensity": np.array([0.0, 1.0])}, "propensities"),
        ({"propensity": np.array([0.5, np.nan])}, "propensities"),
        ({"target_probability": np.array([-0.1, 1.0])}, "target probabilities"),
        ({"reward": np.zeros(3)}, "as long as each other"),
    ],
)
def test_impossible_input_is_refused(change, said):
    sound = dict.fromkeys(("reward", "propensity", "target_probability"), np.ones(2))
    with pytest.raises(ValueError, match=said):
        estimate(**{**sound, **change})


def test_of_each_list_the_better_half_is_shown_and_ties_share_alike():
    scores = np.array([0.9, 0.1, 0.5, 0.7, 0.7, 0.7, 0.2, 0.4])
    lists = np.array([0, 0, 0, 1, 1, 1, 2, 2], np.int32)
    share = top_half(scores, lists, np.ones(8))
    assert (share * 0.5).tolist() == pytest.approx([1, 0, 0.5, 0.5, 0.5, 0.5, 0, 1])


def test_half_of_a_list_is_half_of_its_candidates_of_which_a_rare_event_stands_for_many():
    share = top_half(np.array([0.9, 0.5, 0.1]), np.zeros(3, np.int32), np.array([1.0, 0.25, 1.0]))
    assert (share / share[0]).tolist() == pytest.approx([1, 0.5, 0])  # 1 + 4 + 1 candidates


def test_a_log_that_favoured_some_items_tells_what_the_better_half_of_all_would_have_earned():
    rng = np.random.default_rng(5)
    lists = np.repeat(np.arange(3000), 20).astype(np.int32)
    score = rng.random(len(lists))
    opened = (rng.random(len(lists)) < score).astype(float)
    propensity = np.where(score > 0.6, 0.2, 0.8)  # the log mostly showed the worse ones
    truth = float(opened @ top_half(score, lists, np.ones_like(score))) / len(score)
    shown = rng.random(len(lists)) < propensity
    y, p, s = opened[shown], propensity[shown], score[shown]
    target = top_half(s, lists[shown], p)
    found = estimate(y, p, target, model_of(s, p, target), clusters=lists[shown])
    assert y.mean() < 0.5 < truth
    for each in (found.ips, found.snips, found.dr):
        assert each.value == pytest.approx(truth, abs=0.03)
