"""The engine against a model that ranks everything anew, and against itself worked differently."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedgen.channels import matches, specificity
from feedgen.engine import SHELVES, Engine, Seat, Settings
from feedgen.item_columns import name_hash, smallest_bytes
from feedgen.items import Item, Record
from feedgen.windows import EMPTY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.ranking.diversity import Repeat
    from tests.feedgen.scorings import Tastes

LANDMARK = 1_700_000_000
CHANNELS = ("a", "a/b", "a/c", "d", "$x")
FILTERS = ("#", "+", "a/#", "a/+", "a/b", "+/b", "d", "$x")
WHERES: tuple[Any, ...] = (
    (),
    (),
    (("r", (1,)),),
    (("m", ("x",)), ("r", (0, 1))),
    (("r", (2, "1")),),
)
RANKING = Settings()


@dataclass
class Device:
    seat: Seat
    follow: tuple[str, ...]
    attrs: dict[str, str | int]
    k: int
    capacity: int
    name: str
    dismissed: set[int] = field(default_factory=set)


class Model:
    """What every window must be, by the rules alone."""

    def __init__(self, engine: Engine, scoring: Tastes | None = None) -> None:
        self.engine = engine
        self.scoring = scoring
        self.items: dict[int, Record] = {}

    def key(self, record: Record, level: int) -> int:
        item = record.item
        engine = self.engine
        term = int(engine._state.columns.term[engine._live[record.n]])
        baseline = engine._state.baseline
        ticks = (record.published_ms - LANDMARK * 1000) // 10
        return ticks + term + baseline.by_level[level] + baseline.by_priority[item.priority]

    def taste(self, device: Device, record: Record) -> int:
        return 0 if self.scoring is None else self.scoring.taste(device.name, record.n)

    @staticmethod
    def order(record: Record) -> tuple[int, int]:
        return record.published_ms, name_hash(record.item)

    @staticmethod
    def level(device: Device, item: Item) -> int | None:
        levels = [specificity(each) for each in device.follow if matches(each, item.channel)]
        return max(levels, default=None)

    def concerns(self, device: Device, item: Item) -> bool:
        return self.level(device, item) is not None and all(
            device.attrs.get(name) in values for name, values in item.where
        )

    def superseded(self, device: Device, record: Record) -> bool:
        return record.item.collapse is not None and any(
            other.item.collapse == record.item.collapse
            and self.order(other) > self.order(record)
            and self.concerns(device, other.item)
            for other in self.items.values()
        )

    def window(self, device: Device) -> list[int]:
        ranked = []
        for record in self.items.values():
            item = record.item
            if (
                self.concerns(device, item)
                and record.n not in device.dismissed
                and smallest_bytes(item) <= device.capacity
                and not self.superseded(device, record)
            ):
                level = self.level(device, item)
                assert level is not None
                key = self.key(record, level) + self.taste(device, record)
                ranked.append((key, *self.order(record), record.n))
        ranked.sort(reverse=True)
        return [n for *_, n in ranked[: device.k]]


class World:
    """An engine under random use, with the model beside it and what a ledger would know."""

    def __init__(
        self, scoring: Tastes | None = None, repeats: Sequence[Repeat] | None = None
    ) -> None:
        self.engine = Engine(landmark=LANDMARK, settings=RANKING, scoring=scoring, repeats=repeats)
        self.model = Model(self.engine, scoring)
        self.devices: list[Device] = []
        self.shown: dict[Seat, list[int]] = {}
        self.next_n = 1
        self.next_device = 1
        self.versions: dict[int, Record] = {}

    # Each of these is one kind of operation.

    def seat(self, follow: frozenset[str], attrs: dict[str, Any], k: int, capacity: int) -> None:
        name = f"d{self.next_device}"
        self.next_device += 1
        seat = self.engine.seat(
            follow=tuple(follow), attrs=attrs, k=k, capacity=capacity, device=name
        )
        self.devices.append(Device(seat, tuple(follow), attrs, k, capacity, name))
        self.shown[seat] = [0] * SHELVES[seat.shelf]

    def unseat(self, which: int) -> None:
        if self.devices:
            device = self.devices.pop(which % len(self.devices))
            self.engine.unseat(device.seat)
            del self.shown[device.seat]

    def change(self, which: int, what: str, follow: frozenset[str], attrs: dict[str, Any]) -> None:
        if not self.devices:
            return
        device = self.devices[which % len(self.devices)]
        if what == "follow":
            device.follow = tuple(follow)
            self.engine.change(device.seat, follow=device.follow)
        elif what == "attrs":
            device.attrs = attrs
            self.engine.change(device.seat, attrs=attrs)
        elif what == "capacity":
            device.capacity = 30 if device.capacity > 30 else 100
            self.engine.change(device.seat, capacity=device.capacity)
        else:
            low = 1 if device.seat.shelf == 0 else 9
            device.k = low + (which % 8)
            self.engine.change(device.seat, k=device.k)

    def publish(self, items: list[tuple[Item, int]]) -> None:
        records = []
        for item, when in items:
            named = replace(item, id=f"i{self.next_n}")
            ms = LANDMARK * 1000 + when
            records.append(Record(self.next_n, 0, named, ms, ms // 1000 + item.ttl, b""))
            self.next_n += 1
        self._take(records)

    def update(self, which: int, item: Item, when: int) -> None:
        if not self.versions:
            return
        before = list(self.versions.values())[which % len(self.versions)]
        ms = LANDMARK * 1000 + when
        now = replace(item, id=before.item.id, channel=before.item.channel)
        version = before.version + 1
        self._take([Record(before.n, version, now, ms, ms // 1000 + item.ttl, b"")])

    def hide(self, low: int, count: int) -> None:
        """Update items one by one so that no device may show them any more."""
        nowhere = (("r", ("nowhere",)),)
        for n in range(1 + low, 1 + low + count):
            if n in self.model.items:
                before = self.model.items[n]
                item = replace(before.item, where=nowhere)
                self._take([replace(before, version=before.version + 1, item=item)])

    def retract(self, low: int, count: int) -> None:
        records = []
        for n in range(1 + low, 1 + low + count):
            if n in self.versions:
                before = self.versions[n]
                gone = replace(before.item, retract=True, payload="")
                version = before.version + 1
                records.append(replace(before, version=version, item=gone, retracted=True))
        self._take(records)

    def _take(self, records: list[Record]) -> None:
        for record in records:
            self.versions[record.n] = record
            self.model.items.pop(record.n, None)
            if not record.retracted:
                self.model.items[record.n] = record
        self.engine.publish(records, [record.n << 16 | record.version for record in records])

    def expire(self, seconds: int) -> None:
        now = LANDMARK + seconds
        over = [n for n, record in self.model.items.items() if record.expires <= now]
        assert sorted(self.engine.expire(now)) == sorted(over)
        for n in over:
            del self.model.items[n]
            del self.versions[n]  # the catalog forgets it, so its number never comes back

    def dismiss(self, which: int, rank: int) -> None:
        if not self.devices:
            return
        device = self.devices[which % len(self.devices)]
        window = self.engine.window(device.seat)
        if window:
            n = window[rank % len(window)]
            device.dismissed.add(n)
            self.engine.dismiss(device.seat, n)

    def feedback(self, which: int, shown: int, opened: int, dismissed: int) -> None:
        if self.model.items:
            n = list(self.model.items)[which % len(self.model.items)]
            self.engine.feedback(n, shown=shown, opened=opened, dismissed=dismissed)

    def step(self, max_rows: int) -> None:
        for change in self.engine.step(LANDMARK, max_rows):
            assert len(set(change.rows.tolist())) == len(change.rows)
            slots = self.engine.slots(change.shelf, change.rows)
            for row, window in zip(change.rows.tolist(), slots.tolist(), strict=True):
                self.shown[Seat(change.shelf, row)] = window

    def run_dry(self, max_rows: int) -> None:
        for _ in range(100_000):
            if not self.engine.busy:
                return
            self.step(max_rows)
        raise AssertionError("the engine never comes to rest")

    def check(self) -> None:
        for device in self.devices:
            assert self.engine.window(device.seat) == self.model.window(device)
            slots = self.engine.slots(device.seat.shelf, np.array([device.seat.row]))[0].tolist()
            assert self.shown[device.seat] == slots, "a change that was not told"
        self.check_arrays()

    def check_arrays(self) -> None:
        state = self.engine._state
        for shelf in state.shelves:
            windows = shelf.windows
            assert (np.diff(windows.keys.astype(np.int64), axis=1) <= 0).all()
            assert ((windows.ids > 0) == (windows.keys > EMPTY)).all()
            assert ((windows.ids > 0).sum(axis=1) == windows.held).all()
            assert state.columns.alive[windows.ids].all(), "a dead item in a window"
        for index in self.engine._live.values():
            assert abs(self.engine._move(index)) < state.baseline.rekey


items = st.builds(
    Item,
    channel=st.sampled_from(CHANNELS),
    id=st.just(""),
    payload=st.sampled_from(("x" * 20, "x" * 50, "x" * 200)),
    brief=st.sampled_from((None, None, "x" * 25)),
    priority=st.sampled_from((1, 1, 1, 0, 2, 3)),
    ttl=st.sampled_from((10, 100, 1000)),
    collapse=st.sampled_from((None, None, None, "c", "e")),
    where=st.sampled_from(WHERES),
)
# Few and close times, so that keys and times tie.
times = st.integers(0, 12).map(lambda i: i * 5) | st.integers(0, 20_000_000)
follows = st.frozensets(st.sampled_from(FILTERS), max_size=4)
attributes = st.fixed_dictionaries(
    {}, optional={"r": st.sampled_from((0, 1, "1")), "m": st.sampled_from(("x", "y"))}
)
which = st.integers(0, 1000)
operations = st.one_of(
    st.tuples(
        st.just("seat"), follows, attributes, st.integers(1, 16), st.sampled_from((30, 100, 500))
    ),
    st.tuples(st.just("unseat"), which),
    st.tuples(
        st.just("change"),
        which,
        st.sampled_from(("follow", "attrs", "capacity", "k")),
        follows,
        attributes,
    ),
    st.tuples(st.just("publish"), st.lists(st.tuples(items, times), min_size=1, max_size=12)),
    st.tuples(st.just("publish"), st.lists(st.tuples(items, times), min_size=1, max_size=12)),
    st.tuples(st.just("update"), which, items, times),
    st.tuples(st.just("retract"), st.integers(0, 60), st.integers(1, 20)),
    st.tuples(st.just("expire"), st.sampled_from((5, 15, 150, 2000))),
    st.tuples(st.just("dismiss"), which, which),
    st.tuples(
        st.just("feedback"), which, st.integers(0, 100), st.integers(0, 60), st.integers(0, 20)
    ),
    st.tuples(st.just("step"), st.sampled_from((1, 3, 100, 16_384))),
    st.tuples(st.just("run_dry"), st.sampled_from((1, 2, 16_384))),
)
first_devices = st.lists(
    st.tuples(follows, attributes, st.integers(1, 16), st.sampled_from((30, 100, 500))),
    min_size=1,
    max_size=4,
)
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(
    first_devices, st.lists(operations, min_size=5, max_size=40), st.sampled_from((1, 3, 16_384))
)
def test_windows_are_what_the_rules_say_once_the_work_is_done(devices, program, max_rows):
    world = World()
    for device in devices:
        world.seat(*device)
    for name, *arguments in program:
        getattr(world, name)(*arguments)
    world.run_dry(max_rows)
    world.check()


# A channel with more items than a row can hold, of which most come and go among those it holds.
crowd = st.lists(
    st.tuples(
        st.builds(
            Item,
            channel=st.just("a"),
            id=st.just(""),
            payload=st.just("x"),
            collapse=st.sampled_from((None, None, None, None, "c")),
            where=st.sampled_from(((), (), (), (("r", (1,)),))),
        ),
        st.sampled_from((0, 0, 5, 10, 20, 30, 40, 1000)),
    ),
    min_size=17,
    max_size=40,
)
crowded_operations = st.one_of(
    st.tuples(st.just("update"), which, items, times),
    st.tuples(st.just("update"), which, items, times),
    st.tuples(st.just("hide"), st.integers(0, 40), st.integers(1, 12)),
    st.tuples(st.just("retract"), st.integers(0, 40), st.integers(1, 6)),
    st.tuples(st.just("dismiss"), which, which),
    st.tuples(st.just("publish"), crowd.map(lambda items: items[:1])),
    st.tuples(st.just("run_dry"), st.sampled_from((1, 16_384))),
)


@settings(thorough, max_examples=60)
@given(crowd, st.lists(crowded_operations, min_size=10, max_size=50), st.booleans())
def test_rows_that_lost_most_of_what_they_held_find_what_they_had_refused(items, program, dry):
    world = World()
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


def windows_after(batches: list[list[Record]], max_rows: int) -> list[list[int]]:
    """Publish batch by batch, each worked off, and return all windows."""
    engine = Engine(landmark=LANDMARK)
    seats = [
        engine.seat(follow=follow, attrs={"r": place % 2}, k=k, capacity=30)
        for place, (follow, k) in enumerate(
            [(("#",), 1), (("#",), 4), (("a/#", "+/b"), 8), (("a",), 8), (("+", "a/b"), 16)]
        )
    ]
    while engine.busy:
        engine.step(LANDMARK)
    for batch in batches:
        engine.publish(batch, [record.n for record in batch])
        while engine.busy:
            engine.step(LANDMARK, max_rows)
    return [engine.window(seat) for seat in seats]


# Without `where` of several attributes and the like, many pass the bar and tie.
same_items = st.lists(
    st.tuples(
        st.builds(
            Item,
            channel=st.sampled_from(("a", "a/b")),
            id=st.just(""),
            payload=st.just("x"),
            collapse=st.sampled_from((None, None, None, "c")),
            where=st.sampled_from(((), (), (("r", (1,)),))),
        ),
        st.sampled_from((0, 0, 0, 5, 10, 20)),
    ),
    min_size=2,
    max_size=60,
)


def as_records(items: list[tuple[Item, int]]) -> list[Record]:
    return [
        Record(n, 0, replace(item, id=f"i{n}"), LANDMARK * 1000 + when, LANDMARK + 100, b"")
        for n, (item, when) in enumerate(items, 1)
    ]


@thorough
@given(same_items, st.randoms(use_true_random=False))
def test_the_order_in_which_the_same_items_arrive_does_not_matter(items, random):
    records = as_records(items)
    shuffled = random.sample(records, len(records))
    one_by_one = [[record] for record in records]
    assert windows_after(one_by_one, 16_384) == windows_after([[r] for r in shuffled], 16_384)


@thorough
@given(same_items, st.integers(1, 30), st.sampled_from((1, 300, 16_384)))
def test_items_laid_together_enter_windows_as_they_would_one_by_one(items, size, max_rows):
    records = as_records(items)
    batches = [records[start : start + size] for start in range(0, len(records), size)]
    one_by_one = [[record] for record in records]
    assert windows_after(batches, max_rows) == windows_after(one_by_one, max_rows)
