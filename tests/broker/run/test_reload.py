"""A changed configuration: taken in whole or not at all, and said which setting was why."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import trustme

from broker.config import Config
from broker.config_layers import Resolved, resolve
from broker.overload.delays import Delays
from broker.run.reload import (
    OF_A_SERVER,
    LogTarget,
    Outcome,
    Reloader,
    ServerTarget,
    differences,
    reload,
)
from devices.frames import Profile
from devices.packets import Connect, Publish
from tests.broker.support import PATIENCE, Served, eventually, item

Serve = Callable[..., Awaitable[Served]]


@pytest.fixture(autouse=True)
def untouched_root() -> Any:
    """A reload configures the process's log."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def changed(served: Served, **settings: Any) -> Resolved:
    """What would be found after these settings changed."""
    flags = {name.replace("__", "."): value for name, value in settings.items()}
    now = {
        "bind": "127.0.0.1:0",
        "loop": "asyncio",
        "open": True,
        "ranking.model": "popularity",
        **served._settings,
        "data": str(served.data),
    }
    return resolve(None, {}, {**now, **flags})


def reloaded(served: Served, **settings: Any) -> Outcome:
    server = served.server
    return reload(server.config, changed(served, **settings), ServerTarget(server))


def test_every_setting_that_can_change_is_one() -> None:
    known = {each.name for each in differences(Config(), Config())}
    assert known == set()
    everything = resolve(None, {}, {}).values
    assert everything.keys() >= OF_A_SERVER


async def test_a_limit_counts_from_the_next_connection_on(serve: Serve) -> None:
    served = await serve(limits__max_connections=2)
    peers = [await served.connect(f"c{n}") for n in range(2)]
    third = await served.peer()
    await third.expect_closed()
    assert reloaded(served, limits__max_connections=3).problems == ()
    await served.connect("c2")
    fifth = await served.peer()
    await fifth.expect_closed()
    await peers[0].ping()


async def test_times_that_devices_have_change(serve: Serve) -> None:
    served = await serve(feed__stall_after=3_000, feed__stall_close=3_600)
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "x", priority=2))
    await device.frame(ack=False)
    assert not reloaded(served, feed__stall_after=1, feed__stall_close=2).problems
    await device.peer.expect_end()
    await served.counted("closed", "stalled")


async def test_what_devices_may_follow_changes(serve: Serve) -> None:
    served = await serve(feed__permitted=["news/#"])
    device = await served.subscribed("kitchen")
    await device.tell(Profile(follow=("private/x",)))
    await served.counted("dropped", "profile_not_permitted")
    assert not reloaded(served, feed__permitted=["news/#", "private/#"]).problems
    await device.tell(Profile(follow=("private/x",)))
    profile = served.server.registry.get("kitchen")
    assert profile is not None
    await eventually(lambda: "private/x" in profile.follow)


async def test_rights_of_all_are_those_of_the_next_connection(serve: Serve) -> None:
    served = await serve(topics__read=["weather/#"])
    before = await served.connect("a")
    assert await before.subscribe(("traffic/x", 0)) == (0x80,)
    assert not reloaded(served, topics__read=["traffic/#"]).problems
    assert await before.subscribe(("traffic/x", 0)) == (0x80,)
    after = await served.connect("b")
    assert await after.subscribe(("traffic/x", 0)) == (0,)


async def test_the_key_of_tokens_changes_with_its_file(serve: Serve, tmp_path: Path) -> None:
    old, new = (
        "an old key of more than thirty-two bytes",
        "a newer key of more than thirty-two bytes",
    )
    file = tmp_path / "key"
    file.write_text(old)
    served = await serve(open=False, token__key=str(file), token__algorithm="HS256")
    served.server.registry.add("ann")

    async def code(key: str) -> int:
        token = jwt.encode({"sub": "ann", "exp": 4_000_000_000}, key, "HS256").encode()
        peer = await served.peer()
        return (await peer.greet(Connect("", username="ann", password=token))).code

    assert [await code(old), await code(new)] == [0, 4]
    file.write_text(new)
    assert not reloaded(served, open=False).problems  # the same settings
    assert [await code(old), await code(new)] == [4, 0]


class Certificates:
    """A server's certificate in files that can be renewed."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.certificate, self.key = directory / "certificate.pem", directory / "key.pem"
        self.renew()

    def renew(self) -> None:
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        self.certificate.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(self.key))

    def settings(self) -> dict[str, str]:
        return {"tls__certificate": str(self.certificate), "tls__key": str(self.key)}

    async def served_by(self, address: tuple[str, int]) -> bytes:
        """What the port shows now."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        _, writer = await asyncio.open_connection(
            *address, ssl=context, server_hostname="localhost"
        )
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return found


async def test_a_renewed_certificate_is_shown_to_new_clients_and_old_ones_stay(
    serve: Serve, tmp_path: Path
) -> None:
    files = Certificates(tmp_path)
    served = await serve(bind="off", tls__bind="127.0.0.1:0", **files.settings())
    served.tls = ssl.create_default_context()
    files.authority.configure_trust(served.tls)
    served.tls.check_hostname = False
    device = await served.subscribed("kitchen")
    before = await files.served_by(served.address)
    files.renew()
    assert await files.served_by(served.address) == before
    outcome = reloaded(served)
    assert (outcome.changes, outcome.problems) == ((), ())
    assert await files.served_by(served.address) != before
    await device.peer.ping()


async def test_a_certificate_that_cannot_be_used_stops_the_whole_reload(
    serve: Serve, tmp_path: Path
) -> None:
    files = Certificates(tmp_path)
    served = await serve(bind="off", tls__bind="127.0.0.1:0", **files.settings())
    before = await files.served_by(served.address)
    trustme.CA().issue_cert("x.example").private_key_pem.write_to_path(str(files.key))
    outcome = reloaded(served, limits__max_connections=1)
    assert "is not the key of tls.certificate" in outcome.problems[0]
    assert await files.served_by(served.address) == before
    assert served.server.config.limits.max_connections == 50_000
    assert served.server.lane._limits.max_connections == 50_000


async def test_another_budget_holds_for_devices_that_are_there(serve: Serve) -> None:
    served = await serve(budgets__device_frames=4)
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"))
    await device.shows("one")
    await served.publish(item("b", "two"))
    await served.at_rest()
    assert served.server.service.describe("kitchen")["allowance"]["waiting"]
    assert not reloaded(served, budgets__device_frames=0).problems
    await device.shows("two", "one")


async def test_quiet_hours_that_count_no_more_end_for_everybody(serve: Serve) -> None:
    served = await serve()
    device = await served.subscribed("kitchen")
    await device.tell(Profile(attrs={"quiet": "0-12"}))
    other = await served.subscribed("cellar")
    await other.tell(Profile(attrs={"quiet": "12-24"}))
    await eventually(lambda: served.server.service.budgets()["devices_quiet"] == 1)
    assert not reloaded(served, budgets__quiet_hours=False).problems
    assert served.server.service.budgets()["devices_quiet"] == 0
    assert not reloaded(served, budgets__quiet_hours=True).problems
    assert served.server.service.budgets()["devices_quiet"] == 1


async def test_who_is_not_read_for_a_budget_is_read_again_when_there_is_none(serve: Serve) -> None:
    served = await serve(budgets__publisher_items=4)
    publisher = await served.connect("greedy")
    for name in "abc":
        await publisher.publish("items/news", b'{"id": "%s", "payload": "x"}' % name.encode())
    await eventually(lambda: served.server.service.status()["overload"]["publishers_over_budget"])
    assert not reloaded(served, budgets__publisher_items=0).problems
    await publisher.publish("items/news", b'{"id": "d", "payload": "x"}')


async def test_overload_control_that_is_turned_off_ends_its_level(serve: Serve) -> None:
    served = await serve(overload__calm=600.0, overload__samples=1)
    overload = served.server.service.overload
    served.server.service.load.stop()
    overload.observe(Delays(oldest_item=1e9), time.monotonic())
    assert overload.level
    assert not reloaded(served, overload__calm=600.0, overload__enabled=False).problems
    served.server.service.load.start()
    await eventually(lambda: not overload.level)


async def test_a_pace_of_connecting_changes(serve: Serve) -> None:
    served = await serve(overload__connect_rate=500.0)
    assert not reloaded(served, overload__connect_rate=40.0, overload__connect_queue=7).problems
    pace = served.server.service.overload.pace
    assert pace.rate == 40.0
    assert [pace.wait(client, 0.0) for client in range(8)] == [True] * 7 + [False]


async def test_sys_topics_come_as_often_as_is_said_now(serve: Serve) -> None:
    served = await serve(topics__enabled=True, topics__sys_interval=3_600)
    watcher = await served.connect("watcher")
    await watcher.subscribe(("$SYS/broker/uptime", 0))
    first = await watcher.expect(Publish)
    outcome = reloaded(served, topics__enabled=True, topics__sys_interval=1)
    assert [each.name for each in outcome.changes] == ["topics.sys_interval"]
    while (await watcher.expect(Publish)).payload == first.payload:
        pass


async def test_sys_topics_are_turned_off_by_a_restart_only(serve: Serve) -> None:
    served = await serve(topics__enabled=True, topics__sys_interval=3_600)
    outcome = reloaded(served, topics__enabled=True, topics__sys_interval=0)
    assert outcome.problems == ("topics.sys_interval: only a restart turns $SYS on or off.",)


TOKENS = ("the-first-token-of-this-page", "another-token-of-this-page")


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with the first of `TOKENS` in it."""
    file = tmp_path / "token"
    file.write_text(TOKENS[0])
    return file


def change(file: Path, token: str) -> None:
    """Another token is in the file from now on."""
    file.write_text(f"{token}\n")


async def ends(parts: AsyncIterator[bytes]) -> None:
    """Return when a stream is cut off."""
    with pytest.raises(httpx.TransportError):  # noqa: PT012 (any of the parts may be the last)
        async with asyncio.timeout(PATIENCE):
            async for _ in parts:
                pass


def client_of(served: Served, token: str = "") -> httpx.AsyncClient:
    """A program that shows a token, if it has one."""
    assert served.server.web is not None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=served.server.web.url, headers=headers, trust_env=False)


async def statuses(served: Served, path: str = "/metrics") -> list[int]:
    """What each of `TOKENS` opens."""
    found = []
    for token in TOKENS:
        async with client_of(served, token) as client:
            found.append((await client.get(path)).status_code)
    return found


async def test_the_token_of_the_page_changes_with_its_file_and_nobody_goes_on_by_the_old_one(
    serve: Serve, token_file: Path
) -> None:
    settings = {"http__bind": "127.0.0.1:0", "http__token_file": str(token_file)}
    served = await serve(**settings)
    async with client_of(served) as browser, client_of(served, TOKENS[0]) as watcher:
        assert (await browser.post("/login", data={"token": TOKENS[0]})).status_code == 303
        assert (await browser.get("/metrics")).status_code == 200
        async with watcher.stream("GET", "/events") as stream:
            parts = stream.aiter_raw()
            assert b"data:" in await anext(parts)
            assert not reloaded(served, **settings).problems  # the same token: nothing happens
            assert (await browser.get("/metrics")).status_code == 200
            change(token_file, TOKENS[1])
            assert await statuses(served) == [200, 401]
            outcome = reloaded(served, **settings)
            assert (outcome.changes, outcome.problems) == ((), ())
            await ends(parts)
        assert (await browser.get("/metrics")).status_code == 401
    assert await statuses(served) == [401, 200]


async def test_a_file_without_a_token_stops_the_whole_reload(
    serve: Serve, token_file: Path
) -> None:
    settings = {"http__bind": "127.0.0.1:0", "http__token_file": str(token_file)}
    served = await serve(**settings)
    change(token_file, "short")
    outcome = reloaded(served, **settings, limits__max_connections=1)
    assert "must be a token of 16" in outcome.problems[0]
    assert served.server.config.limits.max_connections == 50_000
    assert await statuses(served) == [200, 401]


async def test_names_of_the_page_and_whether_it_sends_change_and_its_address_does_not(
    serve: Serve,
) -> None:
    served = await serve(http__bind="127.0.0.1:0")
    named = {"Host": "feed.example.com"}
    async with client_of(served) as client:
        assert (await client.get("/api/v1/page", headers=named)).status_code == 421
        changes = {"http__hosts": ["feed.example.com"], "http__send": False, "http__refresh": 7}
        assert not reloaded(served, http__bind="127.0.0.1:0", **changes).problems
        page = (await client.get("/api/v1/page", headers=named)).json()
    assert (page["send"], page["refresh"]) == (False, 7)
    outcome = reloaded(served, http__bind="127.0.0.1:1", **changes)
    assert outcome.problems == (
        "http.bind = 127.0.0.1:1 (was 127.0.0.1:0) cannot change without a restart.",
    )


async def test_settings_that_need_a_restart_are_named_and_nothing_changes(serve: Serve) -> None:
    served = await serve()
    outcome = reloaded(
        served,
        bind="127.0.0.1:1",
        limits__max_connections=1,
        feed__max_inflight=2,
        log_level="error",
    )
    assert outcome.problems == (
        "bind = 127.0.0.1:1 (was 127.0.0.1:0) cannot change without a restart.",
        "feed.max_inflight = 2 (was 4) cannot change without a restart.",
    )
    assert outcome.config is served.server.config
    assert outcome.config.limits.max_connections == 50_000
    await served.connect("a")
    await served.connect("b")


async def test_an_invalid_configuration_changes_nothing(serve: Serve) -> None:
    served = await serve()
    outcome = reloaded(served, feed__stall_after=100, feed__stall_close=50, limits__max_sessions=1)
    assert outcome.problems == ("feed: stall_close (50) must be above stall_after (100).",)
    assert served.server.config.limits.max_sessions == 100_000


def test_a_password_in_a_setting_is_in_no_sentence() -> None:
    url = "redis://user:hush@redis.example:6379"
    outcome = reload(Config(), resolve(None, {}, {"store.url": url}), LogTarget())
    (problem,) = outcome.problems
    assert "redis.example" in problem
    assert "hush" not in problem


def test_each_reload_begins_at_the_one_before(caplog: pytest.LogCaptureFixture) -> None:
    found = [
        resolve(None, {}, {"log_level": "debug"}),
        resolve(None, {}, {"log_level": "debug", "log.burst": 7}),
        resolve(None, {}, {"log_level": "loud"}),
    ]
    reloader = Reloader(Config(), lambda: found.pop(0), LogTarget())
    with caplog.at_level(logging.INFO):
        assert [each.name for each in reloader.reload().changes] == ["log_level"]
        assert [str(each) for each in reloader.reload().changes] == ["log.burst = 7 (was 20)"]
        assert reloader.reload().problems
    assert "log_level = 'loud'" in caplog.messages[-1]
    assert caplog.messages[-1].startswith("the configuration is not reloaded, nothing has changed:")
