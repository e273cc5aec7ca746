"""All that a trainer goes on from, in parts."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from broker.cluster import kept_state
from broker.cluster.kept_state import STATE, KeptState
from feedgen.store.memory_shared import SharedMemory
from tests.broker.support import eventually


class Deaf:
    """Hears of no changes."""

    def members(self, nodes: frozenset[str]) -> None: ...


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of ten bytes."""
    monkeypatch.setattr(kept_state, "PART", 10)


@pytest.fixture
async def world() -> SharedMemory:
    return SharedMemory()


async def joined(world: SharedMemory, name: str = "a") -> Any:
    node = world.node()
    await node.join(name, Deaf())
    return node


@pytest.mark.parametrize("length", [0, 1, 10, 11, 100])
async def test_a_state_comes_back_whole(world: SharedMemory, length: int) -> None:
    store, blob = await joined(world), os.urandom(length)
    assert await KeptState(store).read() is None
    assert await KeptState(store).write(blob, 1)
    assert await KeptState(store).read() == blob


async def test_the_last_one_holds_whatever_its_length(world: SharedMemory) -> None:
    store = await joined(world)
    kept = KeptState(store)
    for length in (100, 5, 50, 0, 70):
        blob = os.urandom(length)
        assert await kept.write(blob, 1)
        assert await KeptState(store).read() == blob


async def test_a_trainer_that_dies_while_it_writes_leaves_the_state_before(
    world: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = await joined(world), await joined(world, "b")
    kept, publish, parts = KeptState(store), store.publish, []
    await kept.write(b"first" * 10, 1)
    await kept.write(b"second" * 10, 1)

    def publish_some(name: str, blob: bytes, token: int) -> Any:
        store.away = len(parts) == 2
        parts.append(name)
        return publish(name, blob, token)

    monkeypatch.setattr(store, "publish", publish_some)
    writing = asyncio.create_task(kept.write(b"third" * 10, 1))
    await eventually(lambda: store.away)
    writing.cancel()
    store.kill()
    heir = KeptState(other)
    assert len(parts) == 3, "two are there, and the others never come"
    assert await heir.read() == b"second" * 10
    await heir.write(b"fourth" * 10, 2)
    assert await KeptState(other).read() == b"fourth" * 10


async def test_who_was_passed_by_changes_nothing(world: SharedMemory) -> None:
    store = await joined(world)
    old, new = KeptState(store), KeptState(store)
    await old.write(b"a" * 30, 1)
    await new.read()
    assert await new.write(b"b" * 30, 2)
    assert not await old.write(b"c" * 30, 1)
    assert await KeptState(store).read() == b"b" * 30


async def test_a_state_that_is_written_while_it_is_read_is_read_again(world: SharedMemory) -> None:
    store, other = await joined(world), await joined(world, "b")
    old = KeptState(other)
    await old.write(b"a" * 200, 1)
    reading = asyncio.create_task(KeptState(store).read())
    await asyncio.sleep(0)
    for letter in (b"b", b"c"):
        await old.write(letter * 200, 1)
    assert await reading in (b"a" * 200, b"b" * 200, b"c" * 200)


@pytest.mark.parametrize("name", [STATE, f"{STATE}.1.0"])
async def test_what_is_damaged_is_as_if_nothing_was_written(world: SharedMemory, name: str) -> None:
    store = await joined(world)
    await KeptState(store).write(b"a" * 30, 1)
    number, _, token = world.published[name]
    world.published[name] = (number, b"nonsense", token)
    assert await KeptState(store).read() is None
