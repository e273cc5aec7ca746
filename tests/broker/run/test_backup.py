"""A server's data backed up while it serves, and gone on with: no device is shown what is not so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from broker.cli import app
from broker.config import Config
from broker.run import backup as backups
from devices.profile import Profile
from feedgen.store.base import StoreError
from tests.broker.support import Served, ServerProcess, eventually, item

Serve = Callable[..., Awaitable[Served]]
Start = Callable[..., ServerProcess]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def said_by(result: Any) -> Any:
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.output)


async def test_a_device_that_was_ahead_of_the_backup_ends_with_the_restored_feed(
    process: Start, tmp_path: Path
) -> None:
    server = process()
    device = await server.subscribed("kitchen", clean=False)
    await server.publish(item("a", "before"))
    await device.shows("before")
    copy = tmp_path / "backup"
    said = said_by(run("backup", copy, "--data", server.data, "--json"))
    assert (said["items"], said["devices"], said["bytes"]) == (1, 1, copy.stat().st_size)
    for n in range(
        3
    ):  # the device goes on, in numbers and positions that the backup knows nothing of
        await server.publish(item(f"after {n}", f"after {n}"))
    await device.shows("after 2", "after 1", "after 0", "before")
    await server.drop_peers()
    server.stop()
    before = {n.payload: n.n for n in device.replica.window}

    shutil.rmtree(server.data)  # the disk is lost
    said_by(run("restore", copy, "--data", server.data, "--json"))
    server.start()
    again = await server.device("kitchen", device.replica, clean=False)
    again.hello()
    await again.shows("before")
    await server.publish(item("new", "new"))
    await again.shows("new", "before")
    assert again.number("new") > max(before.values())


async def test_a_device_without_a_hello_follows_a_restored_feed_too(
    process: Start, tmp_path: Path
) -> None:
    server = process()
    device = await server.subscribed("kitchen")
    await server.publish(item("a", "before"))
    await device.shows("before")
    said_by(run("backup", tmp_path / "backup", "--data", server.data, "--json"))
    server.kill()
    server.start()  # begins an epoch that the backup knows nothing of
    device = await server.subscribed("kitchen", device.replica)
    await server.publish(item("b", "after"))
    await device.shows("after", "before")
    await server.drop_peers()
    server.stop()
    said_by(run("restore", tmp_path / "backup", "--data", server.data, "--replace", "--json"))
    server.start()
    again = await server.device("kitchen", device.replica)
    await again.subscribe()
    await again.shows("before")


async def test_what_was_learned_is_in_the_backup_and_comes_back(
    process: Start, tmp_path: Path
) -> None:
    server = process(ranking__model="learned")
    server.stop()
    learned = (server.data / "ranking.state").read_bytes()
    said = said_by(run("backup", tmp_path / "backup", "--data", server.data, "--json"))
    assert said["files"] == ["ranking.state"]
    said_by(run("restore", tmp_path / "backup", "--data", tmp_path / "other", "--json"))
    assert (tmp_path / "other" / "ranking.state").read_bytes() == learned


async def test_a_running_server_is_not_restored_into(served: Served, tmp_path: Path) -> None:
    assert run("backup", tmp_path / "backup", "--data", served.data).exit_code == 0
    result = run("restore", tmp_path / "backup", "--data", served.data, "--replace")
    assert isinstance(result.exception, Exception)
    assert "in use by another server" in str(result.exception)


async def test_the_commands_say_what_they_did(served: Served, tmp_path: Path) -> None:
    await served.publish(item("a", "x"))
    await eventually(lambda: len(served.server.service.catalog) == 1)
    said = run("backup", tmp_path / "backup", "--data", served.data).output
    assert said == f"{tmp_path / 'backup'} has 1 item, 0 devices and users.\n"
    again = run("backup", tmp_path / "backup", "--data", served.data)
    assert "--replace" in str(again.exception)
    said = run("restore", tmp_path / "backup", "--data", tmp_path / "other").output
    assert "has 1 item, 0 devices and users of 20" in said
    assert "What was revoked, removed or erased since then is there again" in said


def test_another_users_data_is_left_to_that_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    for deed in (backups.back_up, backups.restore):
        with pytest.raises(StoreError, match=f"another user \\(uid {uid}\\)"):
            deed(Config(data=tmp_path), tmp_path / "backup")


def test_a_shared_store_is_not_ours_to_back_up(tmp_path: Path) -> None:
    config = Config(data=tmp_path, store={"url": "redis://user:hush@127.0.0.1"})
    for deed in (backups.back_up, backups.restore):
        with pytest.raises(StoreError, match=r"in the Redis of store\.url") as raised:
            deed(config, tmp_path / "backup")
        assert "hush" not in str(raised.value)


def test_a_renewed_profile_keeps_all_but_its_position() -> None:
    profile = Profile("oven", follow=("news",), epoch=5_000, secret_hash=b"h", session=b"s")
    renewed = Profile.unpack("oven", backups.renewed("oven", profile.pack()))
    assert (renewed.session, renewed.epoch) == (None, 5_064)
    renewed.session, renewed.epoch = profile.session, profile.epoch
    assert renewed == profile
    never = Profile.unpack("oven", backups.renewed("oven", Profile("oven").pack()))
    assert never.epoch == 0
