"""Popularity that all nodes count together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from broker.cluster import shared_counts
from broker.cluster.shared_counts import COUNTS, SharedCounts
from broker.counters import Counters
from feedgen.engine import Engine
from feedgen.ranking.value import Settings
from feedgen.store.memory_shared import SharedMemory
from tests.broker.cluster.learning_nodes import record
from tests.broker.support import eventually


class CountingNode:
    """A node that ranks by popularity, as far as that is concerned."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.counters = Counters()
        self.woken = 0
        self.engine = Engine(landmark=time.time(), settings=Settings())
        records = [record(n, "news", time.time() - n) for n in range(1, 4)]
        self.engine.publish(records, [each.n << 8 | 1 for each in records])
        self.seat = self.engine.seat(follow=("#",), attrs={}, k=8, capacity=100, device="d")
        self.counts = SharedCounts(self.engine, store, self.counters, self._wake)
        self.work()

    def _wake(self) -> None:
        self.woken += 1

    def work(self) -> None:
        while self.engine.busy:
            self.engine.step(time.time())

    def window(self) -> list[int]:
        self.work()
        return self.engine.window(self.seat)

    def told(self, kind: str, body: bytes, node: str) -> None:  # noqa: ARG002 - whoever it is
        self.counts.told(kind, body)

    def members(self, nodes: frozenset[str]) -> None: ...


@pytest.fixture
async def nodes(monkeypatch: pytest.MonkeyPatch) -> list[CountingNode]:
    """Two of them."""
    monkeypatch.setattr(shared_counts, "_EVERY", 0.02)
    world, found = SharedMemory(), []
    for name in ("a", "b"):
        found.append(CountingNode(world.node()))
        await found[-1].store.join(name, found[-1])
    return found


def heard(node: CountingNode, times: int) -> None:
    """The oldest item is what people open."""
    for _ in range(times):
        node.counts.feedback(3, shown=1)
        node.counts.feedback(3, opened=1)
    for _ in range(times):
        node.counts.feedback(1, shown=1)
        node.counts.feedback(1, dismissed=1)


async def test_what_devices_of_one_node_open_rises_at_all(nodes: Sequence[CountingNode]) -> None:
    one, other = nodes
    assert one.window() == other.window() == [1, 2, 3]
    heard(one, 200)
    await eventually(other.window, lambda window: window[0] == 3)
    assert other.window() == one.window() == [3, 2, 1]
    assert other.woken


async def test_counts_of_several_nodes_add_up_and_come_back_to_nobody(
    nodes: Sequence[CountingNode],
) -> None:
    one, other = nodes
    heard(one, 30)
    heard(other, 12)
    await eventually(lambda: one.engine._feedback[3] == other.engine._feedback[3] == [42, 42, 0])
    for node in nodes:
        assert node.engine._feedback[1] == [42, 0, 42]


async def test_a_second_of_feedback_is_one_word(
    nodes: Sequence[CountingNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bytes] = []
    one, _ = nodes
    tell: Callable[..., None] = one.store.tell
    monkeypatch.setattr(one.store, "tell", lambda kind, body: (told.append(body), tell(kind, body)))
    heard(one, 500)
    await eventually(lambda: told)
    assert len(told) == 1
    assert len(told[0]) == 2 * 32


@pytest.mark.parametrize(
    "body",
    [b"123", bytes(33), np.array([1, -1, 0, 0], "<i8").tobytes()],
    ids=["3", "33", "below 0"],
)
async def test_what_cannot_be_read_is_counted_and_changes_nothing(
    nodes: Sequence[CountingNode], body: bytes
) -> None:
    node = nodes[0]
    node.counts.told(COUNTS, body)
    assert node.counters.dropped["counts_unreadable"] == 1
    assert not node.engine._feedback


async def test_word_of_other_things_is_passed_over(nodes: Sequence[CountingNode]) -> None:
    nodes[0].counts.told("something", b"else")
    assert not nodes[0].counters.dropped


async def test_what_is_counted_after_the_store_was_closed_is_counted_as_dropped(
    nodes: Sequence[CountingNode],
) -> None:
    node = nodes[0]
    await node.store.close(clean=True)
    node.counts.feedback(1, shown=1)
    node.counts.tell()
    assert node.counters.dropped["counts_after_the_end"] == 1
