"""What a trainer learns of what nodes tell it: all of it, or a sample that stands for all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from feedgen.engine import SHELVES
from feedgen.ranking.feedback_batches import Batching, decode
from feedgen.ranking.labelled import Settings as LabelSettings
from feedgen.ranking.leading import STALE, Leading
from feedgen.ranking.ranking import Ranking
from feedgen.ranking.sampling import Sample
from feedgen.ranking.tokens import device_token, places
from tests.feedgen.model_cases import assert_same
from tests.feedgen.ranking_cases import SETTINGS, START, WINDOW, record

ITEMS = {n: record(n, START, ("good", "middling", "bad")[n % 3]) for n in range(1, 41)}
RATES = {n: 0.1 + 0.6 * (n % 7) / 6 for n in ITEMS}


class Node:
    """A node without windows: it tells a trainer what its devices do."""

    def __init__(self, leading: Leading, name: str = "a", fields: Any = SETTINGS.fields) -> None:
        self.leading = leading
        self.batching = Batching(name, fields)
        self.now = START

    def hear(self, kind: str, device: str, n: int, value: float = 0, age: float = 0.0) -> None:
        token = device_token(device)
        self.batching.heard(
            kind, n, value, self.now - age, self.now, token, lambda: attrs(device), held_out=False
        )
        if len(self.batching) >= 500:
            self.tell()

    def tell(self) -> int:
        return self.leading.hear(decode(self.batching.take()), ITEMS.get, self.now)


def attrs(device: str) -> dict[str, str]:
    return {"class": "tv" if hash(device[-1]) % 2 else "watch", "tz": "Europe/Berlin"}


def turn(ranking: Ranking, now: float) -> int:
    """Let a ranking take turns until nothing is left to learn."""
    learned = 0
    while True:
        found = ranking.turn(now)
        learned += found.learned
        if not found.more:
            return learned


def stream(devices: int, seed: int = 0) -> list[tuple[str, str, int, int]]:
    """Every device sees every item, and opens some by its rate."""
    random = np.random.default_rng(seed)
    events = []
    for number in range(devices):
        for place, n in enumerate(ITEMS):
            events.append(("shown", f"d{seed}-{number}", n, place % 10))
            if random.random() < RATES[n]:
                events.append(("opened", f"d{seed}-{number}", n, 0))
            elif random.random() < 0.1:
                events.append(("dismissed", f"d{seed}-{number}", n, 0))
    return events


def learned_from(events: Any, halvings: int = 0, settings: Any = SETTINGS) -> Leading:
    leading = Leading(settings)
    leading.sample = Sample(0.0)
    leading.sample.change(halvings, START - 1)
    node = Node(leading)
    node.now = START
    leading.sample._past.clear()
    for event in events:
        node.hear(*event)
    node.tell()
    turn(leading, START)
    turn(leading, START + 2 * WINDOW)
    return leading


def test_what_nodes_tell_teaches_what_it_teaches_a_server_that_is_alone() -> None:
    alone = Ranking(SETTINGS, shelves=len(SHELVES))
    names = [f"d0-{number}" for number in range(12)]
    for row, name in enumerate(names):
        alone.seat(0, row, name, attrs(name))
    leading, events = Leading(SETTINGS), stream(12)
    node = Node(leading)
    for kind, device, n, value in events:
        alone.heard(kind, ITEMS[n], n, value, START, START, 0, names.index(device))
        node.hear(kind, device, n, value)
    node.tell()
    for ranking in (alone, leading):
        turn(ranking, START)
        assert turn(ranking, START + 2 * WINDOW) == 12 * len(ITEMS)
    one, other = alone.state(), leading.state()
    for part in ("models", "popularity", "monitor", "ladder", "shifts", "lift"):
        assert_same(one[part], other[part])


def test_a_node_may_number_fields_otherwise_or_know_others() -> None:
    one, other = Leading(SETTINGS), Leading(SETTINGS)
    for leading, fields in ((one, SETTINGS.fields), (other, (*reversed(SETTINGS.fields), "size"))):
        node = Node(leading, fields=fields)
        for event in stream(4):
            node.hear(*event)
        node.tell()
        turn(leading, START)
        turn(leading, START + 2 * WINDOW)
    assert_same(one.state()["models"], other.state()["models"])


def test_clocks_that_are_ahead_do_no_harm() -> None:
    leading = Leading(SETTINGS)
    node = Node(leading)
    node.hear("shown", "d", 1, age=-10_000.0)
    assert node.tell() == 1
    turn(leading, START)
    assert turn(leading, START + 2 * WINDOW) == 1
    node.now = START + 2 * WINDOW
    node.hear("shown", "d", 2)
    assert node.tell() == 1, "and what others say now is not too old"


# ---- A sample


@pytest.mark.parametrize("halvings", [1, 3])
def test_a_sample_counts_what_all_would_have_counted(halvings: int) -> None:
    """Horvitz-Thompson: each sum is right on average, with the variance that the theory says."""
    events = stream(600)
    sampled, whole = learned_from(events, halvings), learned_from(events)
    assert sampled.skipped == pytest.approx(len(events) * (1 - 0.5**halvings), rel=0.1)
    scores = []
    for n in ITEMS:
        for estimated, true in zip(
            sampled.popularity._counts[n], whole.popularity._counts[n], strict=True
        ):
            # Each of `true` ones is there with p and counts 1/p: the variance of the sum.
            scores.append((estimated - true) / np.sqrt(true * (2**halvings - 1)))
    assert np.abs(scores).max() < 4.5
    assert 0.6 < np.mean(np.square(scores)) < 1.6


@pytest.mark.parametrize("halvings", [1, 3])
def test_a_model_that_learned_a_sample_predicts_what_one_of_all_would(halvings: int) -> None:
    p, runs = 0.5**halvings, 5
    differences, allowed = [], []
    for seed in range(runs):
        events = stream(300, seed)
        sampled, whole = learned_from(events, halvings), learned_from(events)
        at = {n: places(np.array([whole.items[n].tokens.item], np.uint64), 12) for n in ITEMS}
        heads = [each._learners.models[0] for each in (sampled, whole)]
        for n in ITEMS:
            shown, opened = (
                [float(getattr(head.counters, name)[at[n]][0]) for head in heads]
                for name in ("shown", "opened")
            )
            rate = opened[1] / shown[1]
            differences.append(opened[0] / shown[0] - rate)
            # Of a rate of m out of M, drawn without the others.
            allowed.append(np.sqrt(rate * (1 - rate) * (1 / p - 1) / shown[1]))
        shares = [head.rate.now for head in heads]
        assert shares[0] == pytest.approx(shares[1], abs=5 * np.sqrt(0.25 * (1 / p - 1) / 12_000))
    scores = np.array(differences) / allowed
    assert np.abs(scores).max() < 4.5
    # No bias: the mean of so many is within what chance makes of it.
    assert abs(scores.mean()) < 4 / np.sqrt(len(scores))


def test_exposure_of_a_sample_counts_for_all() -> None:
    events = stream(600)
    sampled, whole = learned_from(events, 2), learned_from(events)
    for one, other in zip(sampled.publishers.report(), whole.publishers.report(), strict=True):
        assert one.impressions == pytest.approx(other.impressions, rel=0.1)


def test_a_device_teaches_no_more_because_it_is_sampled() -> None:
    settings = replace(
        SETTINGS, labels=LabelSettings(window=WINDOW, per_hour=1e-3, burst=16, max_share=1.0)
    )
    events = [("shown", "d0", n, 0) for n in ITEMS]
    whole, sampled = (learned_from(events, halvings, settings) for halvings in (0, 2))
    for each in (whole, sampled):
        assert sum(counts[0] for counts in each.popularity._counts.values()) == 16


def test_a_change_of_the_sample_judges_as_one_that_never_changed() -> None:
    """What counted more before the change does not outweigh what came after it."""
    events = stream(300)
    leading = Leading(SETTINGS)
    node = Node(leading)
    for at, event in enumerate(events):
        if at == len(events) // 2:
            node.tell()
            leading.sample.change(2, START)
        node.hear(*event)
    node.tell()
    turn(leading, START)
    turn(leading, START + 2 * WINDOW)
    whole = learned_from(events)
    readings = [each.learning.monitor.report()["all"] for each in (leading, whole)]
    assert readings[0].rate == pytest.approx(readings[1].rate, abs=0.03)
    assert readings[0].events < readings[1].events
    counts = [
        np.sum(list(each.popularity._counts.values()), axis=0).tolist() for each in (leading, whole)
    ]
    assert counts[0] == pytest.approx(counts[1], rel=0.08)


# ---- What only nodes know


def test_what_is_eligible_at_nodes_is_merit_together_until_it_is_stale() -> None:
    leading = Leading(SETTINGS)
    for name, worth in (("a", 1.0), ("b", 3.0)):
        node = Node(leading, name)
        node.batching.eligible(np.array([[1, 2]]), np.array([worth]))
        node.tell()
    groups, worth = leading.eligible(START)
    assert groups.tolist() == [[1, 2], [1, 2]]
    assert sorted(worth.tolist()) == [1.0, 3.0]
    again = Node(leading, "a")
    again.now = START + 200
    again.batching.eligible(np.array([[1, 2]]), np.array([7.0]))
    again.tell()
    assert sorted(leading.eligible(START + 200)[1].tolist()) == [3.0, 7.0]
    assert leading.eligible(START + STALE + 1)[1].tolist() == [7.0]
    assert not len(leading.eligible(START + 2 * STALE)[1])


def test_merit_told_by_nodes_moves_the_balance() -> None:
    leading = Leading(SETTINGS)
    node = Node(leading)
    for event in stream(60):
        node.hear(*event)
    shares = np.array([[leading.items.of(ITEMS[n]).publisher, 5] for n in (1, 2)])
    node.batching.eligible(shares, np.array([9.0, 1.0]))
    node.tell()
    turn(leading, START)
    merits = {each.group: each.merit for each in leading.publishers.report()}
    assert merits[int(shares[0, 0])] == pytest.approx(0.9)
    assert merits[int(shares[1, 0])] == pytest.approx(0.1)


def test_what_correction_costs_at_nodes_is_its_cost() -> None:
    leading = Leading(SETTINGS)
    node = Node(leading)
    node.batching.compared(9.0, 10.0)
    node.tell()
    assert leading.publishers.cost() == pytest.approx(0.1)
    assert leading.channels.cost() == pytest.approx(0.1)
