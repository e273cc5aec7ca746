"""The command line as its user meets it: a process with arguments, output and an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgpack
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from broker.config_layers import example
from broker.control import ControlClient, ControlError, ControlServer, NoServer
from devices.packets import Connack, Connect, Decoder, Puback, Publish, encode

ROOT = Path(__file__).resolve().parents[2]
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("FLEETFEED_")}


@pytest.fixture
def fleetfeed(tmp_path):
    """Run `fleetfeed` with arguments in an empty directory."""

    def run(*args, stdin=b"", env=None):
        return subprocess.run(
            [sys.executable, "-m", "broker", *map(str, args)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env={**CLEAN, "COLUMNS": "200", **(env or {})},
            timeout=60,
            check=False,
        )

    return run


def assert_fails(done, code, *words):
    """Assert one sentence on stderr, nothing on stdout, and the exit code."""
    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b""), said
    assert said.startswith("fleetfeed: ")
    assert said.count("\n") == 1
    for word in words:
        assert word in said


# A publisher's counterpart


class Scripted(socketserver.ThreadingTCPServer):
    """An MQTT server that does what a test wants; keeps what was published."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *, code=0, silent=0, drop=0):
        super().__init__(("127.0.0.1", 0), _Connection)
        self.code, self.silent, self.drop = code, silent, drop
        self.connects, self.published = [], []

    @property
    def address(self):
        return ("--host", "127.0.0.1", "--port", str(self.server_address[1]))


class _Connection(socketserver.BaseRequestHandler):
    def handle(self):
        decoder = Decoder(role="server", max_packet=1 << 20)
        while data := self._received():
            for packet, _ in decoder.feed(data):
                if not self._answered(packet):
                    return

    def _received(self):
        with contextlib.suppress(OSError):
            return self.request.recv(1 << 16)

    def _answered(self, packet):
        server = self.server
        if isinstance(packet, Connect):
            server.connects.append(packet)
            self.request.sendall(encode(Connack(session_present=False, code=server.code)))
        elif isinstance(packet, Publish):
            server.published.append(packet)
            if server.drop:
                server.drop -= 1
                return False
            if packet.qos and not server.silent:
                self.request.sendall(encode(Puback(packet.packet_id)))
        return True


@pytest.fixture
def scripted():
    """Start scripted servers; all end with the test."""
    running = []

    def start(**behaviour):
        server = Scripted(**behaviour)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def nowhere():
    """Give a port of loopback on which nobody listens, for as long as the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield ("--host", "127.0.0.1", "--port", str(held.getsockname()[1]))


# The root


def test_help_lists_every_command(fleetfeed):
    done = fleetfeed("--help")
    assert done.returncode == 0
    for command in (
        "serve",
        "demo",
        "publish",
        "replay",
        "watch",
        "status",
        "top",
        "check-config",
        "device",
        "user",
    ):
        assert f" {command} ".encode() in done.stdout


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["serve", "--help"],
        ["publish", "--help"],
        ["watch", "--help"],
        ["status", "--help"],
        ["top", "--help"],
        ["device", "--help"],
        ["device", "import", "--help"],
        ["user", "add", "--help"],
    ],
)
def test_help_imports_nothing_that_takes_long(args):
    """Time itself is not measured: what costs it is."""
    code = (
        "import sys; sys.argv = ['fleetfeed', *sys.argv[1:]]\n"
        "from broker.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, env=CLEAN, check=True
    )
    heavy = {"numpy", "pydantic_settings", "amqtt", "paho", "msgpack", "asyncio"}
    heavy |= {
        "argon2",
        "cryptography",
        "jwt",
        "uvloop",
        "feedgen",
        "simulator",
        "devices",
        "sqlite3",
        "redis",
    }
    assert heavy & set(eval(done.stderr)) == set()


def test_version_is_the_installed_one(fleetfeed):
    assert fleetfeed("--version").stdout == b"fleetfeed 0.1.0\n"


@pytest.mark.parametrize(
    "args",
    [["fly"], ["serve", "--fly"], ["publish"], ["device", "add"], ["demo", "--seconds", "x"]],
)
def test_wrong_usage_ends_with_2_and_no_traceback(fleetfeed, args):
    done = fleetfeed(*args)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"Usage:" in done.stderr


def test_a_defect_is_told_in_one_sentence_and_shown_on_request(fleetfeed, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import broker.commands.shell as s\ndef f(*a): raise RuntimeError('boom')\ns.resolved = f"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    assert_fails(
        fleetfeed("check-config", env=env), 1, "a defect of fleetfeed, not of yours", "boom"
    )
    assert b"Traceback" in fleetfeed("check-config", env={**env, "FLEETFEED_DEBUG": "1"}).stderr


# check-config


def test_check_config_says_where_each_value_comes_from(fleetfeed, tmp_path):
    (tmp_path / "feed.toml").write_text('loop = "asyncio"\n[feed]\nhello_wait = 2\n')
    done = fleetfeed("check-config", "feed.toml", env={"FLEETFEED_BIND": "0.0.0.0:1"})
    rows = [line.split() for line in done.stdout.decode().splitlines()]
    assert done.returncode == 0
    assert ["bind", "0.0.0.0:1", "env", "FLEETFEED_BIND"] in rows
    assert ["loop", "asyncio", "file", "feed.toml"] in rows
    assert ["feed.hello_wait", "2.0", "file", "feed.toml"] in rows
    assert ["open", "unset", "default"] in rows
    assert rows[-1] == ["The", "configuration", "is", "valid."]


def test_check_config_as_json(fleetfeed):
    env = {"FLEETFEED_BIND": "0.0.0.0:1", "FLEETFEED_OPEN": "1"}
    result = json.loads(fleetfeed("check-config", "--json", env=env).stdout)
    assert result["valid"] is True
    assert result["settings"]["open"] == {"value": True, "origin": "env", "from": "FLEETFEED_OPEN"}
    assert result["settings"]["data"]["value"] == "fleetfeed-data"
    assert len(result["warnings"]) == 1
    assert {"bind", "open"} <= {each["setting"] for each in result["insecure"]}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_check_config_shows_a_broken_configuration_and_ends_with_2(fleetfeed, tmp_path, form):
    (tmp_path / "feed.toml").write_text("when = 2026-11-23\n[feed]\nmax_inflight = 9\n")
    done = fleetfeed("check-config", "feed.toml", *form)
    assert done.returncode == 2
    assert b"9" in done.stdout
    problems = done.stderr.decode().splitlines()
    assert len(problems) == 2
    assert all(problem.startswith("fleetfeed: ") for problem in problems)


def test_check_config_finds_its_file_in_the_environment(fleetfeed, tmp_path):
    (tmp_path / "feed.toml").write_text("bnid = 1")
    done = fleetfeed("check-config", env={"FLEETFEED_CONFIG": "feed.toml"})
    assert done.returncode == 2
    assert b"did you mean bind?" in done.stderr


def test_check_config_prints_the_example(fleetfeed):
    assert fleetfeed("check-config", "--example").stdout.decode() == example()


def test_check_config_names_what_leaves_the_door_open(fleetfeed):
    env = {"FLEETFEED_BIND": "0.0.0.0:1", "FLEETFEED_OPEN": "1"}
    done = fleetfeed("check-config", env=env)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    insecure = [line.split()[1] for line in lines if line.startswith("Insecure: ")]
    assert {"bind", "open"} <= set(insecure)
    production = fleetfeed("check-config", "--production", env=env)
    assert production.returncode == 2
    named = [line.split()[4] for line in production.stderr.decode().splitlines()]
    assert named == insecure


def test_check_config_is_content_with_a_server_for_this_machine_alone(fleetfeed):
    done = fleetfeed("check-config", "--production", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["insecure"] == []


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Make the files that fleetfeed.production.toml names; gives the variables that name these."""
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    files = {name: directory / f"{name}.pem" for name in ("certificate", "key", "client_ca")}
    files["certificate"].write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    files["key"].write_bytes(server.private_key_pem.bytes())
    files["key"].chmod(0o600)
    authority.cert_pem.write_to_path(files["client_ca"])
    return {f"FLEETFEED_TLS__{name.upper()}": str(path) for name, path in files.items()}


PRODUCTION = ROOT / "fleetfeed.production.toml"


def test_the_production_configuration_lacks_nothing_but_certificates(fleetfeed, certificates):
    done = fleetfeed("check-config", "--production", PRODUCTION)
    assert done.returncode == 2
    said = done.stderr.decode()
    assert said.count("\n") == 1
    assert "/etc/fleetfeed/server.pem cannot be read: No such file" in said
    done = fleetfeed("check-config", "--production", PRODUCTION, env=certificates)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"The configuration is valid.\n")


@pytest.mark.parametrize(
    ("name", "words"),
    [("KEY", "tls.key = "), ("CERTIFICATE", "tls.certificate = "), ("CLIENT_CA", "tls.client_ca")],
)
def test_check_config_tries_the_files_that_it_names(fleetfeed, certificates, tmp_path, name, words):
    broken = tmp_path / "broken.pem"
    broken.write_text("nonsense")
    broken.chmod(0o600)
    env = {**certificates, f"FLEETFEED_TLS__{name}": str(broken)}
    done = fleetfeed("check-config", PRODUCTION, "--json", env=env)
    assert done.returncode == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert words in problem
    assert done.stderr.decode() == f"fleetfeed: {problem}\n"


def test_check_config_tries_the_key_of_tokens(fleetfeed, tmp_path):
    (tmp_path / "key").write_text("short")
    env = {"FLEETFEED_TOKEN__KEY": "key", "FLEETFEED_TOKEN__ALGORITHM": "HS256"}
    done = fleetfeed("check-config", env=env)
    assert done.returncode == 2
    assert done.stderr.startswith(b"fleetfeed: token.key = key has 5 bytes")


def test_a_device_comes_in_by_the_certificate_that_the_security_page_makes(fleetfeed, tmp_path):
    """On the production configuration, as it is but for the places of files and the port."""
    page = (ROOT / "docs" / "security.md").read_text()
    for line in page.splitlines():
        if line.startswith(("openssl ", "chmod ")) and " > " not in line:
            subprocess.run(shlex.split(line), cwd=tmp_path, check=True, capture_output=True)
    env = {
        "FLEETFEED_TLS__CERTIFICATE": "server.pem",
        "FLEETFEED_TLS__KEY": "server.key",
        "FLEETFEED_TLS__CLIENT_CA": "client-ca.pem",
        "FLEETFEED_TLS__BIND": "127.0.0.1:0",
        "FLEETFEED_DATA": "data",
    }
    checked = fleetfeed("check-config", "--production", PRODUCTION, env=env)
    assert (checked.returncode, checked.stderr) == (0, b"")
    assert fleetfeed("device", "add", "oven-17", "--no-secret", "--data", "data").returncode == 0
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    context.load_cert_chain(tmp_path / "oven-17.pem", tmp_path / "oven-17.key")
    with serving(tmp_path, "--config", str(PRODUCTION), bind=None, env=env) as (_, line, address):
        assert line.endswith("with TLS (data data, closed registration)\n")
        port = int(address[-1])
        for name, code in (("oven-17", 0), ("oven-18", 5)):
            with (
                socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
                context.wrap_socket(plain, server_hostname="feed.example.com") as connection,
            ):
                connection.sendall(encode(Connect(name, username=name)))
                assert connection.recv(4) == encode(Connack(session_present=False, code=code))


# serve


def test_serve_refuses_a_wrong_configuration(fleetfeed, tmp_path):
    (tmp_path / "feed.toml").write_text("[feed]\nmax_inflight = 9\n")
    done = fleetfeed("serve", "--config", "feed.toml", "--bind", "x")
    assert_fails(done, 2, "bind = 'x' (flag --bind)", "and 1 more", "check-config")
    assert not (tmp_path / "fleetfeed-data").exists()


# publish


def test_publish_waits_until_the_item_is_acknowledged(fleetfeed, scripted):
    server = scripted()
    done = fleetfeed(
        *("publish", "alerts/ca", "Flood at Bay St", "--id", "a1", "--priority", "urgent"),
        *("--ttl", "60", "--tag", "flood", "--tag", "bay", "--collapse", "bay", "--brief", "Flood"),
        *("--where", "region=ca", "--where", "floor=3", "--where", "region=nv", *server.address),
    )
    assert done.stdout == b"published a1 on alerts/ca\n", done.stderr
    (packet,) = server.published
    assert (packet.topic, packet.qos, packet.retain) == ("items/alerts/ca", 1, False)
    assert msgpack.unpackb(packet.payload) == {
        "id": "a1",
        "payload": "Flood at Bay St",
        "brief": "Flood",
        "priority": 3,
        "ttl": 60,
        "tags": ["flood", "bay"],
        "collapse": "bay",
        "where": {"region": ["ca", "nv"], "floor": ["3", 3]},
    }


@pytest.mark.parametrize(
    ("stdin", "payload"), [("naïve\n".encode(), "naïve\n"), (b"\xff\x00\x01", b"\xff\x00\x01")]
)
def test_publish_reads_the_payload_from_stdin(fleetfeed, scripted, stdin, payload):
    server = scripted()
    done = fleetfeed("publish", "news", "-", "--json", *server.address, stdin=stdin)
    result = json.loads(done.stdout)
    assert result["channel"] == "news"
    assert result["stored"] is True
    assert len(result["id"]) == 32
    assert msgpack.unpackb(server.published[0].payload) == {"payload": payload}


def test_publish_retracts(fleetfeed, scripted):
    server = scripted()
    done = fleetfeed("publish", "news", "--retract", "--id", "a1", *server.address)
    assert done.stdout == b"retracted a1 on news\n"
    assert msgpack.unpackb(server.published[0].payload) == {"id": "a1", "retract": True}


def test_publish_under_a_prefix_and_with_a_password_from_the_environment(fleetfeed, scripted):
    server = scripted()
    done = fleetfeed(
        *("publish", "news", "x", "--prefix", "site1", "--username", "ann", *server.address),
        env={"FLEETFEED_PASSWORD": "s3cret"},
    )
    assert done.returncode == 0
    assert server.published[0].topic == "site1/items/news"
    assert (server.connects[0].username, server.connects[0].password) == ("ann", b"s3cret")


def test_publish_at_qos_0_says_that_nobody_confirmed(fleetfeed, scripted):
    server = scripted(silent=1)
    done = fleetfeed("publish", "news", "x", "--id", "a", "--qos", "0", *server.address)
    assert done.stdout == b"published a on news, unconfirmed\n"


def test_publish_survives_a_connection_that_breaks_before_the_acknowledgement(fleetfeed, scripted):
    server = scripted(drop=1)
    done = fleetfeed("publish", "news", "x", *server.address)
    assert done.returncode == 0
    first, again = server.published
    assert (first.dup, again.dup) == (False, True)
    assert first.payload == again.payload


def test_publish_without_a_server_ends_with_3(fleetfeed, nowhere):
    assert_fails(fleetfeed("publish", "news", "x", *nowhere), 3, "no server answers at 127.0.0.1")


def test_publish_to_a_name_that_is_none_ends_with_3(fleetfeed):
    done = fleetfeed("publish", "news", "x", "--host", "no.such.host.invalid")
    assert_fails(done, 3, "no server answers at no.such.host.invalid")


def test_publish_refused_by_the_server_ends_with_1(fleetfeed, scripted):
    done = fleetfeed("publish", "news", "x", *scripted(code=5).address)
    assert_fails(done, 1, "refused the connection: this user or device is unknown", "--username")


def test_publish_to_a_server_that_is_busy_ends_with_3(fleetfeed, scripted):
    done = fleetfeed("publish", "news", "x", *scripted(code=3).address)
    assert_fails(done, 3, "too busy", "try again in a minute")


def test_publish_unacknowledged_ends_with_1_and_says_that_it_may_be_repeated(fleetfeed, scripted):
    done = fleetfeed("publish", "news", "x", "--timeout", "0.1", *scripted(silent=1).address)
    assert_fails(done, 1, "has not confirmed", "publish it again")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["news"], "a PAYLOAD is needed"),
        (["news", "--retract"], "--retract needs --id"),
        (["news/+", "x"], "the server would refuse this item on news/+"),
        (["news", "x", "--ttl", "0"], "ttl"),
        (["news", "x", "--ttl", str(1 << 70)], "cannot be sent"),
        (["news", "x", "--id", "i" * 65], "id"),
        (["news", "x", "--where", "region"], "not NAME=VALUE"),
        (["news", "x", "--prefix", "a/#"], "wildcard"),
    ],
)
def test_an_item_that_the_server_would_refuse_is_not_even_sent(fleetfeed, nowhere, args, words):
    assert_fails(fleetfeed("publish", *args, *nowhere), 2, words)


def test_an_item_too_large_is_not_even_sent(fleetfeed, nowhere):
    done = fleetfeed("publish", "news", "-", *nowhere, stdin=b"x" * 65_537)
    assert_fails(done, 2, "the server would refuse")


def test_a_priority_that_is_none_is_wrong_usage(fleetfeed):
    done = fleetfeed("publish", "news", "x", "--priority", "huge")
    assert done.returncode == 2
    assert b"'huge' is not low, normal, high, urgent or 0 to 3" in done.stderr


# replay


def test_replay_publishes_a_file_in_its_order_and_at_its_pace(fleetfeed, scripted, tmp_path):
    server = scripted()
    lines = [{"channel": "news/a", "at": 5.0, "payload": "later"}]
    lines += [{"channel": "news/b", "at": 1.0, "payload": f"{n}"} for n in range(3)]
    (tmp_path / "day.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = fleetfeed("replay", "day.jsonl", "--speed", "20", "--json", *server.address)
    result = json.loads(done.stdout)
    assert result["items"] == 4
    assert result["seconds"] >= 0.2
    sent = [(each.topic, msgpack.unpackb(each.payload)["payload"]) for each in server.published]
    assert sent == [("items/news/b", f"{n}") for n in range(3)] + [("items/news/a", "later")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"channel": "a", "payload": "x"}\nnonsense', "day.jsonl:2"),
        ('{"channel": "a", "payload": "x", "tags": "t"}', "the server would refuse"),
    ],
)
def test_replay_of_a_wrong_file_publishes_nothing(fleetfeed, nowhere, tmp_path, text, words):
    (tmp_path / "day.jsonl").write_text(text)
    assert_fails(fleetfeed("replay", "day.jsonl", *nowhere), 2, words)


def test_replay_of_a_missing_file_is_wrong_usage(fleetfeed, nowhere):
    assert_fails(fleetfeed("replay", "none.jsonl", *nowhere), 2, "none.jsonl")


def test_replay_without_a_server_ends_with_3(fleetfeed, nowhere, tmp_path):
    (tmp_path / "day.jsonl").write_text('{"channel": "a", "payload": "x"}')
    assert_fails(fleetfeed("replay", "day.jsonl", *nowhere), 3, "no server answers")


# device, against a running server


@pytest.fixture
async def administered(tmp_path, fleetfeed):
    """Run `fleetfeed device …` against a control socket; gives the commands and what they said."""
    calls = []

    async def add(args):
        calls.append(("device.add", args))
        if args["device"] == "bad id":
            raise ControlError("'bad id' is no device id: 1 to 64 of [A-Za-z0-9_.:-]")
        return {"device": args["device"], "secret": "s3cret" if args["secret"] else None}

    async def show(args):
        calls.append(("device.show", args))
        return {
            "device": args["device"],
            "follow": ["news/#", "alerts/+/ca"],
            "attrs": {"region": "ca"},
            "rights": {"publish": ["a/#", "b"], "operator": True},
            "revoked": False,
            "clock": False,
            "agent": None,
            "window": [[7, "Flood\x1b[31m"], [9, b"\xff\x01"], [11, msgpack.packb({"t": "Hé"})]],
        }

    async def list_(args):
        calls.append(("device.list", args))
        return {"devices": ["attic", "kitchen"], "more": True}

    async def follow(args):
        calls.append(("device.follow", args))
        return {"follow": args["follow"]}

    async def remove(args):
        calls.append(("device.remove", args))
        return {}

    async def rotate(args):
        calls.append(("device.rotate", args))
        valid = not args["now"]
        return {"device": args["device"], "secret": "n3w", "old_secret_valid": valid}

    async def revoke(args):
        calls.append(("device.revoke", args))
        return {"device": args["device"]}

    async def restore(args):
        calls.append(("device.restore", args))
        return {"device": args["device"]}

    async def erase(args):
        calls.append(("device.erase", args))
        return {"device": args["device"], "removed": ["profile", "secret"]}

    data = tmp_path / "fleetfeed-data"
    data.mkdir()
    handlers = {"add": add, "show": show, "list": list_, "follow": follow, "remove": remove}
    handlers |= {"rotate": rotate, "revoke": revoke, "restore": restore, "erase": erase}
    server = ControlServer(data / "control.sock", {f"device.{k}": v for k, v in handlers.items()})
    await server.start()

    async def run(*args):
        return await asyncio.to_thread(fleetfeed, "device", *args)

    run.calls = calls
    yield run
    await server.stop()


async def test_device_add_asks_the_running_server_and_prints_the_password(administered):
    done = await administered(
        "add",
        "kitchen",
        "--follow",
        "news/#",
        "--attr",
        "region=ca",
        "--attr",
        "floor=3",
        "--publish",
        "status/+",
        "--publish",
        "news",
        "--may-follow",
        "news/#",
    )
    assert done.stdout == b"added kitchen, password s3cret\n", done.stderr
    assert administered.calls == [
        (
            "device.add",
            {
                "device": "kitchen",
                "follow": ["news/#"],
                "attrs": {"region": "ca", "floor": 3},
                "secret": True,
                "publish": ["status/+", "news"],
                "may_follow": ["news/#"],
            },
        )
    ]


async def test_device_add_without_filters_leaves_them_to_the_server(administered):
    done = await administered("add", "kitchen", "--no-secret", "--json")
    assert json.loads(done.stdout) == {"device": "kitchen", "secret": None}
    asked = administered.calls[0][1]
    assert (asked["follow"], asked["publish"], asked["may_follow"]) == (None, [], None)


async def test_what_the_server_refuses_ends_with_1_in_its_words(administered):
    assert_fails(await administered("add", "bad id"), 1, "'bad id' is no device id")


async def test_device_show_is_readable_and_harmless_on_a_terminal(administered):
    lines = (await administered("show", "kitchen")).stdout.decode().splitlines()
    text = [" ".join(line.split()) for line in lines]
    assert "follow news/#, alerts/+/ca" in text
    assert "attrs region=ca" in text
    assert "rights publish=a/# b, operator=true" in text
    assert "clock false" in text
    assert "window 1 #7 Flood\\x1b[31m" in text
    assert "2 #9 ff 01" in text
    assert '3 #11 {"t": "Hé"}' in text


async def test_a_device_that_has_not_come_yet_is_shown_without_a_window(tmp_path, fleetfeed):
    async def show(args):
        return {"device": args["device"], "connected": False, "window": None}

    (tmp_path / "fleetfeed-data").mkdir()
    server = ControlServer(tmp_path / "fleetfeed-data" / "control.sock", {"device.show": show})
    await server.start()
    done = await asyncio.to_thread(fleetfeed, "device", "show", "attic")
    await server.stop()
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert lines == [["device", "attic"], ["connected", "false"], ["window", "none"]]


LEFT = {"left": 3, "at_once": 5, "an_hour": 10}


@pytest.mark.parametrize(
    ("allowance", "said"),
    [
        (None, "no limit"),
        (
            {"frames": None, "bytes": None, "quiet": False, "waiting": False, "left": 1.0},
            "no limit",
        ),
        (
            {"frames": LEFT, "bytes": None, "quiet": False, "waiting": False, "left": 0.6},
            "3 of 5 frames left (10 an hour)",
        ),
        (
            {"frames": None, "bytes": LEFT, "quiet": True, "waiting": True, "left": 0.6},
            "3 of 5 bytes left (10 an hour), quiet hours now, changes wait",
        ),
    ],
)
async def test_device_show_says_what_is_left_of_hourly_budgets(
    tmp_path, fleetfeed, allowance, said
):
    async def show(args):
        return {"device": args["device"], "budget": 256, "allowance": allowance}

    (tmp_path / "fleetfeed-data").mkdir()
    server = ControlServer(tmp_path / "fleetfeed-data" / "control.sock", {"device.show": show})
    await server.start()
    done = await asyncio.to_thread(fleetfeed, "device", "show", "attic")
    await server.stop()
    words = " ".join(done.stdout.decode().split())
    assert words == f"device attic budget 256 allowance {said}"


async def test_device_show_as_json_keeps_bytes(administered):
    result = json.loads((await administered("show", "kitchen", "--json")).stdout)
    assert result["window"][1] == [9, {"b64": "/wE="}]


async def test_device_list_says_that_there_are_more(administered):
    done = await administered("list", "--after", "a", "--limit", "2")
    assert done.stdout == b"attic\nkitchen\n"
    assert b"There are more" in done.stderr
    assert administered.calls == [("device.list", {"after": "a", "limit": 2})]


async def test_device_follow_and_remove(administered):
    assert (await administered("follow", "kitchen", "a/#", "b", "--unfollow", "#")).returncode == 0
    assert (await administered("remove", "kitchen")).stdout == b"removed kitchen\n"
    assert administered.calls == [
        ("device.follow", {"device": "kitchen", "follow": ["a/#", "b"], "unfollow": ["#"]}),
        ("device.remove", {"device": "kitchen"}),
    ]


async def test_device_rotate_shows_the_new_password_and_what_becomes_of_the_old(administered):
    done = await administered("rotate", "kitchen")
    assert done.stdout == (
        b"kitchen, new password n3w; the old one is valid until it is first used\n"
    )
    done = await administered("rotate", "kitchen", "--now")
    assert done.stdout == b"kitchen, new password n3w\n"
    assert [args["now"] for _, args in administered.calls] == [False, True]


async def test_device_revoke_restore_and_erase(administered):
    done = await administered("revoke", "kitchen")
    assert done.stdout == b"revoked kitchen; 'fleetfeed device restore' lets it in again\n"
    assert (await administered("restore", "kitchen")).stdout == b"restored kitchen\n"
    done = await administered("erase", "kitchen")
    assert done.stdout == b"erased kitchen: profile, secret\n"
    done = await administered("erase", "kitchen", "--json")
    assert json.loads(done.stdout)["removed"] == ["profile", "secret"]
    assert {args["device"] for _, args in administered.calls} == {"kitchen"}


async def test_device_follow_without_any_filter_is_wrong_usage(administered):
    assert_fails(await administered("follow", "kitchen"), 2, "nothing to change")


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["follow", "x", "#"],
        *([command, "x"] for command in ("show", "rotate", "revoke", "restore", "erase", "remove")),
    ],
)
def test_a_data_directory_that_is_not_there_is_not_made_by_looking(fleetfeed, tmp_path, args):
    assert_fails(fleetfeed("device", *args), 1, "there is no data directory fleetfeed-data")
    assert list(tmp_path.iterdir()) == []


# serve and what works with it


@contextlib.contextmanager
def serving(directory, *args, bind="127.0.0.1:0", env=None):
    """Run `fleetfeed serve` on a free port; gives the process, its first line and how to reach it."""
    where = ("--bind", bind) if bind else ()
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "serve", *where, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env={**CLEAN, **(env or {})},
        text=True,
    )
    try:
        line = process.stdout.readline()
        port = line.split()[3].rpartition(":")[2] if line else ""
        yield process, line, ("--host", "127.0.0.1", "--port", port)
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize(("flag", "mode"), [("--open", "open"), ("--no-open", "closed")])
def test_serve_prints_one_line_when_ready_and_ends_well_on_sigterm(tmp_path, flag, mode):
    with serving(tmp_path, flag, "--data", "here") as (process, line, address):
        assert (
            line
            == f"fleetfeed: listening on 127.0.0.1:{address[-1]} (data here, {mode} registration)\n"
        )
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert not (tmp_path / "here" / "control.sock").exists()


def test_a_second_server_on_the_same_data_or_port_is_told_why_not(tmp_path, fleetfeed):
    with serving(tmp_path, "--data", "here") as (_, _, address):
        same_data = fleetfeed("serve", "--bind", "127.0.0.1:0", "--data", "here")
        same_port = fleetfeed("serve", "--bind", f"127.0.0.1:{address[-1]}", "--data", "there")
    assert same_data.returncode == same_port.returncode == 1
    assert "here is in use by another server" in same_data.stderr.decode().splitlines()[-1]
    assert "another program listens on" in same_port.stderr.decode().splitlines()[-1]


def test_what_is_published_is_seen_by_watch_and_by_device_show(tmp_path, fleetfeed):
    with serving(tmp_path) as (_, _, address):
        assert fleetfeed("publish", "news", "Hello", "--ttl", "999", *address).returncode == 0
        watching = subprocess.Popen(
            [sys.executable, "-m", "broker", "watch", "kitchen", "--json", *address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=CLEAN,
        )
        first = json.loads(watching.stdout.readline())
        assert fleetfeed("publish", "news", "World", "--priority", "high", *address).returncode == 0
        second = json.loads(watching.stdout.readline())
        watching.terminate()
        assert watching.communicate(timeout=30) == (b"", b"")
        shown = json.loads(fleetfeed("device", "show", "kitchen", "--json").stdout)
    assert watching.returncode == 0
    assert [item["payload"] for item in first["window"]] == ["Hello"]
    assert [item["payload"] for item in second["window"]] == ["World", "Hello"]
    assert second["epoch"] == first["epoch"]
    assert second["seq"] > first["seq"]
    assert [payload for _, payload in shown["window"]] == ["World", "Hello"]


def test_watch_without_a_server_ends_with_3(fleetfeed, nowhere):
    assert_fails(fleetfeed("watch", "kitchen", *nowhere), 3, "no server answers")


def test_watch_of_a_device_that_a_closed_server_does_not_know_ends_with_1(tmp_path, fleetfeed):
    with serving(tmp_path, "--no-open") as (_, _, address):
        done = fleetfeed("watch", "kitchen", "--json", *address)
    assert_fails(done, 1, "refused the connection", "--username")


def test_watch_ends_when_the_real_device_takes_its_place_again_and_again(fleetfeed, scripted):
    """As seen from the client: each connection is lost soon after it was accepted."""
    server = scripted(drop=9)
    done = fleetfeed("watch", "kitchen", "--json", *server.address)
    assert_fails(done, 1, "another client may use the id kitchen")
    assert len(server.connects) == 3


def test_a_device_added_while_no_server_runs_is_let_in_by_the_next_one(tmp_path, fleetfeed):
    added = fleetfeed("device", "add", "kitchen", "--follow", "news/#", "--publish", "#", "--json")
    secret = json.loads(added.stdout)["secret"]
    with serving(tmp_path, "--no-open") as (_, _, address):
        args = ("publish", "news", "Hello", "--username", "kitchen", *address)
        assert fleetfeed(*args, env={"FLEETFEED_PASSWORD": secret}).returncode == 0
        assert_fails(fleetfeed(*args, env={"FLEETFEED_PASSWORD": "x"}), 1, "refused the connection")
        listed = fleetfeed("device", "list")
    assert listed.stdout == b"kitchen\n"
    assert fleetfeed("device", "remove", "kitchen").stdout == b"removed kitchen\n"
    assert fleetfeed("device", "list").stdout == b""


# TLS


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Make the files of an authority, of servers and of clients; gives their directory."""
    directory = tmp_path_factory.mktemp("keys")
    authority, other = trustme.CA(), trustme.CA()
    issued = {
        "server": authority.issue_cert("127.0.0.1"),
        "elsewhere": authority.issue_cert("feed.example.com"),
        "old": authority.issue_cert("127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=1)),
        "kitchen": authority.issue_cert(common_name="kitchen"),
        "stranger": other.issue_cert(common_name="kitchen"),
    }
    for name, certificate in issued.items():
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        key = certificate.private_key_pem.bytes()
        (directory / f"{name}.pem").write_bytes(chain)
        (directory / f"{name}.key").write_bytes(key)
        (directory / f"{name}.both").write_bytes(key + chain)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    return directory


@contextlib.contextmanager
def encrypted(directory, keys, *, name="server", certificate="none", mode="--open"):
    """Run a server with both ports; gives how to reach the plaintext one and the encrypted one."""
    env = {
        "FLEETFEED_TLS__BIND": "127.0.0.1:0",
        "FLEETFEED_TLS__CERTIFICATE": str(keys / f"{name}.pem"),
        "FLEETFEED_TLS__KEY": str(keys / f"{name}.key"),
        "FLEETFEED_TLS__CLIENT_CA": str(keys / "ca.pem"),
        "FLEETFEED_TLS__CLIENT_CERTIFICATE": certificate,
    }
    with serving(directory, mode, env=env) as (_, line, plain):
        port = line.partition(" with TLS")[0].rpartition(":")[2]
        yield plain, ("--host", "127.0.0.1", "--port", port)


def first_window(directory, *args):
    """Watch until the first line; returns its payloads."""
    watching = subprocess.Popen(
        [sys.executable, "-m", "broker", "watch", "kitchen", "--json", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=CLEAN,
    )
    line = watching.stdout.readline()
    watching.terminate()
    assert watching.communicate(timeout=30) == (b"", b"")
    return [item["payload"] for item in json.loads(line)["window"]]


def test_publish_replay_and_watch_over_tls(fleetfeed, tmp_path, keys):
    (tmp_path / "day.jsonl").write_text('{"channel": "news", "payload": "World"}')
    trust = ("--ca", keys / "ca.pem")
    with encrypted(tmp_path, keys) as (_, address):
        assert fleetfeed("publish", "news", "Hello", *address, *trust).returncode == 0
        assert fleetfeed("replay", "day.jsonl", *address, "--tls", *trust).returncode == 0
        assert first_window(tmp_path, *address, *trust) == ["World", "Hello"]
        counters = json.loads(fleetfeed("status", "--json").stdout)["counters"]
    assert "tls_handshake_failed" not in counters["dropped"]


def test_a_client_certificate_says_who_it_is(fleetfeed, tmp_path, keys):
    fleetfeed("device", "add", "kitchen", "--no-secret", "--publish", "#", "--follow", "#")
    trust = ("--ca", keys / "ca.pem")
    pair = ("--cert", keys / "kitchen.pem", "--key", keys / "kitchen.key")
    both = ("--cert", keys / "kitchen.both")
    with encrypted(tmp_path, keys, certificate="required", mode="--no-open") as (_, address):
        assert fleetfeed("publish", "news", "Hello", *address, *trust, *pair).returncode == 0
        assert first_window(tmp_path, *address, *trust, *both) == ["Hello"]
        other = fleetfeed("watch", "porch", "--json", *address, *trust, *both)
        assert_fails(other, 1, "refused to let us read f/porch")
        without = fleetfeed("watch", "kitchen", "--json", *address, *trust)
        assert_fails(without, 1, "closed the connection before it answered", "--cert and --key")
        stranger = ("--cert", keys / "stranger.both")
        refused = fleetfeed("publish", "news", "x", *address, *trust, *stranger)
        assert_fails(refused, 1, "does not accept the certificate of --cert")


@pytest.mark.parametrize(
    ("name", "command", "trusted", "words"),
    [
        ("server", "publish news x", False, ["not from an authority that we trust", "with --ca"]),
        ("server", "watch kitchen", False, ["not from an authority that we trust", "with --ca"]),
        ("elsewhere", "watch kitchen", True, ["is for another name", "--host"]),
        ("old", "publish news x", True, ["has expired or is not valid yet", "clock"]),
    ],
)
def test_what_is_wrong_with_the_certificate_of_the_server_is_told_in_a_sentence(
    fleetfeed, tmp_path, keys, name, command, trusted, words
):
    trust = ("--ca", keys / "ca.pem") if trusted else ("--tls",)
    with encrypted(tmp_path, keys, name=name) as (_, address):
        done = fleetfeed(*command.split(), *address, *trust)
    assert_fails(done, 1, "no TLS connection to 127.0.0.1:", *words)


def test_tls_on_the_plaintext_port_and_the_other_way_round_is_told(fleetfeed, tmp_path, keys):
    with encrypted(tmp_path, keys) as (plain, address):
        for command in (("publish", "news", "x"), ("watch", "kitchen", "--json")):
            done = fleetfeed(*command, *plain, "--ca", keys / "ca.pem")
            assert_fails(done, 1, "as a port without TLS does", "do without TLS")
            done = fleetfeed(*command, *address)
            assert_fails(done, 1, "closed the connection before it answered", "give --tls or --ca")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ca", "none.pem"], "--ca none.pem cannot be read: No such file"),
        (["--ca", "server.key"], "--ca server.key holds no certificate in PEM form"),
        (["--cert", "none.pem"], "--cert none.pem cannot be read"),
        (["--cert", "server.pem", "--key", "none.key"], "--key none.key cannot be read"),
        (["--cert", "server.pem"], "no certificate and key in PEM form"),
        (["--cert", "server.pem", "--key", "old.key"], "is not the key of --cert server.pem"),
        (["--cert", "server.pem", "--key", "locked.key"], "protected by a passphrase"),
        (["--key", "server.key"], "--key needs --cert"),
    ],
)
def test_certificates_that_cannot_be_used_are_wrong_usage(
    fleetfeed, keys, nowhere, tmp_path, options, words
):
    for file in keys.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    locked = load_pem_private_key((keys / "server.key").read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"s3cret")
    )
    (tmp_path / "locked.key").write_bytes(locked)
    assert_fails(fleetfeed("publish", "news", "x", *options, *nowhere), 2, words)


@pytest.mark.parametrize(("options", "port"), [([], 1883), (["--tls"], 8883)])
def test_the_port_is_that_of_mqtt_with_or_without_tls(fleetfeed, options, port):
    done = fleetfeed("publish", "news", "x", "--host", "no.such.host.invalid", *options)
    assert_fails(done, 3, f"no server answers at no.such.host.invalid:{port}")


# status


@pytest.fixture
async def reporting(tmp_path, fleetfeed):
    """Run `fleetfeed status` against a server that reports what a test wants."""
    report = {
        "listening": [{"host": "127.0.0.1", "port": 1883}],
        "connections": 12,
        "devices": {"total": 10_204, "with_row": 9, "subscribed": 8, "stalled": 0},
        "items": 57,
        "store": {"up": True, "pending": 0},
        "engine": {"oversize": 3, "rebuilt": 0},
        "ranking": {"model": "learned", "rung": "snapshot", "version": 7},
        "counters": {
            "connections": {"connected": 7, "opened": 1_234_567, "taken_over": 0},
            "closed": {},
            "dropped": {"publish_not_permitted": 1, "connect_refused_bad_credentials": 20},
            "future": {"thing": 4},
        },
    }

    async def status(_args):
        return report

    (tmp_path / "fleetfeed-data").mkdir()
    server = ControlServer(tmp_path / "fleetfeed-data" / "control.sock", {"status": status})
    await server.start()

    async def run(*args, env=None):
        return await asyncio.to_thread(fleetfeed, "status", *args, env=env)

    run.report = report
    yield run
    await server.stop()


async def test_status_shows_what_there_is_and_what_happened_but_no_zeros(reporting):
    done = await reporting()
    assert done.returncode == 0, done.stderr
    assert [" ".join(line.split()) for line in done.stdout.decode().splitlines()] == [
        "listening on 127.0.0.1:1883",
        "connections 12",
        "devices 10 204 known, 9 with a window, 8 subscribed",
        "items 57",
        "store up",
        "ranked by the last good snapshot of the model",
        "",
        "Since its start:",
        "connections opened 1 234 567 of clients",
        "connected 7",
        "engine oversize 3 windows",
        "dropped connect_refused_bad_credentials 20 not carried out",
        "publish_not_permitted 1",
        "future thing 4",
    ]


async def test_status_fits_a_terminal_of_80_columns(reporting):
    reporting.report["counters"]["dropped"]["connect_refused_certificate_of_another"] = 99_999
    lines = (await reporting(env={"COLUMNS": "80"})).stdout.decode().splitlines()
    assert len(lines) == 15
    assert any("connect_refused_certificate_of_another" in line for line in lines)


async def test_status_says_loudly_that_the_store_is_down(reporting):
    reporting.report["store"] = {"up": False, "pending": 1_200}
    words = [line.split() for line in (await reporting()).stdout.decode().splitlines()]
    assert " ".join(words[4]) == "store DOWN: no item is acknowledged, 1 200 changes waiting"


async def test_status_names_publishers_that_are_not_read_and_what_is_put_off(reporting):
    reporting.report["overload"] = {
        "level": 4,
        "name": "holding",
        "items_held": 1_200,
        "publishers_over_budget": ["press", "scra\x1bper"],
        "publishers_choked": [],
        "devices_over_budget": ["u/oven-17"],
        "connects_waiting": 30,
    }
    reporting.report["budgets"] = {"devices_waiting": 5, "devices_quiet": 2, "put_off": 9}
    lines = [" ".join(line.split()) for line in (await reporting()).stdout.decode().splitlines()]
    assert lines[5:10] == [
        "overload level 4, holding; 1 200 items held",
        "not read press, scra\\x1bper: over the budget of a publisher",
        "not read u/oven-17: over the budget of what a device may say",
        "let in soon 30 clients wait for it",
        "put off changes of 5 devices, by budget or quiet hours",
    ]


async def test_status_of_a_gateway_has_no_ports_and_no_connections(reporting):
    reporting.report["listening"] = []
    lines = (await reporting()).stdout.decode().splitlines()
    assert lines[0].split() == ["gateway", "clients", "are", "connected", "to", "its", "broker"]
    assert lines[1].split()[0] == "devices"


async def test_status_as_json_is_what_the_server_said(reporting):
    assert json.loads((await reporting("--json")).stdout) == reporting.report


def test_status_of_a_server_that_has_just_started_and_of_none(fleetfeed, tmp_path):
    with serving(tmp_path):
        done = fleetfeed("status")
        assert done.stdout.decode().splitlines()[4].split() == ["store", "up"], done.stderr
    done = fleetfeed("status")
    assert_fails(done, 3, "no server runs on the data directory fleetfeed-data")


@pytest.mark.slow
def test_the_demo_ends_with_every_window_equal_and_leaves_nothing_behind(fleetfeed, tmp_path):
    env = {"TMPDIR": str(tmp_path), "FLEETFEED_FEED__PREFIX": "other/"}
    done = fleetfeed("demo", "--seconds", "2", "--devices", "9", "--json", env=env)
    result = json.loads(done.stdout)
    assert (done.returncode, result["ok"], result["devices"]) == (0, True, 9), done.stderr
    assert result["windows_equal"] == 9
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_demo_stopped_by_sigterm_ends_its_server_first(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "demo", "--seconds", "600", "--devices", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**CLEAN, "TMPDIR": str(tmp_path)},
    )
    assert re.match(rb"See it at http://127\.0\.0\.1:\d+/ while", process.stdout.readline())
    assert b"items in" in process.stdout.readline()
    (directory,) = tmp_path.iterdir()
    control = ControlClient(directory / "control.sock")
    assert control.call("device.list")["devices"] == ["wall-001"]
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (1, b"fleetfeed: the demo was ended by SIGTERM\n")
    with pytest.raises(NoServer):
        control.call("status")
    assert list(tmp_path.iterdir()) == []
