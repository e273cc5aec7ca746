"""The parts of the fault suite for several nodes: windows, plans, routes, costs, Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from broker.commands import fault_nodes, fault_redis
from broker.commands.fault_redis import RedisCluster
from broker.commands.fault_store import Stored, StoreWitness, sorted_window
from broker.commands.shell import Failure
from devices.profile import Profile
from feedgen.items import Item, Record
from feedgen.ranking.value import Settings
from feedgen.store.redis.link import ReplyError
from feedgen.store.redis.settings import RedisSettings
from simulator.faults.availability import Absence, Absences, Attendance
from simulator.faults.plan import Kind, draw_for_nodes
from simulator.faults.route import Route
from simulator.faults.server import NODE_LEASE, ServerFault

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000


def record(n: int, *, at: float = 0.0, channel: str = "a", **more: object) -> Record:
    ttl = 600
    item = Item(channel, f"id-{n}", "x", ttl=ttl, **more)  # type: ignore[arg-type]
    return Record(n, 0, item, round(1_000 * (NOW + at)), NOW + ttl, b"digest")


def stored(*barred: int, **profile: object) -> Stored:
    made = Profile("kitchen", **{"follow": ("#",), "k": 3, **profile})  # type: ignore[arg-type]
    return Stored(made, "node-1", frozenset(barred))


def window(of: Stored, *records: Record) -> list[int]:
    return sorted_window(of, records, Settings(), NOW + 10)


# ---- The window that follows from what is stored


def test_a_window_is_the_k_newest_items_by_priority() -> None:
    items = [record(n, at=n) for n in (1, 2, 3, 4)]
    assert window(stored(), *items) == [4, 3, 2]
    assert window(stored(), *items, record(5, at=0, priority=3)) == [5, 4, 3]


def test_a_window_has_what_is_followed_concerns_the_device_fits_and_lives() -> None:
    assert window(stored(follow=("b",)), record(1), record(2, channel="b")) == [2]
    assert window(stored(), record(1, where=(("region", ("n",)),))) == []
    assert window(stored(attrs={"region": "n"}), record(1, where=(("region", ("n",)),))) == [1]
    long = record(3)
    long = replace(long, item=replace(long.item, payload="x" * 200))
    assert window(stored(budget=128), record(1), long) == [1]
    assert set(window(stored(budget=600), record(1), long)) == {1, 3}
    assert window(stored(1), record(1), record(2)) == [2]
    assert sorted_window(stored(), [record(1)], Settings(), NOW + 600) == []
    assert sorted_window(Stored(None, "", frozenset()), [record(1)], Settings(), NOW) == []


def test_of_a_collapse_key_only_the_newest_has_a_place_even_if_it_is_dismissed() -> None:
    contest = [record(1, at=1, collapse="q"), record(2, at=2, collapse="q"), record(3, at=3)]
    assert window(stored(), *contest) == [3, 2]
    assert window(stored(2), *contest) == [3]


def test_who_follows_more_closely_sees_it_higher() -> None:
    both = stored(follow=("#", "a/b"))
    assert window(both, record(1, at=0, channel="a/b"), record(2, at=60)) == [1, 2]


# ---- What is drawn, who connects where, what it cost


def test_ten_rounds_have_everything_that_can_happen_to_nodes_and_their_redis() -> None:
    plans = [draw_for_nodes(seed) for seed in range(7, 17)]
    assert len({plan.kinds[0] for plan in plans}) == len(plans)
    assert all(plan.throughout for plan in plans)
    sick = [plan for seed in range(200) if len((plan := draw_for_nodes(seed)).kinds) > 1]
    assert 60 < len(sick) < 140
    assert draw_for_nodes(3, Kind.FREEZE).kinds == (Kind.FREEZE,)
    assert not draw_for_nodes(4, Kind.RACE).outage
    assert draw_for_nodes(4, Kind.FAILOVER).outage


def test_a_client_of_several_addresses_goes_round() -> None:
    route = Route([lambda: ("a", 1), lambda: ("b", 2), lambda: ("c", 3)], first=4)
    assert (route.home, route.places) == (1, 3)
    assert [route() for _ in range(4)] == [("b", 2), ("c", 3), ("a", 1), ("b", 2)]
    assert route.place == 1


def test_a_failover_ends_with_the_first_item_that_was_published_after_the_fault() -> None:
    seen = Attendance(["near", "far"], now=100.0)
    seen.shown("near", published=100.1, now=100.2)
    seen.struck(["near"], now=101.0)
    seen.struck(["near"], now=101.5)  # once is enough
    seen.shown("near", published=100.9, now=101.8)  # on its way before
    seen.shown("near", published=101.2, now=102.5)
    seen.without_accept = 0.3
    absence = seen.end(now=103.0)
    assert absence.failovers == (1.5,)
    assert absence.without_items == 3.0  # of the other device, which showed nothing
    assert absence.without_accept == 0.3


def test_who_is_never_served_again_is_counted_up_to_the_end() -> None:
    seen = Attendance(["near"], now=0.0)
    seen.struck(["near"], now=1.0)
    assert seen.end(now=9.0).failovers == (8.0,)


def test_what_faults_cost_is_told_by_kind() -> None:
    absences = Absences()
    absences.add("kill", Absence((0.1, 0.3), 0.5, 0.2, 0.1))
    absences.add("kill", Absence((0.2,), 0.4, 0.6, 0.1))
    absences.add("race", Absence())
    table = absences.table()
    assert table["kill"] == {
        "rounds": 2,
        "failovers": 3,
        "failover_p50_s": 0.2,
        "failover_p99_s": 0.3,
        "without_items_s": 0.5,
        "without_accept_s": 0.6,
        "without_connection_s": 0.1,
    }
    assert table["race"]["failover_p50_s"] is None


# ---- Redis


def test_without_redis_server_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Failure, match="redis-server is not on the PATH"):
        fault_nodes.run(nodes=3, rounds=1, seed=1, devices=2, only=None, keep=None, as_json=True)


def test_the_suite_knows_when_a_node_counts_as_dead() -> None:
    assert RedisSettings().lease == NODE_LEASE


async def test_a_replica_takes_the_place_of_its_master_by_force_or_in_order(tmp_path: Path) -> None:
    cluster = RedisCluster(tmp_path / "redis", "always")
    witness = StoreWitness(cluster.url(), RedisSettings())
    try:
        await cluster.start()
        await cluster.kill(1)
        with pytest.raises(ServerFault, match="no master"):
            await cluster.kill(1)
        await cluster.promoted(1)
        await cluster.start_again()
        await cluster.well()
        await cluster.fail_over(2)
        await cluster.well()
        assert await witness.records() == []
        assert (await witness.devices(["kitchen"]))["kitchen"].profile is None
        await cluster.kill_all()
        with pytest.raises((OSError, ReplyError)):
            await cluster.servers[0].ask("PING")
        assert await cluster.servers[0].role() == ""
        with pytest.raises(ServerFault, match="not here within 0 s"):
            await fault_redis.until(cluster.servers[0].answers, "it is not here", seconds=0.0)
    finally:
        await witness.close()
        await cluster.close()
