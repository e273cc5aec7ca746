"""People and services: how they prove who they are, and what they may do."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from broker.access.passwords import check_password, hash_password
from broker.admin.offline import Offline
from broker.config_layers import load
from broker.control import ControlError
from devices.packets import Connect, Will
from devices.profile import Profile
from tests.broker.support import (
    CLEAN_ENVIRONMENT,
    PATIENCE,
    ROOT,
    Peer,
    Served,
    eventually,
    item,
)

Serve = Callable[..., Awaitable[Served]]

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def closed(serve: Serve) -> Served:
    """A server on which only those whom an operator added are welcome."""
    return await serve(open=False)


@pytest.fixture(scope="module")
def hashed() -> str:
    return hash_password(PASSWORD)


async def code_for(served: Served, name: str, password: str | bytes) -> int:
    """What the server answers who logs in."""
    peer = await served.peer()
    secret = password.encode() if isinstance(password, str) else password
    return (await peer.greet(Connect("laptop-1", username=name, password=secret))).code


async def logged_in(served: Served, name: str, password: str) -> Peer:
    return await served.connect("laptop-1", username=name, password=password.encode())


async def granted(peer: Peer, topic_filter: str) -> bool:
    """Whether the server takes a subscription."""
    return await peer.subscribe((topic_filter, 1)) != (0x80,)


def body(id_: str, payload: str) -> bytes:
    """An item as it stands in a PUBLISH."""
    return json.dumps(item(id_, payload)).encode()


def publishers(served: Served) -> dict[str, str]:
    """Whose each item is, by its id."""
    return {record.item.id: record.publisher for record in served.server.service.catalog}


# ---- On a running server


async def test_more_than_may_fail_come_in_at_one_time_with_the_right_password(
    serve: Serve, hashed: str
) -> None:
    closed = await serve(open=False, auth__login_failures=2)
    await closed.command("user.add", user="ann", password=hashed, publish=["#"])
    peers = [await closed.peer() for _ in range(5)]
    greetings = (
        peer.greet(Connect(f"laptop-{i}", username="ann", password=PASSWORD.encode()))
        for i, peer in enumerate(peers)
    )
    assert [connack.code for connack in await asyncio.gather(*greetings)] == [0] * 5


async def test_a_user_logs_in_with_the_password_and_nothing_else(
    closed: Served, hashed: str
) -> None:
    done = await closed.command("user.add", user="ann", password=hashed)
    assert done == {"user": "ann", "secret": None}
    assert await code_for(closed, "ann", PASSWORD) == 0
    for wrong in ("", PASSWORD[:-1], hashed):
        assert await code_for(closed, "ann", wrong) == 4


async def test_a_service_logs_in_with_the_secret_that_was_made(closed: Served) -> None:
    added = await closed.command("user.add", user="news-desk", publish=["news/#"])
    assert await code_for(closed, "news-desk", added["secret"]) == 0
    assert await code_for(closed, "news-desk", "x") == 4


async def test_a_user_does_what_it_has_rights_to(closed: Served, hashed: str) -> None:
    rights = {"publish": ["news/#"], "read": ["home/#"], "write": ["home/lamp"]}
    await closed.command("user.add", user="ann", password=hashed, **rights)
    peer = await logged_in(closed, "ann", PASSWORD)
    await peer.publish("items/news/a", b"one")
    assert closed.count("items", "received") == 1
    await peer.publish("items/alerts", b"two")
    assert closed.count("dropped", "publish_not_permitted") == 1
    assert closed.count("items", "received") == 1
    assert await granted(peer, "home/+")
    assert not await granted(peer, "#")
    assert not await granted(peer, "office/#")
    assert not await granted(peer, "$SYS/#")


async def test_an_item_is_of_the_user_that_published_it(closed: Served, hashed: str) -> None:
    for name in ("ann", "ben"):
        await closed.command("user.add", user=name, password=hashed, publish=["#"])
    peer = await logged_in(closed, "ann", PASSWORD)
    await peer.publish("items/news", body("a", "first"))
    await peer.publish("items/news", body("b", "hers"))
    peer = await logged_in(closed, "ben", PASSWORD)
    await peer.publish("items/news", body("a", "second"))
    await peer.publish("items/news", body("b", "hers"))  # again, which takes nothing over
    assert publishers(closed) == {"a": "ben", "b": "ann"}
    await closed.restart()
    assert publishers(closed) == {"a": "ben", "b": "ann"}


async def test_a_will_is_an_item_of_the_user_that_left_it(closed: Served, hashed: str) -> None:
    await closed.command("user.add", user="ann", password=hashed, publish=["#"])
    will = Will("items/news", body("w", "the sensor is gone"), 1)
    peer = await closed.connect("laptop-1", username="ann", password=PASSWORD.encode(), will=will)
    await peer.drop()
    await closed.counted("items", "new")
    assert publishers(closed) == {"w": "ann"}


async def test_a_name_that_nobody_vouched_for_publishes_nothing_of_its_own(served: Served) -> None:
    peer = await served.connect("ann", username="ann")
    await peer.publish("items/news", body("a", "of anybody"))
    assert publishers(served) == {"a": ""}


async def test_only_operators_read_what_the_server_says_of_itself(
    closed: Served, hashed: str
) -> None:
    await closed.command("user.add", user="ann", password=hashed, operator=True)
    peer = await logged_in(closed, "ann", PASSWORD)
    assert await granted(peer, "$SYS/broker/#")
    assert not await granted(peer, "home/#")


async def test_a_changed_password_ends_connections_and_every_credential_of_before(
    closed: Served, hashed: str
) -> None:
    added = await closed.command("user.add", user="ann", publish=["#"])
    await closed.command("device.rotate", device="ann")
    peer = await logged_in(closed, "ann", added["secret"])
    await closed.command("user.password", user="ann", password=hashed)
    await peer.expect_closed()
    assert closed.count("closed", "password_changed") == 1
    assert await code_for(closed, "ann", added["secret"]) == 4
    assert await code_for(closed, "ann", PASSWORD) == 0
    (ann,) = (await closed.command("user.list"))["users"]
    assert ann["credentials"] == ["password"]
    again = await closed.command("user.password", user="ann")
    assert await code_for(closed, "ann", PASSWORD) == 4
    assert await code_for(closed, "ann", again["secret"]) == 0


async def test_changed_rights_hold_at_once_for_who_is_connected(
    closed: Served, hashed: str
) -> None:
    await closed.command("user.add", user="ann", password=hashed, publish=["#"])
    peer = await logged_in(closed, "ann", PASSWORD)
    changed = await closed.command("user.rights", user="ann", read=["home/#"])
    assert changed["rights"] == {"read": ["home/#"]}
    await peer.expect_closed()
    assert closed.count("closed", "rights_changed") == 1
    peer = await logged_in(closed, "ann", PASSWORD)
    await peer.publish("items/news", b"one")
    assert closed.count("dropped", "publish_not_permitted") == 1


async def test_what_a_device_may_follow_stays_unless_it_is_named(closed: Served) -> None:
    await closed.command("device.add", device="kitchen", may_follow=["news/#"])
    changed = await closed.command("user.rights", user="kitchen", publish=["status"])
    assert changed["rights"] == {"publish": ["status"], "may_follow": ["news/#"]}
    changed = await closed.command("user.rights", user="kitchen", may_follow=["a/#"])
    assert changed["rights"] == {"may_follow": ["a/#"]}


async def test_a_password_is_nowhere_but_in_the_head_of_its_owner(
    closed: Served, hashed: str
) -> None:
    await closed.command("user.add", user="ann", password=hashed)
    assert hashed not in json.dumps(await closed.command("user.list"))
    assert hashed not in json.dumps(await closed.command("device.show", device="ann"))
    await closed.restart()
    assert await code_for(closed, "ann", PASSWORD) == 0
    kept = b"".join(path.read_bytes() for path in closed.data.iterdir() if path.is_file())
    assert PASSWORD.encode() not in kept


async def test_a_password_is_changed_by_choosing_another_and_not_by_rotation(
    closed: Served, hashed: str
) -> None:
    await closed.command("user.add", user="ann", password=hashed)
    with pytest.raises(ControlError, match="use 'fleetfeed user password ann'"):
        await closed.command("device.rotate", device="ann")


async def test_users_are_those_with_rights_or_a_password(closed: Served, hashed: str) -> None:
    await closed.command("device.add", device="kitchen", may_follow=["news/#"])
    await closed.command("device.add", device="station", publish=["news"])
    await closed.command("user.add", user="bob", password=hashed)
    await closed.command("user.add", user="ann", password=hashed, operator=True)
    await closed.command("device.revoke", device="bob")
    listed = await closed.command("user.list")
    assert [(each["user"], each["revoked"]) for each in listed["users"]] == [
        ("ann", False),
        ("bob", True),
        ("station", False),
    ]
    assert not listed["more"]
    first = await closed.command("user.list", limit=1)
    assert [each["user"] for each in first["users"]] == ["ann"]
    assert first["more"]
    rest = await closed.command("user.list", after="ann", limit=2)
    assert [each["user"] for each in rest["users"]] == ["bob", "station"]


async def test_a_removed_user_is_gone_and_a_device_is_not_taken_for_one(
    closed: Served, hashed: str
) -> None:
    await closed.command("device.add", device="kitchen")
    await closed.command("user.add", user="ann", password=hashed)
    peer = await logged_in(closed, "ann", PASSWORD)
    removed = await closed.command("user.remove", user="ann")
    assert {"profile", "password"} <= set(removed["removed"])
    await peer.expect_closed()
    assert await code_for(closed, "ann", PASSWORD) == 4
    with pytest.raises(ControlError, match="kitchen is a device: use 'fleetfeed device erase"):
        await closed.command("user.remove", user="kitchen")
    assert (await closed.command("device.list"))["devices"] == ["kitchen"]


@pytest.mark.parametrize(
    ("do", "args", "words"),
    [
        ("user.add", {}, "'user' is missing"),
        ("user.add", {"user": "ann"}, "ann would have a secret and no right"),
        ("user.add", {"user": "a b", "publish": ["#"]}, "not a device id"),
        ("user.add", {"user": "kitchen", "publish": ["#"]}, "exists already"),
        ("user.add", {"user": "ann", "publish": ["a#"]}, "not a topic filter"),
        ("user.add", {"user": "ann", "read": ["a#"]}, "not a topic filter"),
        ("user.add", {"user": "ann", "read": "a"}, "'read' must be a list"),
        ("user.add", {"user": "ann", "read": ["$SYS/#"]}, r"operators read \$SYS \(--operator\)"),
        ("user.add", {"user": "ann", "operator": "false"}, "'operator' must be true or false"),
        ("user.add", {"user": "ann", "password": PASSWORD}, "must be an encoded argon2 hash"),
        ("user.password", {"user": "kitchen", "password": "x"}, "encoded argon2 hash"),
        ("user.password", {"user": "nobody"}, "no user 'nobody'"),
        ("user.rights", {"user": "nobody"}, "no user 'nobody'"),
        ("user.rights", {"user": "kitchen", "write": ["a#"]}, "not a topic filter"),
        (
            "user.rights",
            {"user": "kitchen", "write": ["items/news"]},
            r"\(--publish, --may-follow\)",
        ),
        ("user.remove", {"user": "nobody"}, "no user 'nobody'"),
        ("user.list", {"limit": 0.5}, "'limit' must be"),
    ],
)
async def test_a_command_that_is_refused_says_why_and_changes_nothing(
    closed: Served, do: str, args: dict[str, Any], words: str
) -> None:
    await closed.command("device.add", device="kitchen", publish=["news"])
    before = await closed.command("user.list")
    with pytest.raises(ControlError, match=words) as refused:
        await closed.command(do, **args)
    assert PASSWORD not in str(refused.value)
    assert await closed.command("user.list") == before


# ---- The command line, on a data directory


def fleetfeed(
    directory: Path, *args: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "broker", "user", *args],
        input=stdin,
        capture_output=True,
        cwd=directory,
        env={**CLEAN_ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        timeout=60,
        check=False,
    )


def profile(directory: Path, name: str) -> Profile | None:
    with Offline(load(None, {}, {"data": str(directory / "fleetfeed-data")})) as offline:
        return offline.registry.get(name)


def assert_refused(done: subprocess.CompletedProcess[bytes], *words: str) -> None:
    said = done.stderr.decode()
    assert (done.returncode, done.stdout, said.count("\n")) == (2, b"", 1), said
    assert all(word in said for word in words), said


def test_a_password_is_piped_in_and_hashed_before_it_is_sent(tmp_path: Path) -> None:
    args = ("add", "ann", "--password-stdin", "--publish", "news", "--operator")
    done = fleetfeed(tmp_path, *args, stdin=f"{PASSWORD}\nmore\n".encode())
    assert done.stdout == b"added ann\n", done.stderr
    ann = profile(tmp_path, "ann")
    assert ann is not None
    assert ann.password is not None
    assert check_password(ann.password, PASSWORD.encode())
    assert ann.follow == ()
    assert fleetfeed(tmp_path, "list").stdout == b"ann (password): publish news, operator\n"
    assert fleetfeed(tmp_path, "rights", "ann", "--none").stdout == b"ann: no rights\n"
    assert fleetfeed(tmp_path, "remove", "ann").stdout == b"removed ann\n"
    assert profile(tmp_path, "ann") is None


def test_a_secret_is_shown_once(tmp_path: Path) -> None:
    done = fleetfeed(tmp_path, "add", "desk", "--secret", "--publish", "news")
    made = re.fullmatch(rb"added desk, secret (\S{32})\n", done.stdout)
    assert made is not None, done
    done = fleetfeed(tmp_path, "password", "desk", "--secret", "--json")
    assert json.loads(done.stdout)["secret"] != made[1].decode()
    listed = json.loads(fleetfeed(tmp_path, "list", "--json").stdout)
    assert listed["users"] == [
        {
            "user": "desk",
            "credentials": ["secret"],
            "rights": {"publish": ["news"]},
            "revoked": False,
        }
    ]


def test_a_password_that_will_not_do_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    stdin = ("add", "ann", "--password-stdin")
    assert_refused(fleetfeed(tmp_path, *stdin, stdin=b"ninechars\n"), "at least 10 characters")
    assert_refused(fleetfeed(tmp_path, *stdin, stdin=b""), "at least 10 characters")
    assert_refused(fleetfeed(tmp_path, *stdin, stdin=b"\xff" * 20), "no UTF-8")
    assert_refused(fleetfeed(tmp_path, *stdin, "--secret"), "does not go with")
    assert_refused(fleetfeed(tmp_path, "add", "ann"), "no terminal", "--password-stdin")
    assert_refused(fleetfeed(tmp_path, "rights", "ann"), "or --none")
    assert list(tmp_path.iterdir()) == []


async def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    ours, terminal = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "broker", "user", "add", "ann"),
        stdin=terminal,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env={**CLEAN_ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        start_new_session=True,  # or it would ask on the terminal that the tests were started from
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said = b""
    try:
        for typed in (PASSWORD, f"{PASSWORD}x", PASSWORD, PASSWORD):  # a slip at first
            async with asyncio.timeout(PATIENCE):
                said += await process.stderr.readuntil(b":")
            # What is typed before the echo is off would be shown, and is thrown away.
            await eventually(lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
            os.write(ours, f"{typed}\n".encode())
            if typed != PASSWORD:
                said += await process.stderr.readuntil(b"match")
        async with asyncio.timeout(PATIENCE):
            out, rest = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(terminal)
        os.close(ours)
    said += rest
    assert out == b"added ann\n", said
    assert b"Password for ann" in said
    assert PASSWORD.encode() not in said
    ann = await asyncio.to_thread(profile, tmp_path, "ann")
    assert ann is not None
    assert ann.password is not None
    assert check_password(ann.password, PASSWORD.encode())
