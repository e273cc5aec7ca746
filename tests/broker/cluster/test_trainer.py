"""One trainer, many who serve what it learned."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import pytest

from broker.cluster import trainer, training
from devices.frames import Kind
from feedgen.ranking.feedback_batches import MAX_EVENTS
from feedgen.ranking.rungs import Rung
from feedgen.store.memory_shared import SharedMemory
from feedgen.store.redis.settings import RedisSettings
from feedgen.store.redis.store import RedisStore
from tests.broker.cluster.learning_nodes import LearningNode, record
from tests.broker.support import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.redis_servers import RedisServer

    Join = Callable[..., Awaitable[LearningNode]]

DEVICES = [f"device-{number}" for number in range(12)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes a fraction of one."""
    for module in (trainer, training):
        monkeypatch.setattr(module, "LEASE", 0.5)
    monkeypatch.setattr(training, "KEEP_EVERY", 0.1)
    monkeypatch.setattr(training, "_LONGEST", 0.1)
    monkeypatch.setattr(trainer, "_SEND_EVERY", 0.02)


@pytest.fixture
def world() -> SharedMemory:
    """What the nodes share."""
    return SharedMemory(lease=0.5)


@pytest.fixture
async def join(world: SharedMemory, tmp_path: Path) -> AsyncIterator[Join]:
    """Makes nodes, by name; they end with the test."""
    nodes: list[LearningNode] = []

    async def join(name: str, **options: Any) -> LearningNode:
        node = await LearningNode.joined(name, world.node(), tmp_path, **options)
        nodes.append(node)
        return node

    yield join
    for node in nodes:
        if node.name in world.nodes:
            node.store.away = False
            await node.stop()


def trains(*nodes: LearningNode) -> LearningNode | None:
    """The node that trains, None if there is not exactly one."""
    found = [node for node in nodes if node.learning.trainer is not None]
    return found[0] if len(found) == 1 else None


def items(first: int = 1) -> list[Any]:
    """What is tedious is newer, and so stands first by age alone."""
    channels = ["pleasant"] * 4 + ["tedious"] * 4
    start = time.time() - 100
    return [record(first + at, channel, start + at) for at, channel in enumerate(channels)]


async def publish(*nodes: LearningNode, first: int = 1) -> None:
    for node in nodes:
        node.publish(*items(first))


async def learned(count: int, *nodes: LearningNode) -> None:
    """Wait until so many outcomes were learned, by whom it may be, and served by all."""
    await eventually(lambda: sum(node.counters.ranking["learned"] for node in nodes) >= count)
    chief = trains(*nodes)
    assert chief is not None
    chief_trainer = chief.learning.trainer
    assert chief_trainer is not None
    await eventually(
        lambda: (
            not chief_trainer.ranking._learned
            and all(node.ranking.version == chief_trainer.ranking.version for node in nodes)
        )
    )


async def test_what_devices_open_at_one_node_ranks_the_windows_of_all(join: Join) -> None:
    nodes = [await join(name) for name in ("a", "b", "c")]
    await publish(*nodes)
    for node in nodes:
        assert node.channels("someone")[0] == "tedious"
    await eventually(lambda: trains(*nodes))
    # At a node that does not train, too.
    other = next(node for node in nodes if node is not trains(*nodes))
    await learned(other.react(DEVICES, ["pleasant"]), *nodes)
    for node in nodes:
        await eventually(lambda node=node: node.channels("newcomer")[0] == "pleasant")


async def test_exactly_one_node_trains(join: Join) -> None:
    nodes = [await join(name) for name in ("a", "b", "c")]
    chief = await eventually(lambda: trains(*nodes))
    assert chief is not None
    for node in nodes:
        status = await eventually(
            node.learning.status, lambda status: status["trainer"]["age"] is not None
        )
        assert status["trainer"]["node"] == chief.name
        assert status["trainer"]["here"] == (node is chief)
        assert status["trainer"]["sampled"] == 1.0
        assert status["trainer"]["backlog"] == 0
        assert 0 <= status["trainer"]["age"] < 60


async def test_another_node_goes_on_with_what_a_killed_trainer_knew(join: Join) -> None:
    nodes = [await join(name) for name in ("a", "b")]
    await publish(*nodes)
    chief = await eventually(lambda: trains(*nodes))
    (other,) = [node for node in nodes if node is not chief]
    await learned(chief.react(DEVICES, ["pleasant"]), *nodes)
    kept = chief.learning.trainer.ranking._learners.models[0].learned
    saved = chief.counters.ranking["saved"]
    await eventually(lambda: chief.counters.ranking["saved"] > saved + 1)
    version = other.ranking.version
    await chief.die()
    # What is reported while nobody trains waits in the store.
    more = other.react([f"late-{number}" for number in range(6)], ["pleasant"])
    await eventually(lambda: other.learning.trainer)
    ranking = other.learning.trainer.ranking
    assert ranking._learners.models[0].learned >= kept
    await eventually(lambda: ranking._learners.models[0].learned == kept + more)
    await eventually(lambda: other.ranking.version > version)
    assert other.channels("newcomer")[0] == "pleasant"


async def test_a_trainer_that_leaves_hands_over_at_once_all_that_it_knows(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [await join(name) for name in ("a", "b")]
    await publish(*nodes)
    chief = await eventually(lambda: trains(*nodes))
    (other,) = [node for node in nodes if node is not chief]
    monkeypatch.setattr(training, "KEEP_EVERY", 1000.0)
    await learned(other.react(DEVICES, ["pleasant"]), *nodes)
    kept = chief.learning.trainer.ranking._learners.models[0].learned
    await chief.stop()
    await eventually(lambda: other.learning.trainer)
    assert other.learning.trainer.ranking._learners.models[0].learned == kept


async def test_a_trainer_that_was_cut_off_publishes_nothing_and_steps_down(join: Join) -> None:
    nodes = [await join(name) for name in ("a", "b")]
    await publish(*nodes)
    chief = await eventually(lambda: trains(*nodes))
    (other,) = [node for node in nodes if node is not chief]
    old = chief.learning.trainer
    chief.store.away = True
    await eventually(lambda: not old.held)
    await eventually(lambda: other.learning.trainer)
    await learned(other.react(DEVICES, ["pleasant"]), other)
    version = other.ranking.version
    assert version == other.learning.trainer.ranking.version
    # Back again, with something to say of its own.
    old.ranking.version = version + 1000
    chief.store.away = False
    await eventually(lambda: chief.learning.trainer is None)
    await eventually(lambda: chief.ranking.version >= version)
    assert chief.ranking.version < version + 1000
    assert other.ranking.version < version + 1000
    assert trains(*nodes) is other


async def test_a_fenced_publication_ends_the_trainer(join: Join, world: SharedMemory) -> None:
    node = await join("a")
    found = await eventually(lambda: node.learning.trainer)
    # Somebody with a higher token has published meanwhile.
    world.published[training.SERVED] = (99, b"", found.token + 1)
    found._all_moved = True
    await eventually(lambda: not found.held)
    assert world.published[training.SERVED][1] == b""


async def test_feedback_waits_while_the_store_is_away_and_is_learned_then(join: Join) -> None:
    nodes = [await join(name) for name in ("a", "b")]
    await publish(*nodes)
    chief = await eventually(lambda: trains(*nodes))
    (other,) = [node for node in nodes if node is not chief]
    other.store.away = True
    impressions = other.react(DEVICES, ["pleasant"])
    other.store.away = False
    await learned(impressions, *nodes)


async def test_a_pinned_rung_holds_at_every_node_and_at_the_next_trainer(join: Join) -> None:
    nodes = [await join(name) for name in ("a", "b")]
    chief = await eventually(lambda: trains(*nodes))
    (other,) = [node for node in nodes if node is not chief]
    other.learning.pin(Rung.NEWEST, time.time())
    assert other.ranking.rung is Rung.NEWEST
    await other.learning.save()
    await eventually(lambda: all(node.ranking.rung is Rung.NEWEST for node in nodes))
    assert chief.learning.trainer.ranking.rung is Rung.NEWEST
    third = await join("c")
    await eventually(lambda: third.ranking.rung is Rung.NEWEST)
    await chief.stop()
    rest = [other, third]
    heir = await eventually(lambda: trains(*rest))
    assert heir.learning.trainer.ranking.rung is Rung.NEWEST
    third.learning.pin(None, time.time())
    await eventually(lambda: all(node.ranking.rung is Rung.LIVE for node in rest))


async def test_a_fall_of_the_trainer_is_followed_by_all(join: Join) -> None:
    nodes = [await join(name) for name in ("a", "b")]
    chief = await eventually(lambda: trains(*nodes))
    ranking = chief.learning.trainer.ranking
    ranking.ladder.chosen = Rung.POPULARITY
    chief.learning.trainer._all_moved = True
    await eventually(lambda: all(node.ranking.rung is Rung.POPULARITY for node in nodes))
    for node in nodes:
        assert node.counters.ranking["fell"] == 1


async def test_the_snapshot_comes_to_nodes_that_join_later(join: Join) -> None:
    first = await join("a")
    found = await eventually(lambda: first.learning.trainer)
    found.ranking.snapshot = found.ranking.live
    found._all_moved = True
    later = await join("b")
    await eventually(lambda: later.ranking.snapshot)


async def test_a_node_that_warms_up_serves_what_was_learned_before_any_device_comes(
    join: Join, world: SharedMemory, tmp_path: Path
) -> None:
    first = await join("a")
    await publish(first)
    await eventually(lambda: first.learning.trainer)
    await learned(first.react(DEVICES, ["pleasant"]), first)
    fresh = LearningNode("b", world.node(), tmp_path)
    await fresh.store.join("b", fresh)
    await publish(fresh)
    await fresh.learning.warm_up()
    fresh.work()
    assert fresh.ranking.version > 1
    assert fresh.channels("newcomer")[0] == "pleasant"
    await fresh.learning.stop()
    await fresh.store.close(clean=True)


async def test_what_is_published_but_damaged_is_counted_and_the_old_goes_on(
    join: Join,
) -> None:
    node = await join("a")
    found = await eventually(lambda: node.learning.trainer)
    await eventually(lambda: node.ranking.version > 1)
    version = node.ranking.version
    await node.store.publish(training.SERVED, b"nonsense", found.token)
    await eventually(lambda: node.learning.dropped["ranking_unreadable"] == 1)
    assert node.ranking.version == version
    found._all_moved = True
    await eventually(
        lambda: node.ranking.version >= version and node.learning._seen[training.SERVED] > 2
    )


async def test_damaged_feedback_is_counted_and_the_rest_is_learned(join: Join) -> None:
    node = await join("a")
    await publish(node)
    await eventually(lambda: node.learning.trainer)
    node.store.feedback(b"nonsense")
    await learned(node.react(DEVICES, ["pleasant"]), node)
    assert node.learning.dropped["feedback_unreadable"] == 1


async def test_feedback_goes_in_batches_of_a_bounded_size(join: Join) -> None:
    node = await join("a")
    await node.pause()
    await publish(node)
    for _ in range(2 * MAX_EVENTS + 1):
        node.hear("someone", 1, Kind.DWELL, 5)
    assert node.counters.ranking["told"] == 2 * MAX_EVENTS, "what is full is sent at once"
    await eventually(lambda: node.counters.ranking["told"] == 2 * MAX_EVENTS + 1)
    node.go_on()
    await eventually(lambda: node.counters.ranking["sampled"] == 2 * MAX_EVENTS + 1)


async def test_a_trainer_that_cannot_keep_pace_learns_from_a_sample(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_PACE_EVERY", 0.05)
    slow = training.TrainerSettings(budget=1e-6)
    node = await join("a", training=slow)
    await publish(node)
    await eventually(lambda: node.learning.trainer)
    node.react(DEVICES, ["pleasant"])
    await eventually(lambda: node.learning.trainer.ranking.sample.share < 1)
    assert node.learning.status()["trainer"]["sampled"] < 1


async def test_nodes_tell_what_was_eligible_so_that_exposure_is_balanced(join: Join) -> None:
    nodes = [await join(name) for name in ("a", "b")]
    chief = await eventually(lambda: trains(*nodes))
    ranking = chief.learning.trainer.ranking
    for node in nodes:
        node.seat("someone")
        node.publish(*(record(n, "pleasant") for n in range(100, 104)))
        node.learning._eligible_at = 0.0
    await eventually(lambda: len(ranking._told) == 2)
    groups, worth = ranking.eligible(time.time())
    assert len(groups) == len(worth) == 2
    assert (worth > 0).all()


async def test_over_a_real_redis_what_was_learned_reaches_all_and_outlives_its_trainer(
    redis: RedisServer, tmp_path: Path
) -> None:
    prefix = f"learning-{secrets.token_hex(4)}:"
    nodes = []
    for name in ("a", "b", "c"):
        store = RedisStore(redis.url, RedisSettings(prefix=prefix))
        nodes.append(await LearningNode.joined(name, store, tmp_path))
    await publish(*nodes)
    chief = await eventually(lambda: trains(*nodes))
    rest = [node for node in nodes if node is not chief]
    await learned(rest[0].react(DEVICES, ["pleasant"]), *nodes)
    for node in nodes:
        await eventually(lambda node=node: node.channels("newcomer")[0] == "pleasant")
    rest[1].learning.pin(Rung.POPULARITY, time.time())
    await eventually(lambda: all(node.ranking.rung is Rung.POPULARITY for node in nodes))
    kept = chief.learning.trainer.ranking._learners.models[0].learned
    await chief.stop()
    heir = await eventually(lambda: trains(*rest))
    assert heir.learning.trainer.ranking._learners.models[0].learned == kept
    assert heir.learning.trainer.ranking.rung is Rung.POPULARITY
    for node in rest:
        await node.stop()
