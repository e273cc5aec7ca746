"""What is said of a Redis that cannot be used, or that may lose what was acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from feedgen.store import StoreError
from feedgen.store.redis import RedisSettings, RedisStore
from feedgen.store.redis.address import Address, parse
from feedgen.store.redis.checks import Facts, durability
from tests.feedgen.store.shared_worlds import Heard
from tests.redis_servers import RedisServer, free_port, redis_sentinels, redis_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from tests.redis_servers import RedisCluster

SETTINGS = RedisSettings(prefix="checks:", timeout=1.0)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that wants a password."""
    with redis_server(tmp_path_factory.mktemp("locked"), password="sesame") as server:
        yield server


async def refused(url: str, settings: RedisSettings = SETTINGS) -> str:
    """What a node that wants to join is told; who opens the store alone is told the same."""
    with pytest.raises(StoreError) as joining:
        await RedisStore(url, settings).join("a", Heard())
    with pytest.raises(StoreError) as opening:
        RedisStore(url, settings).open()
    assert str(opening.value) == str(joining.value)
    return str(joining.value)


class Scripted(asyncio.Protocol):
    """A server that is none, but for what it says."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer(data))


@contextlib.asynccontextmanager
async def scripted(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Its URL."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Scripted(answer), "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_wrong_address_is_said_to_be_one():
    port = free_port()
    assert await refused(f"redis://127.0.0.1:{port}") == (
        f"Redis at 127.0.0.1:{port} refuses connections: start it, or correct the address."
    )


async def test_a_name_that_nobody_knows_is_said_to_be_wrong():
    assert "redis.invalid:6379 cannot be used" in await refused("redis://redis.invalid")


async def test_a_server_that_does_not_answer_is_not_waited_for(redis: RedisServer):
    with redis.halted(), pytest.raises(StoreError, match="has not answered for"):
        await RedisStore(redis.url, replace(SETTINGS, timeout=0.2)).join("a", Heard())


async def test_what_is_no_redis_is_not_taken_for_one():
    async with scripted(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        with pytest.raises(StoreError, match="Protocol error"):
            await RedisStore(url, SETTINGS).join("a", Heard())


async def test_tls_with_a_server_that_has_none_is_an_error(redis: RedisServer):
    assert "cannot be used" in await refused(redis.url.replace("redis://", "rediss://"))


@pytest.mark.parametrize("who", ["", ":wrong-word@", "nobody:wrong-word@"])
async def test_a_password_that_is_missing_or_wrong_is_said_to_be_so_and_not_shown(
    locked: RedisServer, who: str, caplog: pytest.LogCaptureFixture
):
    message = await refused(f"redis://{who}127.0.0.1:{locked.port}")
    assert "password" in message
    assert "wrong-word" not in message + caplog.text


async def test_the_right_password_lets_in_and_is_shown_nowhere(
    locked: RedisServer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    store = RedisStore(locked.url, SETTINGS)
    await store.join("a", Heard())
    assert "sesame" not in repr(store) + repr(parse(locked.url)) + str(parse(locked.url))
    await store.close(clean=True)
    assert "sesame" not in caplog.text


async def test_a_redis_that_throws_data_away_is_refused(tmp_path: Path):
    with redis_server(tmp_path, "maxmemory-policy allkeys-lru", "appendonly yes") as server:
        message = await refused(server.url)
    assert "maxmemory-policy allkeys-lru" in message
    assert "set it to noeviction" in message


async def test_a_redis_that_is_too_old_is_refused():
    info = b"redis_version:6.0.16\r\nredis_mode:standalone\r\nrole:master\r\n"
    reply = b"$%d\r\n%b\r\n*0\r\n" % (len(info), info)

    async with scripted(lambda asked: reply if b"INFO" in asked else b"+PONG\r\n") as url:
        with pytest.raises(StoreError, match=r"version 6\.0\.16: at least 6\.2 is needed"):
            await RedisStore(url, SETTINGS).join("a", Heard())


async def test_a_cluster_is_not_taken_for_a_server(cluster: RedisCluster):
    port = cluster.servers[0].port
    expected = f"write redis+cluster://127.0.0.1:{port} as the store's URL"
    assert expected in await refused(f"redis://127.0.0.1:{port}")


async def test_a_server_is_not_taken_for_a_cluster(redis: RedisServer):
    expected = f"write {redis.url} as the store's URL"
    assert expected in await refused(redis.url.replace("redis:", "redis+cluster:"))


async def test_replicas_and_sentinels_are_not_taken_for_masters(tmp_path: Path):
    with redis_sentinels(tmp_path) as servers:
        assert f"is a replica of 127.0.0.1:{servers.master.port}" in await refused(
            servers.replica.url
        )
        sentinel = servers.sentinels[0].port
        expected = f"write redis+sentinel://127.0.0.1:{sentinel}/<name of the master>"
        assert expected in await refused(servers.sentinels[0].url)
        wrong = f"redis+sentinel://127.0.0.1:{sentinel}/others"
        assert "the sentinels know no master named others" in await refused(wrong)


async def test_persistence_that_is_off_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with redis_server(tmp_path, 'save ""') as server:
        store = RedisStore(server.url, SETTINGS)
        await store.join("a", Heard())
        assert "all that was acknowledged is lost" in store.durability()
        assert store.durability() in caplog.text
        await store.close(clean=True)


async def test_a_server_that_forces_every_write_to_the_disk_is_not_warned_of(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    store = RedisStore(redis.url, SETTINGS)
    await store.join("a", Heard())
    assert "nothing acknowledged is lost" in store.durability()
    assert caplog.text == ""
    await store.close(clean=True)


async def test_what_a_managed_redis_does_not_say_is_said_to_be_unknown(redis: RedisServer):
    redis.ask("ACL", "SETUSER", "guest", "on", ">secret", "~*", "&*", "+@all", "-config")
    store = RedisStore(f"redis://guest:secret@127.0.0.1:{redis.port}", SETTINGS)
    await store.join("a", Heard())
    assert "it does not say how often it is forced there" in store.durability()
    await store.close(clean=True)
    redis.ask("ACL", "DELUSER", "guest")


async def test_other_partitions_and_newer_forms_are_refused(redis: RedisServer):
    settings = replace(SETTINGS, prefix="forms:")
    store = RedisStore(redis.url, settings)
    await store.join("a", Heard())
    await store.close(clean=True)
    message = await refused(redis.url, replace(settings, item_partitions=3))
    assert "made with 16 partitions of items and 256 of devices" in message
    redis.ask("HSET", "forms:{m}:facts", "form", 99)
    assert "A newer version wrote this store (form 99" in await refused(redis.url, settings)


async def test_two_fleets_share_a_server_by_their_prefixes(redis: RedisServer):
    stores = [RedisStore(redis.url, replace(SETTINGS, prefix=f"{name}:")) for name in "xy"]
    for store in stores:
        await store.join("a", Heard())
    await stores[0].claim("kitchen")
    assert (await stores[1].fetch(["kitchen"]))["kitchen"].holder == ""
    for store in stores:
        await store.close(clean=True)


@pytest.mark.parametrize(
    ("facts", "replicas", "expected"),
    [
        (Facts(True, "always", False, 0), 0, "nothing acknowledged is lost."),
        (Facts(True, "everysec", False, 0), 0, "up to about the last second"),
        (Facts(True, "no", False, 0), 0, "what the system had not written to the disk"),
        (
            Facts(False, "everysec", True, 0),
            0,
            "what was acknowledged since the last snapshot is lost",
        ),
        (Facts(False, "everysec", False, 0), 0, "all that was acknowledged is lost"),
        (
            Facts(True, "always", False, 1),
            0,
            "A failover may lose what the replica had not received",
        ),
        (Facts(True, "always", False, 1), 1, "1 replicas have it in memory"),
    ],
)
def test_what_can_be_lost_is_one_sentence(facts: Facts, replicas: int, expected: str):
    assert expected in durability([facts], replicas)


def test_the_weakest_master_decides_what_can_be_lost():
    strong, weak = Facts(True, "always", False, 0), Facts(True, "everysec", False, 0)
    assert durability([strong, weak], 0) == durability([weak], 0)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", Address("server", (("127.0.0.1", 6379),))),
        ("redis://h:1/2", Address("server", (("h", 1),), db=2)),
        ("redis://:p%40ss@h", Address("server", (("h", 6379),), password="p@ss")),
        ("rediss://u:p@h", Address("server", (("h", 6379),), user="u", password="p", tls=True)),
        ("redis://[::1]:7", Address("server", (("::1", 7),))),
        ("redis+cluster://a:1,b", Address("cluster", (("a", 1), ("b", 6379)))),
        ("redis+sentinel://a,b:2/m/3", Address("sentinel", (("a", 26379), ("b", 2)), "m", db=3)),
    ],
)
def test_a_url_is_read(url: str, expected: Address):
    assert parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "h:6379",
        "redis://:hidden@h:x",
        "redis://:hidden@h:70000",
        "redis://:hidden@h/x",
        "redis://:hidden@a,b",
        "redis+sentinel://:hidden@h",
        "redis+cluster://:hidden@h/1",
        "redis+other://:hidden@h",
    ],
)
def test_a_url_that_is_none_is_refused_without_showing_it(url: str):
    with pytest.raises(StoreError) as raised:
        parse(url)
    assert "hidden" not in str(raised.value)
