"""A fleet out of a table: what a line may say, and that a fleet is imported whole or not at all."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.admin.fleet_file import BadTable, Fault, Row, read, weakness_of
from broker.admin.offline import Offline
from broker.cli import main
from broker.config_layers import load
from broker.control import MAX_LINE, ControlError, ControlServer, dumps
from devices.packets import Connect
from devices.profile import Profile, valid_device_id
from devices.registry import new_secret
from tests.broker.support import ServerProcess, Target

OWN = "k9fQ2vX7mB4tR8wZ1nL6pD"


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Fleetfeed = Callable[..., Done]


@pytest.fixture
def fleetfeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Fleetfeed:
    """Run `fleetfeed device …` in an empty directory, in this process."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FLEETFEED_")]:
        monkeypatch.delenv(name)

    def run(*args: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["fleetfeed", "device", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return run


def table(text: str, name: str = "fleet.csv") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def offline() -> Offline:
    return Offline(load(None, {}, {"data": "fleetfeed-data"}))


def shown(*devices: str) -> list[dict[str, Any]]:
    with offline() as data:
        return [data.call("device.show", device=each) for each in devices]


def kept() -> dict[str, Profile]:
    """The profiles as they are stored, hashes included."""
    with offline() as data:
        return {p.device: p for p in data.registry}


def secrets_in(name: str) -> dict[str, str]:
    heading, *rows = csv.reader(Path(name).read_text().splitlines())
    assert heading == ["device", "secret"]
    return dict(rows)


# ---- What a table says


def test_a_table_becomes_devices_with_a_secret_each(fleetfeed: Fleetfeed) -> None:
    fleet = table(
        "device,follow,publish,may_follow,attr.region,attr.floor,secret\n"
        "oven-1,alerts/# news,,news/#,north,3,\n"
        f"oven-2,,status/oven-2,,south,,{OWN}\n"
        "oven-3,,,,,,none\n"
    )
    done = fleetfeed("import", fleet, "--secrets", "out.csv")
    assert done == (0, "3 devices added, 0 changed; 1 passwords in out.csv\n", "")
    first, second, third = shown("oven-1", "oven-2", "oven-3")
    assert first["follow"] == ["alerts/#", "news"]
    assert first["attributes"] == {"region": "north", "floor": 3}
    assert first["rights"] == {"may_follow": ["news/#"]}
    assert second["follow"] == ["#"]  # the server's default
    assert second["attributes"] == {"region": "south"}
    assert second["rights"] == {"publish": ["status/oven-2"]}
    assert [each["credentials"] for each in (first, second, third)] == [["secret"], ["secret"], []]
    assert list(secrets_in("out.csv")) == ["oven-1"]  # one's own secret is nobody else's news
    assert OWN not in Path("out.csv").read_text()


def test_a_column_of_ids_is_a_table(fleetfeed: Fleetfeed) -> None:
    fleet = table("\ufeffdevice\r\n\r\nkitchen\r\n hall \r\n")
    done = fleetfeed("import", fleet, "--secrets", "out.csv", "--json")
    assert json.loads(done.out) == {"added": 2, "changed": 0, "secrets": 2}
    assert secrets_in("out.csv").keys() == {"kitchen", "hall"}


def test_an_empty_table_imports_nothing_and_makes_no_file(fleetfeed: Fleetfeed) -> None:
    done = fleetfeed("import", table("device\n"), "--secrets", "out.csv")
    assert done == (0, "0 devices added, 0 changed\n", "")
    assert not Path("out.csv").exists()
    assert not Path("fleetfeed-data").exists()


def test_every_wrong_line_is_named_and_nothing_is_imported(fleetfeed: Fleetfeed) -> None:
    fleet = table(
        "device,follow,publish,attr.region,secret\n"
        "good,,,,\n"
        "a b,,,,\n"
        ",,,,\n"
        "x1,news/#/more,,,\n"
        "x2,,a+,,\n"
        f"x3,,,{'r' * 65},\n"
        "x4,,,,password1234\n"
        "x5,,\n"
        '"x6","a\nb",,,\n'
        "good,,,,\n"
    )
    done = fleetfeed("import", fleet, "--secrets", "out.csv")
    assert (done.code, done.out) == (2, "")
    *faults, last = done.err.splitlines()
    expected = [
        (3, "not a device id"),
        (4, "not a device id"),
        (5, "not a topic filter"),
        (6, "not a topic filter"),
        (7, "not an attribute"),
        (8, "a secret is 32 or more"),
        (9, "3 cells for 5 columns"),
        (12, "device good is in line 2 already"),
    ]
    assert len(faults) == len(expected)
    for said, (line, words) in zip(faults, expected, strict=True):
        assert said.startswith(f"fleetfeed: fleet.csv:{line}: ")
        assert words in said
    assert last == "fleetfeed: nothing was imported"
    assert "password1234" not in done.err
    assert list(Path().iterdir()) == [Path("fleet.csv")]


def test_of_many_wrong_lines_the_first_twenty_are_shown(fleetfeed: Fleetfeed) -> None:
    fleet = table("device\n" + "a b\n" * 33)
    done = fleetfeed("import", fleet, "--secrets", "out.csv")
    assert done.err.count("fleet.csv:") == 20
    assert "fleet.csv:21:" in done.err
    assert done.err.endswith("fleetfeed: 13 more lines are wrong; nothing was imported\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "'device' among them"),
        (b"name,follow\nkitchen,#\n", "'device' among them"),
        (b"device,folow\n", "no column 'folow'"),
        (b"device,attr.\n", "no column 'attr.'"),
        (b"device,secret,secret\n", "twice"),
        (b'device\n"kitchen\n', "is no CSV"),
        (b"device\nk\xfcche\n", "no UTF-8"),
        (b"device\n" + b"x" * 200_000, "is no CSV"),
    ],
)
def test_what_is_no_table_of_devices_is_refused(
    fleetfeed: Fleetfeed, text: bytes, words: str
) -> None:
    Path("fleet.csv").write_bytes(text)
    done = fleetfeed("import", "fleet.csv", "--secrets", "out.csv")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert words in done.err
    assert done.err.startswith("fleetfeed: fleet.csv: ")


def test_a_table_is_read_twice_and_so_has_to_be_a_file(fleetfeed: Fleetfeed) -> None:
    assert "cannot be read: No such file" in fleetfeed("import", "none.csv").err
    assert "cannot be read: Is a directory" in fleetfeed("import", ".").err
    assert "must be a regular file" in fleetfeed("import", "/dev/null").err


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("hunter2", "32 or more"),
        ("correct horse battery staple", "32 or more"),
        ("0123456789abcdef0123456789abcde", "32 or more"),  # 124 bits
        ("k9fQ2vX7mB4tR8wZ1nL6p", "32 or more"),  # 126 bits
        ("k9fQ2vX7mB4tR8wZ1nL6pDé", "32 or more"),
        ("0" * 32, "can be guessed"),
        ("abab-abab-abab-abab-abab", "can be guessed"),
        ("Ab1-" + "x9Q_" * 64, "longer than 256"),
        ("0123456789abcdef0123456789ABCDEF", None),
        (OWN, None),
        (f"{OWN}==", None),
    ],
)
def test_a_secret_of_ones_own_has_128_bits(secret: str, why: str | None) -> None:
    found = weakness_of(secret)
    assert (found is None) if why is None else (found is not None and why in found)


def test_what_the_server_makes_is_no_weak_secret() -> None:
    assert {weakness_of(new_secret()) for _ in range(100)} == {None}


IDS = st.text(string.ascii_letters + string.digits + "_.:-", min_size=1, max_size=64)
FILTERS = st.lists(st.sampled_from(["#", "a/b", "a/+/c", "news/#", "é"]), max_size=3)


@given(
    st.lists(
        st.tuples(IDS, FILTERS, FILTERS, st.one_of(st.integers(0, 1 << 31), st.just("north"))),
        max_size=5,
        unique_by=lambda row: row[0],
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(rows: list[tuple[str, list[str], list[str], int | str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("attr.x", "device", "follow", "publish"))
    for device, follow, publish, value in rows:
        writer.writerow((value, device, " ".join(follow), "  ".join(publish)))
    text.seek(0)
    for row, (device, follow, publish, value) in zip(read(text), rows, strict=True):
        assert isinstance(row, Row)
        assert row.device == device
        assert row.secret == ""
        assert row.said["attrs"] == {"x": value}
        assert (row.said["follow"] or [], row.said["publish"] or []) == (follow, publish)


@given(st.text(st.sampled_from('device,follow attr.secret"\n\r\0+#/9é'), max_size=80))
@settings(max_examples=150, deadline=None)
def test_any_text_is_rows_and_faults_or_no_table(text: str) -> None:
    try:
        found = list(read(io.StringIO("device,follow,secret\n" + text, newline="")))
    except BadTable:
        return
    assert all(isinstance(each, Row | Fault) for each in found)
    assert all(valid_device_id(each.device) for each in found if isinstance(each, Row))
    lines = [each.line for each in found]
    assert lines == sorted(set(lines))


# ---- Where the secrets go


def test_secrets_are_for_their_owner_alone(fleetfeed: Fleetfeed) -> None:
    before = os.umask(0)
    try:
        fleetfeed("import", table("device\nkitchen\n"), "--secrets", "out.csv")
    finally:
        os.umask(before)
    assert Path("out.csv").stat().st_mode & 0o777 == 0o600


def test_secrets_that_nobody_would_keep_are_not_made(fleetfeed: Fleetfeed) -> None:
    done = fleetfeed("import", table("device\nkitchen\nhall\n"))
    assert done.code == 2
    assert "2 passwords are to be made: say with --secrets in which file" in done.err
    assert not Path("fleetfeed-data").exists()


def test_a_file_that_is_there_is_replaced_only_by_force(fleetfeed: Fleetfeed) -> None:
    fleet = table("device\nkitchen\n")
    other = Path("other.txt")
    other.write_text("precious")
    out = Path("out.csv")
    out.symlink_to(other)
    done = fleetfeed("import", fleet, "--secrets", "out.csv")
    assert done.code == 2
    assert "out.csv is there already, and may hold passwords" in done.err
    assert fleetfeed("import", fleet, "--secrets", "out.csv", "--force").code == 0
    assert secrets_in("out.csv").keys() == {"kitchen"}
    assert out.stat().st_mode & 0o777 == 0o600
    assert other.read_text() == "precious"


def test_force_removes_nothing_that_is_no_file(fleetfeed: Fleetfeed) -> None:
    Path("out.csv").mkdir()
    done = fleetfeed("import", table("device\nkitchen\n"), "--secrets", "out.csv", "--force")
    assert done.code == 2
    assert Path("out.csv").is_dir()
    assert not Path("fleetfeed-data").exists()


# ---- Devices that exist


def test_devices_that_exist_are_changed_only_on_request(fleetfeed: Fleetfeed) -> None:
    fleetfeed("import", table("device\nkitchen\n"), "--secrets", "out.csv")
    again = table("device\nhall\nkitchen\n")
    done = fleetfeed("import", again, "--secrets", "more.csv")
    assert done.code == 2
    assert "fleet.csv:3: device kitchen exists already; see --update" in done.err
    assert kept().keys() == {"kitchen"}
    assert not Path("more.csv").exists()


def test_an_update_changes_what_the_table_names_and_keeps_secrets(fleetfeed: Fleetfeed) -> None:
    fleetfeed(
        *("import", "--secrets", "out.csv"),
        table(
            "device,follow,publish,may_follow,attr.region,attr.floor\n"
            "kitchen,a b,items,news/#,north,1\nhall,a,,,,2\n"
        ),
    )
    before = kept()
    update = table(
        f"device,follow,may_follow,attr.region,secret\nkitchen,,a/#,south,{OWN}\nhall,c,,,\nattic,,,,\n"
    )
    done = fleetfeed("import", update, "--update", "--secrets", "more.csv")
    assert done.out == "1 devices added, 2 changed; 1 passwords in more.csv\n"
    assert secrets_in("more.csv").keys() == {"attic"}
    after = kept()
    for name in ("kitchen", "hall"):
        assert after[name].secret_hash == before[name].secret_hash
        assert after[name].next_hash is None
    kitchen, hall = shown("kitchen", "hall")
    assert kitchen["follow"] == ["a", "b"]
    assert kitchen["attributes"] == {"region": "south", "floor": 1}
    assert kitchen["rights"] == {"publish": ["items"], "may_follow": ["a/#"]}
    assert hall["follow"] == ["c"]
    assert hall["attributes"] == {"floor": 2}


def test_a_rotation_puts_a_new_secret_beside_the_old(fleetfeed: Fleetfeed) -> None:
    fleetfeed("import", table("device\nkitchen\nhall\n"), "--secrets", "out.csv")
    before = kept()
    again = table("device,secret\nkitchen,\nhall,none\n")
    assert "--rotate goes with --update" in fleetfeed("import", again, "--rotate").err
    fleetfeed("import", again, "--update", "--rotate", "--secrets", "new.csv")
    after = kept()
    assert after["kitchen"].secret_hash == before["kitchen"].secret_hash
    assert after["kitchen"].next_hash is not None
    assert secrets_in("new.csv")["kitchen"] != secrets_in("out.csv")["kitchen"]
    assert after["hall"].secret_hash is after["hall"].next_hash is None


def test_an_update_that_is_repeated_changes_nothing(fleetfeed: Fleetfeed) -> None:
    fleet = table("device,follow,attr.floor\nkitchen,a,1\n")
    fleetfeed("import", fleet, "--secrets", "out.csv")
    before = kept()
    for _ in range(2):
        assert fleetfeed("import", fleet, "--update").out == "0 devices added, 1 changed\n"
    assert kept() == before


# ---- A server that runs


async def let_in(target: Target, name: str, secret: str) -> bool:
    peer = await target.peer()
    return (await peer.greet(Connect(name, username=name, password=secret.encode()))).code == 0


async def test_a_running_server_lets_an_imported_fleet_in_at_once(
    fleetfeed: Fleetfeed, process: Callable[..., ServerProcess]
) -> None:
    server = process(opened=False)
    names = [f"oven-{n}" for n in range(2_500)]  # three batches
    fleet = table("device\n" + "\n".join(names) + "\n")
    done = fleetfeed("import", fleet, "--secrets", "out.csv", "--data", str(server.data))
    assert done.out == "2500 devices added, 0 changed; 2500 passwords in out.csv\n", done.err
    secrets = secrets_in("out.csv")
    assert list(secrets) == names
    for name in (names[0], names[-1]):
        assert await let_in(server, name, secrets[name])
        assert not await let_in(server, name, "wrong")
    server.kill()
    server.start()
    assert await let_in(server, names[1_234], secrets[names[1_234]])


async def test_an_update_of_rights_ends_connections_and_any_other_does_not(
    fleetfeed: Fleetfeed, process: Callable[..., ServerProcess]
) -> None:
    server = process(opened=False)
    data = ("--data", str(server.data))
    fleetfeed("import", table("device\nkitchen\nhall\n"), "--secrets", "out.csv", *data)
    peers = {
        name: await server.connect(name, username=name, password=secret.encode())
        for name, secret in secrets_in("out.csv").items()
    }
    update = table("device,publish,attr.floor\nkitchen,news,1\nhall,,2\n")
    assert fleetfeed("import", update, "--update", *data).code == 0
    await peers["kitchen"].expect_closed()
    await peers["hall"].ping()


class Strict:
    """The control socket of a server that keeps every request and refuses all after some."""

    def __init__(self, data: Path, patience: int) -> None:
        self.requests: list[dict[str, Any]] = []
        self._patience = patience
        data.mkdir()
        handlers = {"device.known": self._known, "device.import": self._import}
        self.server = ControlServer(data / "control.sock", handlers)

    async def _known(self, args: dict[str, Any]) -> dict[str, Any]:
        return {"known": args["devices"][:0]}

    async def _import(self, args: dict[str, Any]) -> dict[str, Any]:
        made = {row["device"]: row["secret"] for row in args["rows"] if row["secret"] is not None}
        if made:  # on disk before the server hears of them
            assert made.items() <= secrets_in("out.csv").items()
        if len(self.requests) == self._patience:
            raise ControlError("the disk is full")
        self.requests.append(args)
        return {"added": len(args["rows"]), "changed": 0}


async def test_rows_are_divided_until_the_socket_takes_them(
    fleetfeed: Fleetfeed, tmp_path: Path
) -> None:
    strict = Strict(tmp_path / "fleetfeed-data", patience=100)
    await strict.server.start()
    filters = " ".join(f"channel-{n:02d}/{'é' * 50}" for n in range(30))
    names = [f"oven-{n}" for n in range(600)]
    fleet = table("device,follow,secret\n" + "".join(f"{n},{filters},none\n" for n in names))
    done = await asyncio.to_thread(fleetfeed, "import", fleet)
    await strict.server.stop()
    assert done.out == "600 devices added, 0 changed\n"
    assert [row["device"] for args in strict.requests for row in args["rows"]] == names
    assert len(strict.requests) > 1
    assert all(len(dumps(args)) < MAX_LINE for args in strict.requests)


async def test_an_import_that_breaks_off_says_how_far_it_came_and_loses_no_secret(
    fleetfeed: Fleetfeed, tmp_path: Path
) -> None:
    strict = Strict(tmp_path / "fleetfeed-data", patience=2)
    await strict.server.start()
    fleet = table("device\n" + "".join(f"oven-{n}\n" for n in range(2_500)))
    done = await asyncio.to_thread(fleetfeed, "import", fleet, "--secrets", "out.csv")
    await strict.server.stop()
    assert done.code == 1
    assert "the disk is full (at least 2000 devices are imported" in done.err
    sent = {row["device"]: row["secret"] for args in strict.requests for row in args["rows"]}
    assert sent.items() <= secrets_in("out.csv").items()
    assert len(sent) == 2_000
