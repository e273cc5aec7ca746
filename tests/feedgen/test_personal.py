"""The engine with a ranking that has its own opinion of each device and item."""

from __future__ import annotations

from dataclasses import replace
from math import log
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.engine import Engine, Seat
from feedgen.items import Item, Record
from feedgen.ranking.decisions import Admissions, How
from feedgen.ranking.diversity import Repeat
from feedgen.ranking.tokens import device_token
from feedgen.rebuild import retrieved
from feedgen.windows import EMPTY
from tests.feedgen.scorings import Tastes
from tests.feedgen.test_engine_properties import (
    LANDMARK,
    RANKING,
    World,
    crowd,
    crowded_operations,
    first_devices,
    items,
    operations,
    thorough,
    times,
    which,
)

STANDARD = NormalDist()
REPEATS = (Repeat(0.5, 0.1), Repeat(0.8, 0.0), Repeat(0.7, 0.3))


class PersonalWorld(World):
    """A world whose ranking changes its mind, too."""

    def __init__(self, tastes: Tastes, repeats: tuple[Repeat, ...] | None = None) -> None:
        super().__init__(tastes, repeats)
        self.tastes = tastes
        self.repeats = repeats

    def feedback(self, which: int, shown: int, opened: int, dismissed: int) -> None:
        """The ranking learned about an item."""
        if self.model.items:
            n = list(self.model.items)[which % len(self.model.items)]
            self.engine.feedback(n, shown=shown, opened=opened, dismissed=dismissed)
            self.tastes.terms[n] = 10_000 * (opened - dismissed)
            self.engine.reterm([n, 12345])

    def mood(self, which: int) -> None:
        """The ranking learned about a device."""
        if self.devices:
            device = self.devices[which % len(self.devices)]
            self.tastes.moods[device.name] = self.tastes.moods.get(device.name, 0) + 1
            self.engine.refresh(device.seat)

    def rung(self, *, silent: bool) -> None:
        """The ranking falls back, or recovers."""
        self.tastes.silent = silent
        self.tastes.terms = {} if silent else {n: 500 * n for n in self.model.items}
        self.engine.refresh_all()

    def check(self) -> None:
        if self.repeats is None:
            super().check()
            return
        for device in self.devices:
            window = self.varied(device.seat)[: device.k]
            assert self.engine.window(device.seat) == window
            slots = self.engine.slots(device.seat.shelf, np.array([device.seat.row]))[0].tolist()
            assert self.shown[device.seat] == slots, "a change that was not told"
            assert [slot >> 16 for slot in slots if slot] == window
        self.check_arrays()

    def varied(self, seat: Seat) -> list[int]:
        """Return what a window holds, in the order that the factors for repetition make."""
        columns = self.engine._state.columns
        windows = self.engine._state.shelves[seat.shelf].windows
        seen: list[tuple[int, int]] = []
        ranked = []
        for place, index in enumerate(windows.ids[seat.row].tolist()):
            if not index:
                break
            record = columns.records[index]
            assert record is not None
            assert self.repeats is not None
            off = 0
            for kind, group in enumerate(self.tastes.groups(record)):
                repeat = self.repeats[kind]
                if group and record.item.priority < 3:
                    above = seen.count((kind, group))
                    factor = (1 - repeat.floor) * repeat.decay**above + repeat.floor
                    off += round(-RANKING.tau * 100 * log(factor))
                seen.append((kind, group))
            ranked.append((off - int(windows.keys[seat.row, place]), place, record.n))
        return [n for _, _, n in sorted(ranked)]


tagged = items.flatmap(
    lambda item: st.sampled_from(((), ("red",), ("blue",), ("red", "blue"))).map(
        lambda tags: replace(item, tags=tags)
    )
)
personal_operations = st.one_of(
    operations,
    st.tuples(st.just("publish"), st.lists(st.tuples(tagged, times), min_size=1, max_size=12)),
    st.tuples(st.just("mood"), which),
    st.tuples(
        st.just("feedback"), which, st.integers(0, 100), st.integers(0, 60), st.integers(0, 20)
    ),
    st.booleans().map(lambda silent: ("rung", silent)),
)
# Ticks that matter beside close times, those that tie with them, and those that rule.
opinions = st.sampled_from(((40, 1), (4, 2), (3_000_000, 1)))


def run(world: PersonalWorld, program: list[Any]) -> None:
    for name, *arguments in program:
        if name == "rung":
            world.rung(silent=arguments[0])
        else:
            getattr(world, name)(*arguments)


@thorough
@given(
    first_devices,
    st.lists(personal_operations, min_size=5, max_size=40),
    st.sampled_from((1, 3, 16_384)),
    opinions,
)
def test_personal_windows_are_what_the_rules_say(devices, program, max_rows, opinion):
    bound, grain = opinion
    world = PersonalWorld(Tastes(bound, grain=grain))
    for device in devices:
        world.seat(*device)
    run(world, program)
    world.run_dry(max_rows)
    world.check()


@settings(thorough, max_examples=60)
@given(crowd, st.lists(crowded_operations, min_size=10, max_size=50), st.booleans(), opinions)
def test_rows_that_lost_most_of_what_they_held_find_what_is_best_for_them(
    items, program, dry, opinion
):
    bound, grain = opinion
    world = PersonalWorld(Tastes(bound, grain=grain))
    for k in (1, 4, 8):
        world.seat(frozenset(("a",)), {"r": 0}, k, 30)
    world.publish(items)
    world.run_dry(16_384)
    for name, *arguments in program:
        getattr(world, name)(*arguments)
        if dry:
            world.run_dry(16_384)
            world.check()
    world.run_dry(16_384)
    world.check()


@settings(thorough, max_examples=100)
@given(
    first_devices,
    st.lists(personal_operations, min_size=5, max_size=40),
    st.sampled_from((1, 16_384)),
)
def test_what_is_shown_varies_as_the_factors_say_and_every_change_of_it_is_told(
    devices, program, max_rows
):
    world = PersonalWorld(Tastes(3_000), REPEATS)
    for device in devices:
        world.seat(*device)
    run(world, program)
    world.run_dry(max_rows)
    world.check()


# One engine, looked at closely


class Bench:
    """An engine with a ranking, and short ways to use it."""

    def __init__(self, tastes: Tastes, **settings: Any) -> None:
        self.tastes = tastes
        self.engine = Engine(landmark=LANDMARK, scoring=tastes, **settings)
        self.last_n = 0
        self.seats: list[Seat] = []

    def seat(self, *follow: str, k: int = 8, **attrs: str | int) -> Seat:
        device = f"d{len(self.seats)}"
        seat = self.engine.seat(
            follow=follow or ("#",), attrs=attrs, k=k, capacity=100, device=device
        )
        self.seats.append(seat)
        return seat

    def publish(self, *at: float, channel: str = "a", **fields: Any) -> list[int]:
        """Publish items accepted so many seconds after the landmark; return their numbers."""
        records = []
        for seconds in at:
            self.last_n += 1
            item = Item(channel, f"i{self.last_n}", "x", **fields)
            ms = int((LANDMARK + seconds) * 1000)
            records.append(Record(self.last_n, 0, item, ms, LANDMARK + 10**6, b""))
        self.engine.publish(records, [record.n << 16 for record in records])
        return [record.n for record in records]

    def run_dry(self, now: float = LANDMARK) -> list[tuple[int, int]]:
        """Step until nothing is left; return (shelf, row) of all changes."""
        told = []
        while self.engine.busy:
            for change in self.engine.step(now):
                told += [(change.shelf, row) for row in change.rows.tolist()]
        return told

    def best(self, device: str, ns: list[int]) -> list[int]:
        """Return items published at the same time as a device ranks them."""
        return sorted(ns, key=lambda n: -self.tastes.taste(device, n))

    def admissions(self) -> list[Admissions]:
        return self.engine.take_decisions()


def test_a_device_sees_first_what_it_likes_most_of_what_is_as_new():
    bench = Bench(Tastes(1000))
    first, second = bench.seat(), bench.seat()
    ns = bench.publish(*[0.0] * 12)
    bench.run_dry()
    assert bench.engine.window(first) == bench.best("d0", ns)[:8]
    assert bench.engine.window(second) == bench.best("d1", ns)[:8]
    assert bench.engine.window(first) != bench.engine.window(second)


def test_a_ranking_with_nothing_personal_to_say_leaves_the_windows_of_the_baseline():
    tastes = Tastes(1000)
    tastes.silent = True
    plain, bench = Bench(Tastes(0)), Bench(tastes)
    seats = plain.seat("a"), bench.seat("a")
    for each in (plain, bench):
        each.publish(*range(40))
        each.publish(*range(40), channel="a/b")
        each.run_dry()
    assert plain.engine.window(seats[0]) == bench.engine.window(seats[1])


def test_rows_that_an_item_cannot_enter_at_best_are_not_asked_about():
    bench = Bench(Tastes(1000))
    bench.seat()
    bench.publish(*[100.0] * 16)
    bench.run_dry()
    asked = bench.tastes.asked
    bar = int(bench.engine._state.shelves[0].windows.bar[0])
    bench.publish((bar - 1001) / 100)
    bench.run_dry()
    assert bench.tastes.asked == asked
    bench.publish((bar - 1000) / 100)
    bench.run_dry()
    assert bench.tastes.asked == asked + 1


def test_of_equal_personal_keys_the_newer_item_comes_first():
    tastes = Tastes(1000)
    bench = Bench(tastes)
    tastes.terms[2] = -300
    tastes.told = {("d0", 1): 0, ("d0", 2): 200}
    older, newer = bench.publish(0.0, 1.0)
    bench.run_dry()
    seat = bench.seat()
    bench.run_dry()
    assert bench.engine._state.shelves[0].windows.keys[0, :2].tolist() == [0, 0]
    assert bench.engine.window(seat) == [newer, older]


def test_the_ranking_knows_who_is_in_each_row():
    bench = Bench(Tastes(10))
    seat = bench.seat(region="ca")
    assert bench.tastes.devices == {seat: "d0"}
    bench.engine.change(seat, attrs={"region": "de"})
    assert bench.tastes.attrs == {seat: {"region": "de"}}
    bench.engine.unseat(seat)
    assert not bench.tastes.devices


def test_the_ranking_is_told_the_time_and_the_term_that_the_key_has_already():
    bench = Bench(Tastes(10))
    seat = bench.seat()
    bench.tastes.terms[1] = 300
    bench.publish(0.0)
    bench.run_dry(now=LANDMARK + 5)
    assert bench.tastes.told_last == (300, LANDMARK + 5)
    bench.tastes.terms[1] = 400  # moves no key yet
    bench.engine.refresh(seat)
    bench.run_dry(now=LANDMARK + 6)
    assert bench.tastes.told_last == (300, LANDMARK + 6)


# Learning


def test_an_item_that_the_ranking_learned_about_is_ranked_anew():
    bench = Bench(Tastes(0))
    seat = bench.seat()
    older, newer = bench.publish(0, 60)
    bench.run_dry()
    bench.tastes.terms[older] = 200_000
    bench.engine.feedback(older, shown=10, opened=10)
    assert not bench.engine.busy
    bench.engine.reterm([older])
    bench.run_dry()
    assert bench.engine.window(seat) == [older, newer]
    assert bench.engine.counters["rekeyed"] == 1


def test_terms_that_are_asked_for_together_are_announced_together():
    bench = Bench(Tastes(0))
    one, other = bench.publish(0.0, 1.0)
    assert bench.tastes.prepared == [one, other]
    bench.engine.reterm([other, 99])
    assert bench.tastes.prepared == [one, other, other]
    bench.engine.refresh_all()
    bench.run_dry()
    assert bench.tastes.prepared == [one, other, other, one, other]


def test_a_term_that_hardly_moved_is_no_work():
    bench = Bench(Tastes(0))
    (n,) = bench.publish(0)
    bench.run_dry()
    bench.tastes.terms[n] = 179_999
    bench.engine.reterm([n])
    assert not bench.engine.busy


def test_a_device_that_the_ranking_learned_about_gets_its_window_anew():
    bench = Bench(Tastes(1000))
    first, second = bench.seat(), bench.seat()
    ns = bench.publish(*[0.0] * 8)
    bench.run_dry()
    before = bench.engine.window(second)
    bench.tastes.moods = {"d0": 1, "d1": 1}
    rebuilt = bench.engine.counters["rebuilt"]
    bench.engine.refresh(first)
    bench.engine.refresh(first)
    assert bench.engine.size.pending == 1
    assert bench.run_dry() == [first]
    assert bench.engine.counters["rebuilt"] == rebuilt + 1
    assert bench.engine.window(first) == bench.best("d0", ns)
    assert bench.engine.window(second) == before


def test_ranking_everything_anew_builds_each_row_once_and_only_few_wait_at_a_time():
    bench = Bench(Tastes(1000))
    for _ in range(3000):
        bench.seat(k=1)
    for _ in range(20):
        bench.seat(k=40)
    ns = bench.publish(*[0.0] * 4)
    bench.run_dry()
    bench.tastes.moods = {f"d{number}": 1 for number in range(3020)}
    bench.tastes.terms = {ns[0]: 100_000}
    before = bench.engine.counters["rebuilt"]
    bench.engine.refresh_all()
    assert bench.engine.size.refreshing
    while bench.engine.busy:
        bench.engine.step(LANDMARK)
        assert bench.engine.size.pending <= 512
    assert bench.engine.counters["rebuilt"] == before + 3020
    assert not bench.engine.size.refreshing
    assert bench.engine.counters["rekeyed"] == 0
    for number in (0, 1, 2047, 2999, 3019):
        window = bench.engine.window(bench.seats[number])
        assert window == [ns[0], *bench.best(f"d{number}", ns[1:])][: 1 if number < 3000 else 4]


def test_rows_that_are_built_meanwhile_are_not_built_twice():
    bench = Bench(Tastes(1000))
    for _ in range(1000):
        bench.seat()
    bench.run_dry()
    bench.engine.refresh_all()
    bench.engine.step(LANDMARK, 1)  # no items, so this begins with the rows
    for _ in range(100):
        bench.seat()
    before = bench.engine.counters["rebuilt"]
    bench.run_dry()
    assert 1099 <= bench.engine.counters["rebuilt"] - before <= 1100


# Two stages


@pytest.mark.parametrize("where", [(), (("r", (1,)),)])
def test_a_row_ranks_the_best_that_retrieval_gave_it(where):
    bench = Bench(Tastes(10_000_000))
    seconds = {}
    for odd, channel in enumerate(("a", "b")):
        times = [float(second) for second in range(odd, 400, 2)]
        seconds |= zip(bench.publish(*times, channel=channel, where=where), times, strict=True)
    bench.run_dry()
    seat = bench.seat(r=1)
    bench.run_dry()
    latest = sorted(seconds, key=seconds.__getitem__)[-retrieved(16) :]
    assert len(latest) == 128
    expected = sorted(latest, key=lambda n: -(bench.tastes.taste("d0", n) + 100 * seconds[n]))
    assert bench.engine.window(seat) == expected[:8]
    windows = bench.engine._state.shelves[0].windows
    assert windows.bar[seat.row] == windows.keys[seat.row, -1]


def test_retrieval_goes_by_the_terms_of_now():
    bench = Bench(Tastes(0))
    seat = bench.seat()
    oldest, *_ = bench.publish(*[float(second) for second in range(400)])
    bench.run_dry()
    assert oldest not in bench.engine.window(seat)
    bench.tastes.terms = {oldest: 1_000_000}
    bench.engine.refresh_all()
    bench.run_dry()
    assert bench.engine.window(seat)[0] == oldest


def test_retrieval_looks_deeper_for_a_row_that_may_show_little():
    bench = Bench(Tastes(1000))
    old = bench.publish(*[0.0] * 20)
    bench.publish(*[float(second) for second in range(1, 3001)], where=(("r", (1,)),))
    bench.run_dry()
    seats = bench.seat(r=0), bench.seat(r=1)
    bench.run_dry()
    assert bench.engine.window(seats[0]) == bench.best("d0", old)[:8]
    assert not set(bench.engine.window(seats[1])) & set(old)
    windows = bench.engine._state.shelves[0].windows
    assert windows.bar[seats[0].row] == windows.keys[seats[0].row, -1] > EMPTY


def test_a_row_with_free_places_does_not_forget_that_something_was_left_out():
    bench = Bench(Tastes(1000))
    old = bench.publish(*[float(second) for second in range(200)])
    bench.publish(*[1000.0 + second for second in range(115)], where=(("r", (1,)),))
    found = bench.publish(*[900.0 + second for second in range(13)])
    bench.run_dry()
    seat = bench.seat(r=0)
    bench.run_dry()
    held = bench.engine._state.shelves[0].windows.held[seat.row]
    assert held == 13, "enough not to look deeper"
    for n in found[:6]:
        bench.engine.dismiss(seat, n)
    bench.run_dry()
    window = bench.engine.window(seat)
    assert set(window) >= set(found[6:])
    assert len(set(window) & set(old)) == 1


def test_a_new_item_finds_a_free_place_although_better_ones_by_their_shared_keys_were_left_out():
    bench = Bench(Tastes(1000))
    bench.publish(*[700.0 + second for second in range(200)])
    bench.publish(*[1000.0 + second for second in range(115)], where=(("r", (1,)),))
    found = bench.publish(*[900.0 + second for second in range(13)])
    bench.tastes.told = {("d0", found[0]): -1000}
    bench.run_dry()
    seat = bench.seat(r=0)
    bench.run_dry()
    assert bench.engine._state.shelves[0].windows.held[seat.row] == 13
    (n,) = bench.publish(893.0)
    bench.tastes.told["d0", n] = 0
    bench.run_dry()
    windows = bench.engine._state.shelves[0].windows
    assert windows.held[seat.row] == 14
    columns = bench.engine._state.columns
    assert columns.number[windows.ids[seat.row, 12:14]].tolist() == [n, found[0]]


def test_a_row_with_free_places_that_nothing_was_kept_from_knows_it():
    bench = Bench(Tastes(1000))
    bench.publish(*[float(second) for second in range(600)], where=(("r", (1,)),))
    shown = bench.publish(1.0, 2.0)
    seat = bench.seat(r=0)
    bench.run_dry()
    assert sorted(bench.engine.window(seat)) == shown
    assert bench.engine._state.shelves[0].windows.bar[seat.row] == EMPTY


# Exploration and decisions


def explorers(count: int = 2000, **settings: Any) -> Bench:
    """Return devices with full windows, and a ranking that is uncertain."""
    bench = Bench(Tastes(30_000, sd=10_000.0), record_decisions=True, **settings)
    for _ in range(count):
        bench.seat()
    bench.publish(*[0.0] * 24)
    bench.run_dry()
    return bench


def test_offers_are_taken_as_often_as_their_propensity_says():
    bench = explorers()
    bench.admissions()
    windows = bench.engine._state.shelves[0].windows
    rows_of = {device_token(f"d{row}"): row for row in range(2000)}
    expected = variance = taken = lifted = 0.0
    for _ in range(8):
        bars = windows.bar[:2000].astype(np.int64)
        (n,) = bench.publish(100.0)
        means = np.array([bench.tastes.taste(f"d{row}", n) for row in range(2000)])
        margin = (10_000 + means - bars) / 10_000
        p = np.array([STANDARD.cdf(each) for each in margin.tolist()])
        p = np.where((p > 0.005) & (p < 0.995), np.clip(p, 0.02, 0.98), np.round(p))
        bench.run_dry()
        (admitted,) = bench.admissions()
        assert admitted.n == n
        rows = [rows_of[token] for token in admitted.device.tolist()]
        logged = np.where(p[rows] == 1, 1, p[rows])
        assert np.allclose(admitted.propensity, logged, atol=1e-4)
        assert (admitted.key > admitted.bar).all()
        assert (admitted.bar == bars[rows]).all()
        lifted += (admitted.key == admitted.bar + 1).sum()
        expected += p.sum()
        variance += (p * (1 - p)).sum()
        taken += len(admitted)
    assert abs(taken - expected) < 4 * variance**0.5
    assert variance > 100
    assert lifted > 0, "none was admitted whose sample lay below the bar"


def test_the_same_seed_is_the_same_windows_and_the_same_decisions():
    one, other = explorers(50), explorers(50)
    for bench in (one, other):
        bench.publish(*[50.0, 100.0])
        bench.run_dry()
    for seat in one.seats:
        assert one.engine.window(seat) == other.engine.window(seat)
    for mine, theirs in zip(one.admissions(), other.admissions(), strict=True):
        assert mine.n == theirs.n
        assert (mine.key == theirs.key).all()
        assert (mine.propensity == theirs.propensity).all()


def test_a_window_built_anew_with_the_same_draws_is_the_same_window():
    bench = explorers(20)
    bench.engine.refresh_all()
    bench.run_dry()
    before = [bench.engine.window(seat) for seat in bench.seats]
    bench.engine.refresh_all()
    bench.run_dry()
    assert [bench.engine.window(seat) for seat in bench.seats] == before


def test_what_a_new_window_took_is_logged_with_what_it_had_to_beat():
    bench = Bench(Tastes(30_000, sd=10_000.0), record_decisions=True)
    ns = bench.publish(*[0.0] * 40)
    bench.run_dry()
    seat = bench.seat()
    bench.run_dry(now=LANDMARK + 5)
    windows = bench.engine._state.shelves[0].windows
    admissions = bench.admissions()
    assert [len(each) for each in admissions] == [1] * 16
    held = windows.ids[seat.row]
    numbers = bench.engine._state.columns.number[held].tolist()
    keys = dict(zip(numbers, windows.keys[0].tolist(), strict=True))
    assert {each.n: int(each.key[0]) for each in admissions} == keys
    for each in admissions:
        assert (each.t, each.model, each.rung, each.how) == (LANDMARK + 5, 7, 0, How.REBUILD)
        assert each.device.tolist() == [device_token("d0")]
        assert each.mean[0] == bench.tastes.taste("d0", each.n)
        assert each.sd[0] == 10_000
        assert each.bar[0] < min(keys.values())
        p = STANDARD.cdf(float(each.mean[0] - each.bar[0]) / 10_000)
        assert each.propensity[0] == pytest.approx(1 if p > 0.995 else np.clip(p, 0.02, 0.98))
    assert len({int(each.bar[0]) for each in admissions}) == 1
    assert set(keys) < set(ns)


def test_what_many_windows_took_at_once_is_one_record_per_item():
    bench = explorers(20)
    bench.admissions()
    bench.engine.refresh_all()
    bench.run_dry()
    admissions = bench.admissions()
    assert len({each.n for each in admissions}) == len(admissions)
    assert sum(len(each) for each in admissions) == 20 * 16
    for each in admissions:
        columns = bench.engine._state.columns
        windows = bench.engine._state.shelves[0].windows
        holders = np.nonzero(columns.number[windows.ids[:20]] == each.n)[0].tolist()
        tokens = sorted(device_token(f"d{row}") for row in holders)
        assert sorted(each.device.tolist()) == tokens


def test_without_uncertainty_every_admission_is_certain():
    bench = Bench(Tastes(1000), record_decisions=True)
    for _ in range(3):
        bench.seat()
    bench.publish(*[0.0] * 20)
    bench.run_dry()
    admissions = bench.admissions()
    assert all((each.propensity == 1).all() and not each.sd.any() for each in admissions)
    assert {len(each) for each in admissions} <= {1, 2, 3}


def test_admissions_are_also_logged_where_nothing_is_personal():
    tastes = Tastes(1000)
    tastes.silent, tastes.rung = True, 2
    bench = Bench(tastes, record_decisions=True)
    bench.publish(0.0)
    bench.seat()
    bench.run_dry()
    bench.publish(1.0)
    bench.run_dry()
    built, offered = bench.admissions()
    assert (built.n, built.how, offered.n, offered.how) == (1, How.REBUILD, 2, How.OFFER)
    assert built.rung == offered.rung == 2
    assert built.propensity[0] == offered.propensity[0] == 1


def test_winners_of_a_collapse_key_are_logged():
    bench = Bench(Tastes(1000), record_decisions=True)
    bench.seat()
    bench.run_dry()
    (n,) = bench.publish(0.0, collapse="c")
    bench.run_dry()
    assert [each.n for each in bench.admissions()] == [n]


def test_decisions_are_taken_once():
    bench = explorers(3)
    assert bench.admissions()
    assert bench.admissions() == []


def test_decisions_that_nobody_takes_are_dropped_and_counted(monkeypatch):
    monkeypatch.setattr("feedgen.engine._MOST_NOTES", 10)
    bench = Bench(Tastes(0), record_decisions=True)
    for _ in range(6):
        bench.seat()
    bench.run_dry()
    bench.publish(0.0)
    bench.run_dry()
    bench.publish(1.0)
    bench.run_dry()
    assert bench.engine.counters["decisions_dropped"] == 6
    assert [len(each) for each in bench.admissions()] == [6]
    bench.publish(2.0)
    bench.run_dry()
    assert [len(each) for each in bench.admissions()] == [6]


def test_nothing_is_recorded_unless_asked_for():
    bench = Bench(Tastes(0))
    bench.seat()
    bench.publish(0.0)
    bench.run_dry()
    assert bench.admissions() == []


# Variety


def test_what_repeats_gives_its_place_to_something_else_in_reserve():
    bench = Bench(Tastes(0), repeats=(Repeat(0.0, 0.0),))
    seat = bench.seat(k=2)
    first, second = bench.publish(1000.0, 2000.0)
    bench.run_dry()
    (other,) = bench.publish(0.0, channel="elsewhere")
    assert bench.run_dry() == [seat]
    assert bench.engine.window(seat) == [second, other]
    assert bench.engine.slots(0, np.array([seat.row]))[0, :3].tolist() == [
        second << 16,
        other << 16,
        0,
    ]
    bench.engine.dismiss(seat, other)
    assert bench.run_dry() == [seat]
    assert bench.engine.window(seat) == [second, first]


def test_a_device_that_is_held_out_shows_its_window_by_key_alone():
    bench = Bench(Tastes(0), repeats=(Repeat(0.0, 0.0),))
    bench.tastes.held_out = {"d1"}
    varied, plain = bench.seat(k=2), bench.seat(k=2)
    other, first, second = *bench.publish(0.0, channel="elsewhere"), *bench.publish(1.0, 2.0)
    bench.run_dry()
    assert bench.engine.window(varied) == [second, other]
    assert bench.engine.window(plain) == [second, first]


def test_urgent_items_stand_above_all_however_many_there_are():
    bench = Bench(Tastes(0), repeats=(Repeat(0.0, 0.0),))
    seat = bench.seat(k=3)
    urgent = bench.publish(0.0, 1.0, 2.0, priority=3)
    bench.publish(3.0, channel="elsewhere")
    bench.run_dry()
    assert bench.engine.window(seat) == urgent[::-1]


def test_variety_needs_a_ranking_that_knows_groups():
    engine = Engine(landmark=LANDMARK, repeats=REPEATS)
    assert not any(shelf.windows.whole for shelf in engine._state.shelves)
