from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as test_settings
from hypothesis import strategies as st

from feedgen.ranking.labels import NO_REF, Labelled, Labels, Settings

T = 1_800_000_000.0
WINDOW = 640.0
SLICE = 10.0
HORIZON = 4 * WINDOW
SETTINGS = Settings(window=WINDOW, horizon=HORIZON, per_hour=1e6, burst=10**6, max_share=1.0)
END = T + WINDOW + SLICE
"""When the outcome of what was shown at T has been told."""


@pytest.fixture
def labels() -> Labels:
    return Labels(SETTINGS)


def rows(labelled: Labelled) -> list[SimpleNamespace]:
    columns = {name: getattr(labelled, name).tolist() for name in labelled.__slots__}
    columns.pop("released")
    return [
        SimpleNamespace(**dict(zip(columns, row, strict=True)))
        for row in zip(*columns.values(), strict=True)
    ]


def only(labelled: Labelled) -> SimpleNamespace:
    (row,) = rows(labelled)
    return row


# ---- One impression


def test_what_is_shown_and_not_opened_is_negative_once_its_window_is_over(labels):
    assert labels.shown(7, 1, 3, T, ref=5)
    assert len(labels.close(T + WINDOW - 1)) == 0
    outcome = only(labels.close(END))
    assert (outcome.device, outcome.n, outcome.ref, outcome.rank) == (7, 1, 5, 3)
    assert (outcome.shown_at, outcome.opened, outcome.dismissed) == (T, False, False)
    assert (outcome.dwell, outcome.weight, outcome.correction) == (-1.0, 1.0, False)
    assert len(labels.close(END + WINDOW)) == 0


def test_what_is_opened_at_the_very_end_of_its_window_is_positive(labels):
    labels.shown(7, 1, 0, T)
    labels.opened(7, 1, T + WINDOW)
    assert only(labels.close(END)).opened


@pytest.mark.parametrize("kind", ["opened", "dismissed"])
@pytest.mark.parametrize("order", [(5, WINDOW + 5), (WINDOW + 5, 5)])
def test_of_several_reports_the_earliest_counts_whichever_came_first(labels, kind, order):
    labels.shown(7, 1, 0, T)
    for seconds in order:
        getattr(labels, kind)(7, 1, T + seconds)
    assert getattr(only(labels.close(END)), kind)


def test_an_opening_after_the_window_does_not_count_and_is_counted(labels):
    labels.shown(7, 1, 0, T)
    labels.opened(7, 1, T + WINDOW + 1)
    assert not only(labels.close(END)).opened
    assert labels.dropped["late"] == 1


def test_an_opening_after_the_window_counts_where_the_settings_say_so():
    labels = Labels(replace(SETTINGS, late_opens=True))
    labels.shown(7, 1, 0, T)
    assert not only(labels.close(END)).opened
    labels.opened(7, 1, T + 2 * WINDOW)
    outcome = only(labels.close(T + 2 * WINDOW))
    assert (outcome.opened, outcome.correction) == (True, True)
    assert not labels.dropped["late"]


def test_an_item_opened_and_then_dismissed_is_both(labels):
    labels.shown(7, 1, 0, T)
    labels.opened(7, 1, T + 1)
    labels.dismissed(7, 1, T + 2)
    outcome = only(labels.close(END))
    assert (outcome.opened, outcome.dismissed) == (True, True)


def test_the_longest_dwell_counts_up_to_a_bound(labels):
    for seconds in (4.0, 9.0, 2.0):
        labels.dwell(7, 1, seconds, T)
    labels.dwell(7, 2, 1e9, T)
    labels.dwell(7, 3, -5.0, T)
    dwell = {outcome.n: outcome.dwell for outcome in rows(labels.close(END))}
    assert dwell == {1: 9.0, 2: SETTINGS.longest_dwell, 3: 0.0}


@pytest.mark.parametrize("kind", ["opened", "dismissed"])
def test_what_was_never_reported_as_shown_counts_as_shown_then_at_an_unknown_rank(labels, kind):
    assert getattr(labels, kind)(7, 1, T, ref=5)
    outcome = only(labels.close(END))
    assert (outcome.rank, outcome.shown_at, outcome.ref) == (-1, T, 5)
    assert getattr(outcome, kind)


def test_a_showing_heard_of_after_the_opening_gives_the_rank_and_the_beginning(labels):
    labels.opened(7, 1, T + 30)
    assert labels.shown(7, 1, 4, T, ref=5)
    outcome = only(labels.close(T + 30 + WINDOW + SLICE))
    assert (outcome.rank, outcome.shown_at, outcome.opened, outcome.ref) == (4, T, True, 5)


def test_of_several_ranks_the_best_counts_whichever_came_first(labels):
    for rank in (6, 2, -1, 9):
        labels.shown(7, 1, rank, T)
    labels.shown(7, 2, 1000, T)
    assert {outcome.n: outcome.rank for outcome in rows(labels.close(END))} == {1: 2, 2: 127}


def test_what_was_never_shown_teaches_nothing(labels):
    assert len(labels.close(T + 100 * WINDOW)) == 0
    assert not labels.dropped


def test_an_event_beyond_the_horizon_is_dropped_and_counted(labels):
    labels.close(T)
    assert not labels.shown(7, 1, 0, T - HORIZON - 1, ref=5)
    assert not labels.opened(7, 2, T - HORIZON - 1, ref=5)
    assert not labels.dismissed(7, 3, float("nan"), ref=5)
    assert not labels.dwell(7, 4, 9.0, T - HORIZON - 1, ref=5)
    assert (labels.pending, labels.dropped["too_old"]) == (0, 4)


def test_devices_and_items_are_told_apart_whatever_their_tokens(labels):
    tokens = (0, 1, 2**63, 2**64 - 1)
    for device in tokens:
        for n in (0, 1, 2**32 - 1):
            labels.shown(device, n, 0, T)
    labels.opened(2**64 - 1, 1, T)
    outcomes = rows(labels.close(END))
    assert len(outcomes) == 12
    assert [(each.device, each.n) for each in outcomes if each.opened] == [(2**64 - 1, 1)]


def test_the_horizon_moves_with_the_latest_that_happened(labels):
    labels.shown(7, 1, 0, T)
    labels.shown(7, 2, 0, T - HORIZON - 1)
    assert (labels.pending, labels.dropped["too_old"]) == (1, 1)


def test_feedback_of_a_device_that_slept_is_heard_whole_before_it_is_told(labels):
    now = T + 2 * WINDOW
    labels.close(now)
    labels.shown(7, 1, 3, T)
    assert len(labels.close(now)) == 0
    labels.opened(7, 1, T + 9)
    outcome = only(labels.close(now + SLICE))
    assert (outcome.opened, outcome.correction) == (True, False)


# ---- Corrections


def test_an_opening_that_is_heard_of_late_takes_the_negative_back(labels):
    labels.shown(7, 1, 3, T, ref=5)
    assert not only(labels.close(END)).opened
    labels.opened(7, 1, T + 20)
    outcome = only(labels.close(END + 1))
    assert (outcome.correction, outcome.opened, outcome.was_opened) == (True, True, False)
    assert (outcome.ref, outcome.rank, outcome.shown_at) == (5, 3, T)
    assert len(labels.close(END + 2)) == 0


def test_a_dismissal_and_a_dwell_heard_of_late_make_one_correction(labels):
    labels.shown(7, 1, 3, T)
    labels.opened(7, 1, T)
    labels.dwell(7, 1, 3.0, T)
    labels.close(END)
    labels.dismissed(7, 1, T + 1)
    labels.dwell(7, 1, 8.0, T + 9)
    outcome = only(labels.close(END + 1))
    assert (outcome.dismissed, outcome.was_dismissed) == (True, False)
    assert (outcome.opened, outcome.was_opened) == (True, True)
    assert (outcome.dwell, outcome.was_dwell) == (8.0, 3.0)


def test_a_showing_heard_of_late_can_take_the_positive_back(labels):
    labels.opened(7, 1, T + WINDOW + 100)
    assert only(labels.close(END + WINDOW + 100)).opened
    labels.shown(7, 1, 0, T)
    outcome = only(labels.close(END + WINDOW + 100))
    assert (outcome.opened, outcome.was_opened) == (False, True)


def test_a_label_that_changed_and_changed_back_is_not_corrected(labels):
    labels.shown(7, 1, 0, T + 300)
    labels.close(END + 300)
    labels.opened(7, 1, T + 800)
    labels.shown(7, 1, 0, T)
    assert len(labels.close(END + 300)) == 0


def test_rank_and_ref_stay_as_they_were_learned(labels):
    labels.opened(7, 1, T)
    labels.close(END)
    assert not labels.shown(7, 1, 2, T, ref=5)
    labels.dismissed(7, 1, T)
    outcome = only(labels.close(END))
    assert (outcome.rank, outcome.ref) == (-1, NO_REF)


def test_repetition_of_what_was_told_corrects_nothing(labels):
    for _ in range(2):
        labels.shown(7, 1, 3, T)
        labels.opened(7, 1, T + 5)
        labels.dwell(7, 1, 2.5, T + 5)
        labels.close(END)
    assert len(labels.close(END)) == 0
    assert labels.told == 1


# ---- Refs


def test_a_ref_is_taken_once_and_comes_back_when_nothing_can_name_it_any_more(labels):
    assert labels.wants_ref(7, 1)
    assert not labels.shown(7, 1, 0, T)
    assert labels.wants_ref(7, 1)
    assert labels.opened(7, 1, T, ref=5)
    assert not labels.wants_ref(7, 1)
    assert not labels.shown(7, 1, 0, T, ref=6)
    assert labels.refs().tolist() == [5]
    assert labels.close(END).released.tolist() == []
    assert not labels.wants_ref(7, 1)
    assert labels.close(END + HORIZON).released.tolist() == []
    assert labels.close(END + HORIZON + 1).released.tolist() == [5]
    assert labels.refs().tolist() == []
    assert (labels.told, labels.dropped["forgotten"]) == (0, 0)


def test_without_memory_of_what_was_told_refs_come_back_with_their_outcome():
    labels = Labels(replace(SETTINGS, max_told=0))
    labels.shown(7, 1, 0, T, ref=5)
    labels.shown(7, 2, 0, T)
    labelled = labels.close(END)
    assert sorted(labelled.ref.tolist()) == [NO_REF, 5]
    assert labelled.released.tolist() == [5]
    assert labels.dropped["forgotten"] == 2


# ---- Bounds


def test_more_than_may_wait_closes_the_oldest_early():
    labels = Labels(replace(SETTINGS, max_pending=3))
    for n in range(5):
        labels.shown(7, n, 0, T + n * SLICE, ref=n)
    assert labels.dropped["closed_early"] == 2
    assert labels.close(T).n.tolist() == [0, 1]
    assert labels.pending == 3


def test_what_was_closed_early_is_corrected_by_what_follows():
    labels = Labels(replace(SETTINGS, max_pending=1))
    labels.shown(7, 1, 0, T)
    labels.shown(7, 2, 0, T)
    assert not only(labels.close(T)).opened
    labels.opened(7, 1, T + 1)
    assert only(labels.close(T + 1)).correction


def test_as_long_as_nobody_takes_outcomes_new_impressions_are_refused():
    labels = Labels(replace(SETTINGS, max_pending=3))
    taken = [labels.shown(7, n, 0, T, ref=n) for n in range(10)]
    assert taken == [True] * 6 + [False] * 4
    assert (labels.pending, labels.dropped["unread"]) == (6, 4)
    assert len(labels.close(T)) == 3
    assert labels.shown(7, 11, 0, T, ref=11)


def test_more_than_may_be_remembered_forgets_those_told_first():
    labels = Labels(replace(SETTINGS, max_told=2))
    for n in range(5):
        labels.shown(7, n, 0, T + n * SLICE, ref=n)
    labelled = labels.close(END + WINDOW)
    assert labelled.released.tolist() == [0, 1, 2]
    assert (labels.told, labels.dropped["forgotten"]) == (2, 3)


def test_a_call_may_be_asked_for_no_more_than_some_outcomes(labels):
    for n in range(5):
        labels.shown(7, n, 0, T)
    counts = [len(labels.close(END, most=2)) for _ in range(4)]
    assert counts == [2, 2, 1, 0]


def test_an_impression_takes_at_most_300_bytes():
    labels = Labels(SETTINGS)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for n in range(20_000):
            labels.shown(2**63 + n % 100, n // 100, n % 8, T + n / 100, ref=n)
        labels.close(END + 100)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= 300 * 20_000


# ---- Nobody may poison


def test_outcomes_beyond_the_rate_of_a_device_have_no_weight_and_are_counted():
    labels = Labels(replace(SETTINGS, per_hour=60.0, burst=3))
    for n in range(5):
        labels.shown(7, n, 0, T)
    labels.shown(8, 1, 0, T)
    weights = {7: [], 8: []}
    for outcome in rows(labels.close(END)):
        weights[outcome.device].append(outcome.weight)
    assert sorted(weights[7]) == [0, 0, 1, 1, 1]
    assert weights[8] == [1]
    assert labels.dropped["limited"] == 2


def test_the_correction_of_an_outcome_without_weight_has_none_either():
    labels = Labels(replace(SETTINGS, burst=1))
    labels.shown(7, 1, 0, T)
    labels.shown(7, 2, 0, T)
    weight = {outcome.n: outcome.weight for outcome in rows(labels.close(END))}
    n = next(n for n in weight if not weight[n])
    labels.opened(7, n, T)
    outcome = only(labels.close(END))
    assert (outcome.correction, outcome.weight) == (True, 0.0)


def test_corrections_count_against_the_rate_and_are_withheld_beyond_it():
    labels = Labels(replace(SETTINGS, per_hour=1.0, burst=3))
    labels.shown(7, 1, 0, T)
    labels.close(END)
    told = 0
    for seconds in range(10):
        labels.dwell(7, 1, float(seconds), END)
        told += len(labels.close(END))
    assert (told, labels.dropped["correction_limited"]) == (2, 8)


def test_a_withheld_correction_is_told_when_more_is_heard_and_the_rate_allows_it():
    labels = Labels(replace(SETTINGS, per_hour=1.0, burst=1, horizon=1e5))
    labels.shown(7, 1, 0, T)
    labels.close(END)
    labels.opened(7, 1, T)
    assert len(labels.close(END)) == 0
    labels.opened(7, 1, T)
    outcome = only(labels.close(END + 3600))
    assert (outcome.opened, outcome.was_opened) == (True, False)


def test_a_device_has_no_more_than_its_share_of_what_is_told_together():
    labels = Labels(replace(SETTINGS, max_share=0.25, free_share=2.0))
    for n in range(50):
        labels.shown(7, n, 0, T)
    for device in range(8, 38):
        labels.shown(device, 1, 0, T)
    labelled = labels.close(END)
    heavy = labelled.weight[labelled.device == 7]
    assert heavy.sum() == pytest.approx(0.25 * labelled.weight.sum(), rel=1e-4)
    assert (labelled.weight[labelled.device != 7] == 1).all()


def test_a_correction_has_the_weight_that_its_outcome_was_learned_with():
    labels = Labels(replace(SETTINGS, max_share=0.1, free_share=1.0))
    for n in range(4):
        labels.shown(7, n, 0, T)
    assert labels.close(END).weight.tolist() == [0.25] * 4
    labels.opened(7, 2, T)
    assert only(labels.close(END)).weight == 0.25


def test_one_session_in_a_small_fleet_counts_in_full():
    labels = Labels(Settings())
    for n in range(16):
        labels.shown(7, n, n, T)
    assert labels.close(T + 700).weight.tolist() == [1.0] * 16


# ---- Restarts


def test_a_restart_goes_on_where_the_state_was_taken():
    labels = Labels(replace(SETTINGS, per_hour=60.0, burst=3))
    labels.shown(7, 1, 3, T, ref=5)
    labels.close(END)
    labels.opened(7, 1, T + 1)  # heard, not told yet
    labels.shown(7, 2, 1, END, ref=6)
    again = Labels.restored(replace(SETTINGS, per_hour=60.0, burst=3), labels.state())
    assert again.state() == labels.state()
    assert (again.pending, again.told, again.refs().tolist()) == (1, 1, [6, 5])
    assert only(again.close(END)).correction
    assert not again.shown(7, 2, 1, END, ref=9)
    assert only(again.close(END + WINDOW + SLICE)).ref == 6


def test_after_a_restart_an_impression_is_told_when_it_would_have_been(labels):
    labels.opened(7, 1, T + WINDOW)
    labels.shown(7, 1, 0, T)  # begun earlier, it still waits until its first window is over
    again = Labels.restored(SETTINGS, labels.state())
    for each in (labels, again):
        assert len(each.close(END)) == 0
        assert only(each.close(END + WINDOW)).opened


def test_after_a_restart_with_a_shorter_window_labels_are_what_the_new_one_says(labels):
    labels.shown(7, 1, 0, T)
    labels.opened(7, 1, T + WINDOW / 2 + 1)
    again = Labels.restored(replace(SETTINGS, window=WINDOW / 2), labels.state())
    assert not only(again.close(END)).opened


def test_a_restart_does_not_change_who_is_closed_early_and_what_was_stays_so():
    settings = replace(SETTINGS, max_pending=3)
    labels = Labels(settings)
    for n in range(4):
        labels.shown(7, n, 0, T)
    again = Labels.restored(settings, labels.state())
    again.shown(7, 4, 0, T)
    assert again.close(T, most=1).n.tolist() == [0]
    assert again.close(T).n.tolist() == [1]
    assert again.close(END).n.tolist() == [2, 3, 4]


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
@pytest.mark.parametrize("restarts", [False, True])
def test_which_corrections_the_rate_allows_depends_neither_on_order_nor_on_restarts(
    order, restarts
):
    settings = replace(SETTINGS, per_hour=1.0, burst=5)
    labels = Labels(settings)
    for n in (3, 1, 2):
        labels.shown(7, n, 0, T)
    labels.close(END)
    for n in order:
        labels.opened(7, n, T)
    if restarts:
        labels = Labels.restored(settings, labels.state())
    assert labels.close(END).n.tolist() == [1, 2]
    assert labels.dropped["correction_limited"] == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("now"),
        lambda state: state.pop("limits"),
        lambda state: state["impressions"].pop("rank"),
        lambda state: state["impressions"].update(rank=b""),
        lambda state: state["impressions"].update(device=b"123"),
        lambda state: state["impressions"].update(n=bytes(16)),
        lambda state: state["impressions"].update(
            flags=bytes(2), told_at=np.full(2, np.inf).tobytes()
        ),
        lambda state: state["limits"].update(device=b""),
        lambda state: state.update(impressions=3),
    ],
)
def test_a_damaged_state_is_refused_in_words(labels, damage):
    labels.shown(7, 1, 3, T)
    labels.shown(7, 2, 3, T)
    labels.close(END)
    state = labels.state()
    damage(state)
    with pytest.raises(ValueError, match="damaged, begin anew"):
        Labels.restored(SETTINGS, state)


def test_a_state_of_another_version_is_refused(labels):
    with pytest.raises(ValueError, match="version 1, not 2"):
        Labels.restored(SETTINGS, labels.state() | {"version": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"window": 0},
        {"per_hour": -1},
        {"burst": 0},
        {"max_told": -1},
        {"max_share": 0},
        {"max_share": 1.1},
        {"free_share": 0.5},
        {"horizon": float("nan")},
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Settings(**change)


# ---- Any order, repetition and delay

happened = st.tuples(
    st.integers(0, 2),  # device
    st.integers(0, 2),  # item
    st.sampled_from(("shown", "opened", "dismissed", "dwell")),
    st.integers(0, int(2 * WINDOW)),  # when
    st.integers(0, 9),  # rank or seconds
)
arrival = st.tuples(happened, st.lists(st.floats(0, 1), min_size=1, max_size=3))
histories = st.lists(arrival, max_size=25)
"""What happened, and for each how much of the time that it may take each of its copies takes."""


def tell(labels: Labels, event: tuple, ref: int = NO_REF) -> bool:
    device, n, kind, when, value = event
    match kind:
        case "shown":
            return labels.shown(device, n, value, T + when, ref)
        case "dwell":
            return labels.dwell(device, n, float(value), T + when, ref)
        case _:
            return getattr(labels, kind)(device, n, T + when, ref)


def begins(history: list) -> dict[tuple[int, int], int]:
    """Return when each impression began."""
    found: dict[tuple[int, int], int] = {}
    for (device, n, _, when, _), _ in history:
        found[device, n] = min(when, found.get((device, n), when))
    return found


def deliveries(history: list) -> list[tuple[float, tuple]]:
    """Return when each copy of each event is heard, in that order."""
    begun = begins(history)
    heard = []
    for event, delays in history:
        when = event[3]
        last = min(when + HORIZON, begun[event[:2]] + WINDOW + HORIZON)
        heard += [(when + delay * (last - when), event) for delay in delays]
    return sorted(heard, key=lambda each: each[0])


def truth(history: list) -> dict[tuple[int, int], tuple[bool, bool, float]]:
    """Return the label of each impression by its definition."""
    labels = {}
    for pair, begun in begins(history).items():
        events = [event for event, _ in history if event[:2] == pair]
        in_time = {event[2] for event in events if event[3] <= begun + WINDOW}
        dwell = max((float(event[4]) for event in events if event[2] == "dwell"), default=-1.0)
        labels[pair] = ("opened" in in_time, "dismissed" in in_time, dwell)
    return labels


class Learner:
    """Keeps the last label of each impression, and checks that each correction fits the one before."""

    def __init__(self) -> None:
        self.labels: dict[tuple[int, int], tuple[bool, bool, float]] = {}
        self.refs: dict[tuple[int, int], int] = {}
        self.released: Counter[int] = Counter()

    def learn(self, labelled: Labelled) -> None:
        for each in rows(labelled):
            pair = each.device, each.n
            assert each.correction == (pair in self.labels)
            before = each.was_opened, each.was_dismissed, each.was_dwell
            assert before == self.labels.get(pair, (False, False, -1.0))
            assert each.ref not in self.released
            assert self.refs.setdefault(pair, each.ref) == each.ref
            self.labels[pair] = each.opened, each.dismissed, each.dwell
            assert not each.correction or self.labels[pair] != before
        self.released.update(labelled.released.tolist())


@test_settings(max_examples=150, deadline=None)
@given(histories, st.sampled_from((1.0, 300.0, 5000.0)))
def test_order_repetition_and_delay_do_not_change_what_is_learned_in_the_end(history, every):
    labels, learner = Labels(SETTINGS), Learner()
    closed = 0.0
    for at, event in deliveries(history):
        if at - closed >= every:
            closed = at
            learner.learn(labels.close(T + at))
        tell(labels, event)
    learner.learn(labels.close(T + 10 * HORIZON))
    assert learner.labels == truth(history)
    assert not set(labels.dropped) - {"late"}


small = replace(SETTINGS, max_pending=3, max_told=2, per_hour=60.0, burst=4, horizon=WINDOW)
step = st.tuples(happened, st.sampled_from((0.0, 5.0, 700.0)), st.sampled_from((None, 0, 1, 9)))
steps = st.lists(step, max_size=60)


@test_settings(max_examples=150, deadline=None)
@given(steps)
def test_every_ref_comes_back_exactly_once_and_memory_stays_within_its_bounds(steps):
    labels, learner, taken, now = Labels(small), Learner(), set(), 0.0
    for ref, (event, step, most) in enumerate(steps):
        if tell(labels, event, ref):
            taken.add(ref)
        now += step
        labelled = labels.close(T + now, most) if step else None
        assert labels.pending <= 2 * small.max_pending
        if labelled is not None:
            learner.released.update(labelled.released.tolist())
            assert labels.told <= small.max_told
            assert most is None or len(labelled) <= most + small.max_told
        assert sorted(labels.refs().tolist()) == sorted(taken - set(learner.released))
    for _ in range(3):
        now += 10 * HORIZON
        learner.released.update(labels.close(T + now).released.tolist())
    assert learner.released == Counter(taken)
    assert labels.pending == labels.told == 0


@test_settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(step, st.booleans()), min_size=20, max_size=60))
def test_restarts_at_any_moments_change_nothing(steps):
    one, other, dropped, now = Labels(small), Labels(small), Counter(), 0.0
    for number, ((event, step, most), restarts) in enumerate(steps):
        now += step
        if restarts:
            dropped += other.dropped
            other = Labels.restored(small, other.state())
            assert other.state() == one.state()
        assert tell(one, event, number) == tell(other, event, number)
        if step:
            kept, again = one.close(T + now, most), other.close(T + now, most)
            assert rows(kept) == rows(again)
            assert kept.released.tolist() == again.released.tolist()
    assert one.dropped == dropped + other.dropped
