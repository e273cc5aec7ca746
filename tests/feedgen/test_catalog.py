from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedgen.catalog import MAX_N, Accepted, Catalog, Outcome
from feedgen.items import Item, Record, digest, pack_record, unpack_record

NOW = 1_790_000_000  # Unix seconds
DAY = 86_400


def item(payload: str = "p", item_id: str = "x", rev: int | None = None, ttl: int = DAY) -> Item:
    return Item("a/b", item_id, payload, rev=rev, ttl=ttl)


def retraction(item_id: str = "x", rev: int | None = None, ttl: int = DAY) -> Item:
    return Item("a/b", item_id, "", rev=rev, ttl=ttl, retract=True)


class Publisher:
    """Sends items to one catalog, one second apart."""

    def __init__(self, catalog: Catalog | None = None) -> None:
        self.catalog = Catalog() if catalog is None else catalog
        self.now = NOW

    def send(self, sent: Item, *, dup: bool = False, user: str = "") -> Accepted:
        self.now += 1
        return self.catalog.accept(sent, self.now * 1000, dup, user)

    def changed(self, sent: Item, *, dup: bool = False, user: str = "") -> Record:
        record = self.send(sent, dup=dup, user=user).record
        assert record is not None
        return record

    def restart(self) -> Publisher:
        """The same publisher, and a catalog restored from what was stored."""
        stored = [unpack_record(pack_record(record)) for record in self.catalog]
        restored = Publisher(Catalog())
        restored.catalog.load(stored)
        restored.now = self.now
        return restored


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


# New items and updates


def test_a_new_item_gets_the_next_number_and_version_zero(publisher: Publisher) -> None:
    first = publisher.changed(item())
    second = publisher.changed(item(item_id="y"))
    assert (first.n, second.n, first.version) == (1, 2, 0)
    assert first.digest == digest(first.item)
    assert first.published_ms == (NOW + 1) * 1000
    assert first.expires == NOW + 1 + DAY


def test_the_same_id_on_another_channel_is_another_item(publisher: Publisher) -> None:
    publisher.send(item())
    accepted = publisher.send(replace(item(), channel="c"))
    assert accepted.outcome == Outcome.NEW
    assert len(publisher.catalog) == 2


def test_an_item_never_has_less_than_its_ttl() -> None:
    catalog = Catalog()
    record = catalog.accept(item(ttl=1), NOW * 1000 + 1, dup=False).record
    assert record is not None
    assert record.expires == NOW + 2
    assert catalog.expire(NOW + 1.001) == []


def test_an_update_keeps_the_number_and_is_published_now(publisher: Publisher) -> None:
    old = publisher.changed(item("p"))
    accepted = publisher.send(item("q", ttl=60))
    new = accepted.record
    assert new is not None
    assert accepted.outcome == Outcome.UPDATE
    assert (new.n, new.version) == (old.n, 1)
    assert new.published_ms == publisher.now * 1000
    assert new.expires == publisher.now + 60
    assert publisher.catalog.get(old.n) == publisher.catalog.find("a/b", "x") == new


def test_versions_wrap_at_sixteen_bits() -> None:
    last = Record(7, 65_535, item("p"), NOW * 1000, NOW + DAY, digest(item("p")))
    publisher = Publisher()
    publisher.catalog.load([last])
    assert publisher.changed(item("q")).version == 0


def test_identical_content_changes_nothing_not_even_its_expiry(publisher: Publisher) -> None:
    record = publisher.changed(item())
    assert publisher.send(item()) == Accepted(Outcome.UNCHANGED, None)
    assert publisher.catalog.get(record.n) is record


def test_new_content_is_its_publishers(publisher: Publisher) -> None:
    assert publisher.changed(item("p"), user="ann").publisher == "ann"
    assert publisher.changed(item("q"), user="ben").publisher == "ben"
    assert publisher.changed(item("r")).publisher == ""
    assert publisher.changed(retraction(), user="ann").publisher == "ann"


def test_content_sent_again_by_another_stays_whose_it_was(publisher: Publisher) -> None:
    n = publisher.changed(item("p"), user="ann").n
    publisher.send(item("q"), user="ann")
    assert publisher.send(item("q"), user="ben").record is None
    assert publisher.send(item("p"), dup=True, user="ben").record is None
    assert publisher.changed(item("q", rev=1), user="ben").publisher == "ann"
    assert publisher.send(item("r", rev=1), user="ben").outcome == Outcome.STALE
    kept = publisher.restart().catalog.get(n)
    assert kept is not None
    assert kept.publisher == "ann"


def test_records_of_one_publisher_share_its_name(publisher: Publisher) -> None:
    user, same_user = (b"news-desk".decode() for _ in range(2))  # as two connections read it
    assert user is not same_user
    first = publisher.changed(item("p"), user=user)
    second = publisher.changed(item("q"), user=same_user)
    assert first.publisher is second.publisher


def test_numbers_are_never_reused(publisher: Publisher) -> None:
    first = publisher.changed(item(ttl=1))
    publisher.catalog.expire(NOW + DAY)
    assert publisher.changed(item(ttl=1)).n == first.n + 1


def test_the_last_number_is_given_out_and_then_no_more() -> None:
    publisher = Publisher(Catalog(next_n=MAX_N))
    assert publisher.changed(item()).n == MAX_N
    assert publisher.send(item("q")).outcome == Outcome.UPDATE
    with pytest.raises(OverflowError):
        publisher.send(item(item_id="y"))
    assert publisher.catalog.find("a/b", "y") is None


# Revisions


@pytest.mark.parametrize("rev", [2, 3])
def test_a_lower_or_equal_rev_is_stale(publisher: Publisher, rev: int) -> None:
    publisher.send(item("p", rev=3))
    assert publisher.send(item("q", rev=rev)) == Accepted(Outcome.STALE, None)


def test_a_higher_rev_is_an_update_even_with_dup(publisher: Publisher) -> None:
    publisher.send(item("p", rev=3))
    publisher.send(item("q", rev=4))
    assert publisher.send(item("p", rev=5), dup=True).outcome == Outcome.UPDATE


def test_a_packet_without_rev_updates_but_does_not_forget_the_rev(publisher: Publisher) -> None:
    publisher.send(item("p", rev=3))
    assert publisher.changed(item("q")).item.rev == 3
    assert publisher.send(item("p", rev=3)).outcome == Outcome.STALE


def test_identical_content_of_a_higher_rev_raises_the_rev_durably(publisher: Publisher) -> None:
    old = publisher.changed(item("p", rev=1))
    accepted = publisher.send(item("p", rev=5))
    assert accepted == Accepted(Outcome.UNCHANGED, replace(old, item=item("p", rev=5)))
    assert publisher.restart().send(item("q", rev=3)).outcome == Outcome.STALE


def test_a_tombstone_keeps_the_rev(publisher: Publisher) -> None:
    publisher.send(item(rev=3))
    publisher.send(retraction())
    assert publisher.send(item("q", rev=3)).outcome == Outcome.STALE
    assert publisher.send(item("q", rev=4)).outcome == Outcome.UPDATE


# Redeliveries


def test_a_redelivery_of_older_content_is_known_by_dup(publisher: Publisher) -> None:
    publisher.send(item("p"))
    publisher.send(item("q"))
    assert publisher.send(item("p"), dup=True) == Accepted(Outcome.UNCHANGED, None)
    assert publisher.send(item("p"), dup=False).outcome == Outcome.UPDATE


def test_dup_on_content_that_never_came_is_an_update(publisher: Publisher) -> None:
    publisher.send(item("p"))
    assert publisher.send(item("q"), dup=True).outcome == Outcome.UPDATE


def test_a_redelivery_does_not_undo_a_retraction_not_even_after_a_restart(
    publisher: Publisher,
) -> None:
    publisher.send(item("p"))
    publisher.send(retraction())
    for catalog in (publisher, publisher.restart()):
        assert catalog.send(item("p"), dup=True) == Accepted(Outcome.UNCHANGED, None)


def test_a_redelivered_retraction_does_not_undo_a_publication(publisher: Publisher) -> None:
    publisher.send(item("p"))
    publisher.send(retraction())
    publisher.send(item("q"))
    assert publisher.send(retraction(), dup=True).outcome == Outcome.UNCHANGED


def test_remembered_contents_are_bounded(publisher: Publisher) -> None:
    for number in range(100):
        record = publisher.changed(item(f"{number}"))
    assert record.earlier == tuple(digest(item(f"{number}")) for number in range(79, 99))


def test_contents_that_alternate_do_not_push_others_out_of_memory(publisher: Publisher) -> None:
    publisher.send(item("first"))
    for number in range(100):
        publisher.send(item(f"{number % 2}"))
    assert publisher.send(item("first"), dup=True).outcome == Outcome.UNCHANGED


def redeliver(payloads: list[int], last: int) -> Item:
    """Publish one id with these payloads, redeliver the last of them, and return what is held."""
    publisher = Publisher()
    for payload in payloads:
        publisher.send(item(f"{payload}"))
    for payload in payloads[len(payloads) - last :]:
        publisher.send(item(f"{payload}"), dup=True)
    held = publisher.catalog.find("a/b", "x")
    assert held is not None
    return held.item


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1), st.integers(0, 40))
def test_redelivering_the_last_packets_ends_at_the_same_content(
    payloads: list[int], last: int
) -> None:
    assert redeliver(payloads, min(last, len(payloads))) == item(f"{payloads[-1]}")


@pytest.mark.parametrize("last", [1, 20, 21, 22, 23, 42, 43, 60])
def test_so_does_redelivering_more_contents_than_are_remembered(last: int) -> None:
    assert redeliver(list(range(60)), last) == item("59")


# Retractions


def test_a_retraction_leaves_a_tombstone_of_the_same_number(publisher: Publisher) -> None:
    old = publisher.changed(item())
    accepted = publisher.send(retraction(ttl=60))
    tombstone = accepted.record
    assert tombstone is not None
    assert accepted.outcome == Outcome.RETRACT
    assert (tombstone.n, tombstone.version, tombstone.retracted) == (old.n, 1, True)
    assert publisher.catalog.find("a/b", "x") is tombstone
    assert publisher.catalog.expire(publisher.now + 60) == [tombstone]


def test_a_retraction_of_an_unknown_id_leaves_a_tombstone_too(publisher: Publisher) -> None:
    accepted = publisher.send(retraction(rev=4))
    assert accepted.outcome == Outcome.RETRACT
    assert publisher.send(item(rev=3)).outcome == Outcome.STALE


def test_retracting_twice_changes_nothing(publisher: Publisher) -> None:
    publisher.send(item())
    publisher.send(retraction())
    assert publisher.send(retraction()) == Accepted(Outcome.UNCHANGED, None)


def test_publishing_again_after_a_retraction_is_new_content_of_the_same_number(
    publisher: Publisher,
) -> None:
    old = publisher.changed(item())
    publisher.send(retraction())
    accepted = publisher.send(item())
    assert accepted.outcome == Outcome.UPDATE
    assert accepted.record is not None
    assert (accepted.record.n, accepted.record.version) == (old.n, 2)
    assert not accepted.record.retracted


# Expiry


def test_what_is_over_is_dropped_earliest_first(publisher: Publisher) -> None:
    late = publisher.changed(item(item_id="late", ttl=50))
    early = publisher.changed(item(item_id="early", ttl=10))
    kept = publisher.changed(item(item_id="kept", ttl=51))
    assert publisher.catalog.expire(late.expires) == [early, late]
    assert list(publisher.catalog) == [kept]
    assert publisher.catalog.find("a/b", "early") is None
    assert publisher.catalog.expire(late.expires) == []


def test_an_update_replaces_the_expiry(publisher: Publisher) -> None:
    publisher.send(item("p", ttl=10))
    longer = publisher.changed(item("q", ttl=100))
    assert publisher.catalog.expire(NOW + 50) == []
    shorter = publisher.changed(item("p", ttl=20))
    assert publisher.catalog.expire(shorter.expires) == [shorter]
    assert publisher.catalog.expire(longer.expires) == []


def test_an_item_that_is_over_is_gone_for_its_publisher_though_not_yet_dropped(
    publisher: Publisher,
) -> None:
    old = publisher.changed(item(rev=3, ttl=1))
    publisher.now += 10
    accepted = publisher.send(item(rev=1, ttl=60))
    assert accepted.outcome == Outcome.NEW
    assert accepted.record is not None
    assert accepted.record.n == old.n + 1
    assert publisher.restart().catalog.find("a/b", "x") == accepted.record
    assert publisher.catalog.expire(publisher.now) == [old]
    assert publisher.catalog.find("a/b", "x") == accepted.record


def test_an_item_can_be_updated_until_the_very_second_of_its_expiry() -> None:
    for early_ms, outcome in ((1, Outcome.UPDATE), (0, Outcome.NEW)):
        publisher = Publisher()
        record = publisher.changed(item("p"))
        accepted = publisher.catalog.accept(item("q"), record.expires * 1000 - early_ms, dup=False)
        assert accepted.outcome == outcome


def test_the_newest_of_an_id_is_found_in_whatever_order_a_store_returns_them() -> None:
    over = Record(1, 0, item(), NOW * 1000, NOW + DAY, digest(item()))
    newest = replace(over, n=2, expires=NOW + 3 * DAY)
    for stored in ([over, newest], [newest, over]):
        catalog = Catalog()
        catalog.load(stored)
        assert catalog.find("a/b", "x") is newest
        assert catalog.next_n == 3
        assert catalog.expire(NOW + 2 * DAY) == [over]
        assert catalog.find("a/b", "x") is newest


def test_many_updates_of_one_id_do_not_grow_the_catalog(publisher: Publisher) -> None:
    for number in range(5_000):
        publisher.send(item(f"{number}"))
    assert len(publisher.catalog._deadlines) <= 1_100
    assert len(publisher.catalog.expire(publisher.now + DAY)) == 1
    assert len(publisher.catalog) == 0


# The whole against the rules in their plainest form


@dataclass
class Entry:
    """One number: every content that was accepted under it, and what is known besides."""

    key: tuple[str, str]
    contents: list[Item] = field(default_factory=list)
    publisher: str = ""
    rev: int | None = None
    published_ms: int = 0
    expires: int = 0
    dropped: bool = False

    def take(self, content: Item, rev: int | None, now_ms: int, publisher: str) -> None:
        self.contents.append(content)
        self.publisher = publisher
        self.rev = self.rev if rev is None else rev
        self.published_ms = now_ms
        self.expires = (now_ms + 999) // 1000 + content.ttl


class Plain:
    """The catalog as a list that is searched from its end; item number n is entry n - 1."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def accept(self, sent: Item, now_ms: int, dup: bool, publisher: str) -> Outcome:
        key, content, rev = (sent.channel, sent.id), replace(sent, rev=None), sent.rev
        changed = Outcome.RETRACT if sent.retract else Outcome.UPDATE
        for entry in reversed(self.entries):
            if entry.key == key and now_ms < entry.expires * 1000:
                if rev is not None and entry.rev is not None and rev <= entry.rev:
                    return Outcome.STALE
                if content == entry.contents[-1]:
                    entry.rev = entry.rev if rev is None else rev
                    return Outcome.UNCHANGED
                if dup and rev is None and content in entry.contents:
                    return Outcome.UNCHANGED
                entry.take(content, rev, now_ms, publisher)
                return changed
        entry = Entry(key)
        entry.take(content, rev, now_ms, publisher)
        self.entries.append(entry)
        return Outcome.RETRACT if sent.retract else Outcome.NEW

    def expire(self, now: float) -> set[int]:
        over = {n for n, entry in self.live().items() if entry.expires <= now}
        for n in over:
            self.entries[n - 1].dropped = True
        return over

    def live(self) -> dict[int, Entry]:
        return {n: entry for n, entry in enumerate(self.entries, 1) if not entry.dropped}


# Few keys and contents, mostly without rev, so that the same ones come again and again.
keys = st.sampled_from([("a", "x"), ("a", "x"), ("a", "y"), ("b", "x")])
contents = st.sampled_from(["p", "q", b"p", None])
revs = st.sampled_from([None, None, None, 1, 2, 3])
ttls = st.sampled_from([3, 3, 8])


def sending(key: tuple[str, str], payload: str | bytes | None, rev: int | None, ttl: int) -> Item:
    if payload is None:
        return Item(*key, payload="", rev=rev, ttl=ttl, retract=True)
    return Item(*key, payload=payload, rev=rev, ttl=ttl)


accept_step = st.tuples(
    st.just("accept"),
    st.builds(sending, keys, contents, revs, ttls),
    st.booleans(),
    st.sampled_from(["", "ann", "ben"]),
)
steps = st.one_of(
    accept_step,
    accept_step,
    accept_step,
    st.tuples(st.just("wait"), st.integers(1, 2_000)),
    st.tuples(st.just("expire")),
    st.tuples(st.just("restart"), st.integers(0, 9)),
)


@settings(deadline=None, max_examples=200)
@given(st.lists(steps, min_size=5, max_size=40))
def test_the_catalog_agrees_with_the_plain_rules(script: list[tuple[Any, ...]]) -> None:
    catalog, plain, now_ms = Catalog(), Plain(), NOW * 1000
    for step in script:
        match step:
            case "accept", Item() as sent, bool(dup), str(user):
                accepted = catalog.accept(sent, now_ms, dup, user)
                assert accepted.outcome == plain.accept(sent, now_ms, dup, user)
                if accepted.record is not None:
                    assert catalog.find(sent.channel, sent.id) is accepted.record
            case "wait", int(milliseconds):
                now_ms += milliseconds
            case ("expire",):
                over = catalog.expire(now_ms / 1000)
                assert {record.n for record in over} == plain.expire(now_ms / 1000)
                assert over == sorted(over, key=lambda record: record.expires)
            case "restart", int(seed):
                stored = [pack_record(record) for record in catalog]
                Random(seed).shuffle(stored)
                catalog = Catalog(next_n=len(plain.entries) + 1)
                catalog.load(map(unpack_record, stored))
        assert_same(catalog, plain)


def assert_same(catalog: Catalog, plain: Plain) -> None:
    live = plain.live()
    assert len(catalog) == len(live)
    assert catalog.next_n == len(plain.entries) + 1
    for n, entry in live.items():
        record = catalog.get(n)
        assert record is not None
        assert record.item == replace(entry.contents[-1], rev=entry.rev)
        assert record.version == len(entry.contents) - 1
        assert (record.published_ms, record.expires) == (entry.published_ms, entry.expires)
        assert record.retracted == entry.contents[-1].retract
        assert record.publisher == entry.publisher
        assert record.digest == digest(entry.contents[-1])
        assert set(record.earlier) == {digest(old) for old in entry.contents} - {record.digest}
    for key in {entry.key for entry in live.values()}:
        newest = max(n for n, entry in live.items() if entry.key == key)
        assert catalog.find(*key) is catalog.get(newest)


# Several nodes


def test_numbers_come_from_whoever_gives_them() -> None:
    publisher = Publisher(Catalog(number=iter((7, 4, 9)).__next__))
    found = [publisher.changed(item(item_id=name)).n for name in "abc"]
    assert found == [7, 4, 9]


def test_without_a_number_nothing_is_accepted_and_nothing_changes() -> None:
    class NoNumberError(Exception):
        pass

    def number() -> int:
        raise NoNumberError

    catalog = Catalog(number=number)
    with pytest.raises(NoNumberError):
        Publisher(catalog).send(item())
    assert len(catalog) == 0
    assert catalog.find("a/b", "x") is None


def test_what_another_node_accepted_is_adopted_once(publisher: Publisher) -> None:
    record = publisher.changed(item())
    other = Catalog()
    assert other.adopt(record)
    assert not other.adopt(record)
    assert other.find("a/b", "x") == record


def test_an_older_version_is_not_adopted_over_a_newer_one(publisher: Publisher) -> None:
    first, second = publisher.changed(item("p")), publisher.changed(item("q"))
    other = Catalog()
    assert other.adopt(second)
    assert not other.adopt(first)
    assert other.get(first.n) == second


def test_versions_are_compared_in_a_circle(publisher: Publisher) -> None:
    last = replace(publisher.changed(item("p")), version=65_535)
    wrapped = replace(last, version=0, digest=b"another")
    other = Catalog()
    other.adopt(last)
    assert other.adopt(wrapped)
    assert not other.adopt(last)


def test_the_successor_of_an_item_that_is_over_is_adopted_whatever_its_number(
    publisher: Publisher,
) -> None:
    first = publisher.changed(item(ttl=10))
    successor = replace(first, n=first.n - 1 or 99, expires=first.expires + 20)
    other = Catalog()
    other.adopt(first)
    assert other.adopt(successor)
    assert other.find("a/b", "x") == successor
    assert not other.adopt(first)
    assert other.expire(first.expires) == [first]
    assert other.find("a/b", "x") == successor


def test_a_higher_rev_of_the_same_content_is_adopted_and_changes_no_feed(
    publisher: Publisher,
) -> None:
    first, second = publisher.changed(item(rev=1)), publisher.changed(item(rev=2))
    other = Catalog()
    other.adopt(first)
    assert not other.adopt(second)
    assert other.get(first.n) == second


def test_what_never_came_to_be_is_corrected_to_what_is_stored(publisher: Publisher) -> None:
    stored = publisher.changed(item("p"))
    void = publisher.changed(item("q"))
    publisher.changed(item("r"))
    publisher.catalog.correct(void, stored)
    assert publisher.catalog.find("a/b", "x") == stored
    assert list(publisher.catalog) == [stored]


def test_a_new_item_that_never_came_to_be_leaves_its_number(publisher: Publisher) -> None:
    void = publisher.changed(item("p"))
    stored = replace(void, n=1_000)
    publisher.catalog.correct(void, stored)
    assert publisher.catalog.get(void.n) is None
    assert publisher.catalog.find("a/b", "x") == stored
    publisher.catalog.correct(stored, None)
    assert len(publisher.catalog) == 0
