"""The registry as Mosquitto's files: what is written, and what Mosquitto makes of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import stat
import subprocess
import sys
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.admin.offline import Offline
from broker.cli import main
from broker.config_layers import load
from broker.outside import mosquitto_acl
from broker.outside.mosquitto_acl import Unwritable
from broker.outside.mosquitto_passwords import hash_password, parse, renew
from broker.outside.secrets_table import Given
from devices.packets import Connack, Connect, Puback, Publish
from devices.profile import Profile, Rights
from devices.registry import hash_secret, new_secret
from tests.broker.support import PATIENCE, Peer
from tests.outside_brokers import Mosquitto, mosquitto

KEY = bytes(range(32))


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def fleetfeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run `fleetfeed` in an empty directory, in this process."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FLEETFEED_")]:
        monkeypatch.delenv(name)
    Path("to").mkdir()

    def run(*args: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["fleetfeed", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return run


def in_data(do: str, **args: Any) -> Any:
    """Carry out a command on the data directory."""
    with Offline(load(None, {}, {"data": "fleetfeed-data"})) as data:
        return data.call(do, **args)


def added(*devices: str) -> dict[str, str]:
    """Devices with their secrets, in a table as `device import` writes it."""
    secrets = {device: in_data("device.add", device=device)["secret"] for device in devices}
    table(secrets)
    return secrets


def table(secrets: dict[str, str]) -> None:
    rows = "".join(f"{device},{secret}\n" for device, secret in secrets.items())
    Path("secrets.csv").write_text(f"device,secret\n{rows}")


def lines(to: Path = Path("to")) -> dict[str, str]:
    return parse((to / "passwords").read_text())


WRITE = ("broker-files", "--to", "to")
GIVE = (*WRITE, "--secrets", "secrets.csv")


# ---- The command


def test_who_was_given_a_secret_gets_a_line_and_who_was_not_is_named(fleetfeed):
    added("kitchen", "oven")
    in_data("device.add", device="cellar")
    done = fleetfeed(*GIVE)
    assert done.code == 0
    assert set(lines()) == {"gateway", "kitchen", "oven"}
    assert done.err == "1 cannot log in, as no secret of theirs was given yet: cellar\n"
    assert fleetfeed(*WRITE).code == 0
    assert set(lines()) == {"gateway", "kitchen", "oven"}


def test_secrets_can_come_from_stdin_in_a_table_with_other_columns(
    fleetfeed, monkeypatch, tmp_path
):
    secret = added("kitchen")["kitchen"]
    rows = f"follow,device,secret\nnews,kitchen,{secret}\nnews,oven,none\nnews,oven,\n"
    (tmp_path / "stdin").write_text(rows)
    with (tmp_path / "stdin").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert fleetfeed(*WRITE, "--secrets", "-").code == 0
    assert "kitchen" in lines()


def test_a_wrong_secret_is_named_without_itself_and_nothing_is_written(fleetfeed):
    secrets = added("kitchen", "oven")
    wrong = new_secret()
    table(secrets | {"oven": wrong})
    done = fleetfeed(*GIVE)
    assert done.code == 2
    assert "secrets.csv:3: this is not the secret of oven\n" in done.err
    assert "nothing was written" in done.err
    assert wrong not in done.out + done.err
    assert list(Path("to").iterdir()) == []


def test_a_device_with_a_colon_in_its_name_is_refused_as_no_line_can_hold_it(fleetfeed):
    added("aa:bb")
    done = fleetfeed(*GIVE)
    assert done.code == 2
    assert "aa:bb has a colon" in done.err


def test_a_table_without_the_columns_is_refused(fleetfeed):
    added("kitchen")
    Path("secrets.csv").write_text("name,password\nkitchen,x\n")
    assert fleetfeed(*GIVE).code == 2


def test_who_is_revoked_or_erased_loses_its_line_and_is_counted_when_given_again(fleetfeed):
    added("kitchen", "oven", "cellar")
    fleetfeed(*GIVE)
    in_data("device.revoke", device="kitchen")
    in_data("device.erase", device="oven")
    done = fleetfeed(*GIVE)
    assert set(lines()) == {"gateway", "cellar"}
    assert done.err == "2 secrets are of nobody here, or of revoked devices\n"


def test_a_line_of_a_secret_that_was_rotated_away_does_not_stay(fleetfeed):
    added("kitchen")
    fleetfeed(*GIVE)
    in_data("device.rotate", device="kitchen", now=True)
    done = fleetfeed(*WRITE)
    assert "kitchen" not in lines()
    assert "cannot log in" in done.err
    assert "not the secret of kitchen" in fleetfeed(*GIVE).err


def test_the_next_secret_takes_the_line_when_it_is_given_and_keeps_it(fleetfeed):
    first = added("kitchen")
    fleetfeed(*GIVE)
    before = lines()["kitchen"]
    second = {"kitchen": in_data("device.rotate", device="kitchen")["secret"]}
    fleetfeed(*WRITE)
    assert lines()["kitchen"] == before
    table(second)
    fleetfeed(*GIVE)
    after = lines()["kitchen"]
    assert opens(after, second["kitchen"])
    table(first)  # the old table once more: a device that has changed over must not be locked out
    assert fleetfeed(*GIVE).code == 0
    assert lines()["kitchen"] == after


def test_the_files_are_for_their_owner_alone_and_no_draft_is_left(fleetfeed):
    added("kitchen")
    fleetfeed(*GIVE)
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path("to").iterdir()}
    assert found == {"passwords": 0o600, "acl": 0o600, "gateway-password": 0o600}


def test_the_password_of_the_gateway_stays_until_its_file_is_deleted(fleetfeed):
    added("kitchen")
    fleetfeed(*GIVE)
    file = Path("to/gateway-password")
    first, line = file.read_text(), lines()["gateway"]
    assert opens(line, first.strip())
    fleetfeed(*WRITE)
    assert (file.read_text(), lines()["gateway"]) == (first, line)
    file.unlink()
    fleetfeed(*WRITE)
    assert file.read_text() != first
    assert opens(lines()["gateway"], file.read_text().strip())


def test_a_gateway_with_the_name_of_a_device_is_refused(fleetfeed):
    added("kitchen")
    assert fleetfeed(*WRITE, "--gateway", "kitchen").code == 2
    assert fleetfeed(*WRITE, "--gateway", "a:b").code == 2


def test_the_files_can_be_written_while_a_server_works_on_the_data(fleetfeed):
    added("kitchen")
    with Offline(load(None, {}, {"data": "fleetfeed-data"})):
        assert fleetfeed(*GIVE).code == 0
    assert "kitchen" in lines()


def test_a_directory_without_data_is_an_error_and_stays_as_it_was(fleetfeed):
    assert fleetfeed(*WRITE, "--data", "nothing").code == 1
    assert not Path("nothing").exists()


def test_what_nodes_share_is_refused(fleetfeed, monkeypatch):
    added("kitchen")
    monkeypatch.setenv("FLEETFEED_STORE__URL", "redis://:hidden@127.0.0.1:1")
    done = fleetfeed(*WRITE)
    assert done.code == 2
    assert "store.url" in done.err
    assert "hidden" not in done.err


# ---- The lines


def opens(hashed: str, secret: str) -> bool:
    """Whether a secret belongs to the hash of a line."""
    _, _, rounds, salt, _ = hashed.split("$")
    return hashed == hash_password(secret, salt=base64.b64decode(salt), iterations=int(rounds))


@pytest.mark.mosquitto
def test_lines_are_as_mosquitto_passwd_makes_them(tmp_path):
    program = shutil.which("mosquitto_passwd")
    assert program is not None
    file = tmp_path / "passwords"
    file.touch()
    subprocess.run([program, "-b", file, "kitchen", "süß"], check=True)
    assert opens(parse(file.read_text())["kitchen"], "süß")


def test_a_line_that_others_made_is_not_taken_for_proven():
    secret = new_secret()
    kitchen = Profile("kitchen", secret_hash=hash_secret(secret, "kitchen", KEY))
    profiles = {"kitchen": kitchen}
    for line in (hash_password(secret, iterations=101), "", "$7$", "$7$1$=$=", "$6$x$y", "x:y"):
        assert renew(profiles, KEY, {"kitchen": line}, ()).hashes == {}


def test_a_line_of_one_device_is_none_of_another():
    secret = new_secret()
    profiles = {
        name: Profile(name, secret_hash=hash_secret(secret, name, KEY)) for name in ("a", "b")
    }
    line = renew(profiles, KEY, {}, [Given(2, "a", secret)]).hashes["a"]
    assert set(renew(profiles, KEY, {"a": line, "b": line}, ()).hashes) == {"a"}


# ---- The rules


def rules(rights: Rights, name: str = "kim", **more: Any) -> str:
    return mosquitto_acl.render([Profile(name, rights=rights)], gateway="gateway", **more)


def test_rights_become_rules_with_the_prefix():
    rights = Rights(("news/#", "a b"), ("logs/+/x",), ("cmd/#",), operator=True)
    assert (
        rules(rights, prefix="eu/")
        == """\
# By fleetfeed broker-files, which writes all of this anew: changes made here are lost.

user gateway
topic read eu/items/#
topic read eu/u/+
topic write eu/f/+
topic write eu/feed/sys/#

user kim
topic write eu/items/news/#
topic write eu/items/a b
topic read logs/+/x
topic write cmd/#
topic read $SYS/#
topic read eu/feed/sys/#

pattern read eu/f/%u
pattern write eu/u/%u
"""
    )


@pytest.mark.parametrize(
    "topic", ["#", "+/+", "f/#", "+/kitchen", "u/+/x/#", "feed/#", "feed/sys/a/up", "items"]
)
def test_a_filter_that_reaches_into_the_feed_is_refused(topic):
    for rights in (Rights(read=(topic,)), Rights(write=(topic,))):
        with pytest.raises(Unwritable, match="narrower"):
            rules(rights)
    with pytest.raises(Unwritable, match="everybody"):
        rules(Rights(), read=(topic,))


@pytest.mark.parametrize("name", ["#", "+", "a/b", "a b", "", "a\nuser b"])
def test_a_name_that_no_device_can_have_is_refused(name):
    with pytest.raises(Unwritable, match="no name"):
        rules(Rights(operator=True), name)


def test_what_mosquitto_would_substitute_is_refused_in_what_holds_for_everybody():
    for topic in ("x/%u", "x/%c/y"):
        with pytest.raises(Unwritable, match="%u and %c"):
            rules(Rights(), read=(topic,))
    with pytest.raises(Unwritable, match="%u and %c"):
        rules(Rights(), prefix="%u/")


@settings(max_examples=200)
@given(st.text(min_size=1, max_size=8).filter(lambda text: not set(text) & set("+#/\0")))
def test_no_text_makes_a_rule_of_its_own(text):
    plain = rules(Rights(publish=("a",), read=("x/a",))).count("\n")
    try:
        written = rules(Rights(publish=(text,), read=(f"x/{text}",)))
    except Unwritable:
        return
    assert written.count("\n") == plain
    assert f"topic write items/{text}\n" in written
    assert len(written.splitlines()) == plain


# ---- And Mosquitto


@pytest.fixture(scope="module")
def started() -> Iterator[Mosquitto]:
    with mosquitto(devices=()) as running:
        yield running


class Client(NamedTuple):
    """A connection, and how it was answered: 0 = let in."""

    peer: Peer
    code: int


@pytest.fixture
async def enter(started: Mosquitto) -> AsyncIterator[Callable[..., Any]]:
    peers: list[Peer] = []

    async def connect(name: str, secret: str) -> Client:
        peer = await Peer.open((started.host, started.port))
        peers.append(peer)
        peer.send(Connect(name, True, 60, name, secret.encode()))
        answer = await peer.read()
        assert isinstance(answer, Connack)
        return Client(peer, answer.code)

    yield connect
    for peer in peers:
        await peer.drop()


async def heard(peer: Peer) -> list[str]:
    found = []
    with contextlib.suppress(TimeoutError):
        while (packet := await peer.read(0.3)) is not None:
            if isinstance(packet, Publish):
                found.append(packet.topic)
                if packet.qos:
                    peer.send(Puback(packet.packet_id))
    return found


def write_for(broker: Mosquitto, fleetfeed: Callable[..., Done], *more: str) -> None:
    """Write the files, and have Mosquitto read them, which takes it a moment."""
    done = fleetfeed("broker-files", "--to", broker.directory, *more)
    assert done.code == 0, done.err
    broker.hang_up()


async def answered(enter: Callable[..., Any], name: str, secret: str, code: int) -> Peer:
    """Connect again and again until the answer is this one."""
    async with asyncio.timeout(PATIENCE):
        while (client := await enter(name, secret)).code != code:
            pass
    return client.peer


@pytest.mark.mosquitto
async def test_mosquitto_lets_in_who_has_a_line_until_it_is_revoked(started, fleetfeed, enter):
    secrets = await to_thread(added, "kitchen", "oven")
    write_for(started, fleetfeed, "--secrets", "secrets.csv")
    kitchen, oven = [await answered(enter, *each, 0) for each in secrets.items()]
    assert (await enter("kitchen", secrets["oven"])).code == 5
    await to_thread(in_data, "device.revoke", device="kitchen")
    write_for(started, fleetfeed)
    await answered(enter, "kitchen", secrets["kitchen"], 5)
    await kitchen.expect_closed()
    await oven.ping()
    rotated = await to_thread(in_data, "device.rotate", device="oven", now=True)
    table({"oven": rotated["secret"]})
    write_for(started, fleetfeed, "--secrets", "secrets.csv")
    await oven.expect_closed()  # a new line ends who came in by the old one
    await answered(enter, "oven", rotated["secret"], 0)


@pytest.mark.mosquitto
async def test_mosquitto_holds_users_to_their_rights(started, fleetfeed, enter):
    user = {"password": None, "operator": False, "read": [], "write": []}
    secrets = {
        name: (await to_thread(in_data, "user.add", user=name, **(user | rights)))["secret"]
        for name, rights in {
            "editor": {"publish": ["news/#"]},
            "reader": {"read": ["logs/+"], "write": ["logs/reader"], "publish": []},
            "chief": {"operator": True, "publish": []},
        }.items()
    }
    table(secrets)
    write_for(started, fleetfeed, "--secrets", "secrets.csv")
    password = (started.directory / "gateway-password").read_text().strip()
    await answered(enter, "editor", secrets["editor"], 0)
    gateway = await answered(enter, "gateway", password, 0)
    await gateway.subscribe(("items/#", 1), ("u/+", 1))
    everything = ("#", 1), ("$SYS/#", 1)
    peers = {}
    for name, secret in secrets.items():
        peers[name] = (await enter(name, secret)).peer
        await peers[name].subscribe(*everything)
    said = {name: set(await heard(peer)) for name, peer in peers.items()}
    assert said["chief"]
    assert said["editor"] == said["reader"] == set()
    for name in ("editor", "reader"):
        for topic in (
            "items/news/a",
            "items/other",
            "logs/reader",
            "u/editor",
            "u/chief",
            "f/chief",
        ):
            await peers[name].publish(topic, name.encode())
    await gateway.publish("feed/sys/one/up", b"1")
    await gateway.publish("f/editor", b"frame")
    assert sorted(await heard(gateway)) == ["items/news/a", "u/editor"]
    assert await heard(peers["reader"]) == ["logs/reader"]
    assert await heard(peers["editor"]) == ["f/editor"]
    assert "feed/sys/one/up" in await heard(peers["chief"])


@pytest.mark.mosquitto
async def test_a_password_that_somebody_chose_opens_mosquitto_too(started, fleetfeed, enter):
    from broker.access.passwords import hash_password as encoded  # noqa: PLC0415 - argon2 is slow

    rights = {"publish": ["news"], "read": [], "write": [], "operator": False}
    password = encoded("correct horse battery")
    await to_thread(in_data, "user.add", user="kim", password=password, **rights)
    table({"kim": "correct horse battery"})
    write_for(started, fleetfeed, "--secrets", "secrets.csv")
    await answered(enter, "kim", "correct horse battery", 0)
    assert (await enter("kim", "correct horse")).code == 5
