"""What brought other MQTT servers down, held against ours over real sockets, on both event loops.

Each row is a published weakness of some broker (`KNOWN`), and the tests show what this server does
instead: it refuses, it closes, or nothing comes of it.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devices.frames import Hello, encode_up
from devices.packets import (
    REFUSED,
    Connack,
    Connect,
    PacketError,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    Will,
    encode,
)
from tests.broker.support import Device, Peer, Served, ServerProcess, Target, eventually, item
from tests.mqtt_cases import HIDDEN, MALFORMED, MQTT, Malformed, wire

KNOWN = {
    "CVE-2016-9877": "a user name without a password was let in",
    "CVE-2017-7650": "a client id or user name with wildcards passed access rules that name it",
    "CVE-2017-7651": "a large CONNECT was kept in memory before anybody had logged in",
    "CVE-2017-7653": "text that is not UTF-8 reached other clients",
    "CVE-2019-11779": "a topic of tens of thousands of levels exhausted the stack",
    "CVE-2020-13849": "clients that send slowly held connections for ever",
    "CVE-2021-28166": "a CONNACK that comes from a client stopped the server",
    "CVE-2021-34432": "a PUBLISH to the empty topic stopped the server",
    "CVE-2023-0809": "packets that are no CONNECT were taken in before anybody had logged in",
    "CVE-2023-28366": "QoS 2 messages with ids that are never released leaked memory",
    "CVE-2025-66168": "a remaining length longer than the packet let hidden packets through",
    "CVE-2026-25627": "a WebSocket frame shorter than it says stopped the server",
    "CVE-2026-40046": "a remaining length read in two ways let hidden packets through",
    "CVE-2026-44838": "a user name was taken for a regular expression of the access rules",
    "CVE-2026-85724": "a client id with wildcards widened the filters made from it",
    "CVE-2026-95844": "a topic of tens of thousands of levels exhausted the processor",
    "mosquitto-3551": "a client with the same id ended the session of another user",
    "mosquitto-3553": "a client with the same id took over the session of another user",
}

SETTINGS = {
    "auth.login_failures": 1_000,
    "limits.connect_timeout": 1.0,
    "topics.read": ("#",),
    "topics.write": ("#",),
    "topics.refused": ("secret/#",),
}
ODD_NAMES = (
    "#",
    "+",
    "f/#",
    "+/+",
    ".*",
    "^.*$",
    "kitchen|",
    "%c",
    "%u",
    "k[a-z]*",
    "kitchen/",
    "ﬀ",
)
Serve = Callable[..., Awaitable[Served]]


def asked(settings: dict[str, Any]) -> dict[str, Any]:
    """As the fixture `serve` takes them."""
    return {name.replace(".", "__"): value for name, value in settings.items()}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, ServerProcess]]:
    """Two `fleetfeed serve` on uvloop, with registration open and closed, shared by all tests."""
    started = {}
    for opened in (True, False):
        data = tmp_path_factory.mktemp("attacked") / "data"
        started[opened] = ServerProcess(data, opened=opened, **SETTINGS).start()
    yield started
    for process in started.values():
        process.close()


@pytest.fixture(params=["asyncio", "uvloop"])
async def open_server(
    request: pytest.FixtureRequest, serve: Serve
) -> AsyncIterator[Served | ServerProcess]:
    """A server with open registration."""
    async for server in _server(request, serve, opened=True):
        yield server


@pytest.fixture(params=["asyncio", "uvloop"])
async def closed_server(
    request: pytest.FixtureRequest, serve: Serve
) -> AsyncIterator[Served | ServerProcess]:
    """A server that lets only those in who have a secret."""
    async for server in _server(request, serve, opened=False):
        yield server


async def _server(
    request: pytest.FixtureRequest, serve: Serve, *, opened: bool
) -> AsyncIterator[Served | ServerProcess]:
    if request.param == "asyncio":
        yield await serve(open=opened, **asked(SETTINGS))
        return
    process: ServerProcess = request.getfixturevalue("processes")[opened]
    yield process
    await process.drop_peers()


async def added(server: Served | ServerProcess, name: str) -> bytes:
    """The secret of a new device."""
    answer = server.command("device.add", device=name)
    answer = await answer if inspect.isawaitable(answer) else answer
    return str(answer["secret"]).encode()


async def count(server: Served | ServerProcess, kind: str, reason: str) -> int:
    return server.count(kind, reason)


async def refused(server: Target, connect: Connect) -> int:
    """The code with which a client is turned away; its connection ends."""
    peer = await server.peer()
    code = (await peer.greet(connect)).code
    assert code
    await peer.expect_closed()
    return code


async def watcher(server: Target, *filters: str, client_id: str = "") -> Peer:
    """A client that sees what is published under these filters."""
    peer = await server.connect(client_id)
    assert await peer.subscribe(*((topic_filter, 1) for topic_filter in filters)) == (1,) * len(
        filters
    )
    return peer


async def sees_first(peer: Peer, payload: bytes) -> None:
    """The next message that the client gets is this one: nothing came before it."""
    assert (await peer.expect(Publish)).payload == payload


async def says(server: Target, topic: str, payload: bytes, *, retain: bool = False) -> None:
    """Somebody publishes, and knows that it has been taken."""
    peer = await server.connect("")
    peer.send(Publish(topic, payload, 1, 1, retain=retain))
    assert await peer.expect(Puback) == Puback(1)
    await peer.leave()


def test_every_weakness_of_the_table_has_a_test() -> None:
    names = [name for name in vars(sys.modules[__name__]) if name.startswith("test_")]
    tested = {
        found.upper().replace("_", "-").replace("MOSQUITTO", "mosquitto")
        for name in names
        for found in re.findall(r"cve_\d+_\d+|mosquitto_\d+", name)
    }
    assert tested == set(KNOWN)


# ---- Names


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_cve_2017_7650_and_cve_2026_85724_a_client_id_with_wildcards_reaches_only_itself(
    open_server: Served | ServerProcess, name: str
) -> None:
    victim = await open_server.subscribed(f"victim-{ODD_NAMES.index(name)}")
    odd = await open_server.connect(name)
    wanted = ("f/#", "f/+", f"f/{victim.name}", "f/%c", "+/+/#")
    codes = await odd.subscribe(*((topic_filter, 1) for topic_filter in wanted))
    assert codes[:4] == (REFUSED,) * 4
    forged = encode_up(Hello(7, 7))
    odd.send(Publish(f"u/{victim.name}", forged, 1, 9))
    assert await odd.expect(Puback) == Puback(9)
    await open_server.publish(item(f"odd-{name}", "for all"), channel="names")
    while "for all" not in victim.shown:
        await victim.delta()
    odd.send(Pingreq())
    await odd.expect(Pingresp)


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_cve_2026_44838_a_user_name_is_never_a_pattern(
    closed_server: Served | ServerProcess, name: str
) -> None:
    victim = f"sensor-{ODD_NAMES.index(name)}"
    secret = await added(closed_server, victim)
    for client_id in (name, victim):
        assert await refused(closed_server, Connect(client_id, username=name, password=secret)) in {
            4,
            5,
        }
    device = await closed_server.device(victim, username=victim, password=secret)
    await device.subscribe()
    await device.snapshot()


async def test_cve_2016_9877_a_name_without_its_password_is_nobody(
    closed_server: Served | ServerProcess,
) -> None:
    secret = await added(closed_server, "meter")
    for connect in (
        Connect("meter"),
        Connect("meter", username="meter"),
        Connect("meter", username="meter", password=b""),
        Connect("meter", username="", password=b""),
        Connect("", username="meter", password=b"\0"),
        Connect("meter", username="meter", password=secret[:-1]),
        Connect("meter", username="meter", password=secret + b"x"),
    ):
        assert await refused(closed_server, connect) in {4, 5}
    peer = await closed_server.peer()
    greeting = await peer.greet(Connect("meter", username="meter", password=secret))
    assert greeting == Connack(False, 0)


# ---- Before anybody has logged in


async def test_cve_2017_7651_a_huge_connect_is_refused_by_its_header(
    open_server: Served | ServerProcess,
) -> None:
    before = await count(open_server, "closed", "malformed_too_large")
    for _ in range(20):
        peer = await open_server.peer()
        peer.send(b"\x10\xff\xff\xff\x7f")  # 256 MiB announced
        await peer.expect_closed()
    assert await count(open_server, "closed", "malformed_too_large") == before + 20


@pytest.mark.parametrize(
    "packet",
    [Publish("lights/hall", bytes(1_000), 1, 1), Subscribe(1, (("#", 0),)), Pubrel(1), Pingreq()],
    ids=lambda packet: type(packet).__name__,
)
async def test_cve_2023_0809_nothing_but_connect_is_taken_from_a_stranger(
    open_server: Served | ServerProcess, packet: Publish
) -> None:
    witness = await watcher(open_server, "lights/#")
    peer = await open_server.peer()
    peer.send(packet)
    await peer.expect_closed()
    await says(open_server, "lights/hall", b"later")
    await sees_first(witness, b"later")


async def test_cve_2023_0809_a_large_packet_of_a_stranger_is_closed_when_its_time_is_over(
    open_server: Served | ServerProcess,
) -> None:
    peer = await open_server.peer()
    peer.send(b"\x30\xf0\xff\x03" + bytes(60_000))  # 65 520 bytes announced
    await peer.expect_closed(within=5)


# ---- Text and topics


@pytest.mark.parametrize(
    "case",
    [each for each in MALFORMED if each.role == "server" and each.reason is PacketError.BAD_UTF8],
    ids=lambda case: case.name,
)
async def test_cve_2017_7653_text_that_is_not_utf8_reaches_nobody(
    open_server: Served | ServerProcess, case: Malformed
) -> None:
    witness = await watcher(open_server, "#")
    peer = await open_server.peer()
    if not case.opening:
        await peer.greet(Connect("writer"))
    peer.send(case.data)
    await peer.expect_closed()
    await says(open_server, "text/clean", b"clean")
    await sees_first(witness, b"clean")


@pytest.mark.parametrize("levels", [129, 200, 201, 65_401])
async def test_cve_2019_11779_and_cve_2026_95844_topics_of_many_levels_go_nowhere(
    open_server: Served | ServerProcess, levels: int
) -> None:
    witness = await watcher(open_server, "#")
    deep = "/" * (levels - 1)
    topic = len(deep).to_bytes(2, "big") + deep.encode()
    for first, body in (
        (0x30, topic),
        (0x82, b"\x00\x01" + topic + b"\x00"),
        (0xA2, b"\x00\x01" + topic),
    ):
        peer = await open_server.connect("")
        length = len(body)
        peer.send(bytes((first, length & 127 | 128, length >> 7 & 127 | 128, length >> 14)) + body)
        if levels > 200:
            await peer.expect_closed()
        elif first == 0x82:
            assert (await peer.read()).codes == (REFUSED,)  # type: ignore[union-attr] # a SUBACK
        await peer.drop()
    await says(open_server, "a/few/levels", b"few")
    await sees_first(witness, b"few")


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_cve_2021_34432_a_publish_to_the_empty_topic_ends_its_connection(
    open_server: Served | ServerProcess, qos: int
) -> None:
    peer = await open_server.connect("")
    peer.send(wire(0x30 | qos << 1, b"\x00\x00", b"\x00\x01" if qos else b"", b"x"))
    await peer.expect_closed()


@pytest.mark.parametrize("greeted", [False, True])
@pytest.mark.parametrize("connack", [b"\x20\x02\x00\x00", b"\x20\x02\x01\x05", b"\x20\x00"])
async def test_cve_2021_28166_a_connack_of_a_client_ends_its_connection(
    open_server: Served | ServerProcess, connack: bytes, greeted: bool
) -> None:
    peer = await open_server.peer()
    if greeted:
        await peer.greet(Connect("confused"))
    peer.send(connack)
    await peer.expect_closed()


# ---- Hidden packets


async def test_cve_2025_66168_and_cve_2026_40046_nothing_inside_or_behind_a_malformed_packet_is_done(
    open_server: Served | ServerProcess,
) -> None:
    """Each case with a whole PUBLISH behind it; some hold another inside."""
    witness = await watcher(open_server, "hidden")
    for case in (each for each in MALFORMED if each.role == "server"):
        peer = await open_server.peer()
        if not case.opening:
            await peer.greet(Connect("smuggler"))
        peer.send(case.data + HIDDEN + encode(Publish("hidden", case.name.encode(), 1, 7)))
        await peer.expect_end()
    await says(open_server, "hidden", b"in the open")
    await sees_first(witness, b"in the open")


@pytest.mark.parametrize(
    "around",
    [
        wire(0x30, b"\x00\x09ordinary/", HIDDEN),
        wire(0x32, b"\x00\x09ordinary/\x00\x05", HIDDEN),
    ],
)
async def test_cve_2026_40046_a_packet_within_a_payload_is_payload(
    open_server: Served | ServerProcess, around: bytes
) -> None:
    witness = await watcher(open_server, "hidden", "ordinary/#")
    peer = await open_server.connect("")
    peer.send(around)
    await sees_first(witness, HIDDEN)
    await says(open_server, "hidden", b"in the open")
    await sees_first(witness, b"in the open")


async def test_cve_2025_66168_what_comes_behind_disconnect_or_a_second_connect_is_not_read(
    open_server: Served | ServerProcess,
) -> None:
    witness = await watcher(open_server, "hidden")
    for last in (b"\xe0\x00", encode(Connect("again"))):
        peer = await open_server.connect("again")
        peer.send(last + HIDDEN)
        await peer.expect_end()
    await says(open_server, "hidden", b"in the open")
    await sees_first(witness, b"in the open")


async def test_cve_2026_25627_a_websocket_is_closed_at_its_first_byte(
    open_server: Served | ServerProcess,
) -> None:
    peer = await open_server.peer()
    peer.send(
        b"GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x82\xff\x00\x00\x00\x00\x00\x20\x00\x00"
    )
    await peer.expect_closed()


# ---- Much, slow, for ever


async def test_cve_2023_28366_an_id_repeated_without_end_is_one_message(
    open_server: Served | ServerProcess,
) -> None:
    witness = await watcher(open_server, "repeated")
    peer = await open_server.connect("repeater")
    peer.send(Publish("repeated", b"once", 2, 1))
    for _ in range(2_000):
        peer.send(Publish("repeated", b"once", 2, 1, dup=True))
    for _ in range(2_001):
        assert await peer.expect(Pubrec) == Pubrec(1)
    await sees_first(witness, b"once")
    await says(open_server, "repeated", b"after")
    await sees_first(witness, b"after")


async def test_cve_2023_28366_ids_that_are_never_released_have_an_end(
    open_server: Served | ServerProcess,
) -> None:
    peer = await open_server.connect("hoarder")
    peer.send(*(Publish("lights/hall", b"", 2, packet_id) for packet_id in range(1, 5_000)))
    await peer.expect_end()


async def test_cve_2020_13849_a_silent_client_is_closed_after_one_and_a_half_keep_alives(
    open_server: Served | ServerProcess,
) -> None:
    peer = await open_server.connect("sleeper", keep_alive=1)
    loop = asyncio.get_running_loop()
    since = loop.time()
    await peer.expect_closed()
    assert 1.0 <= loop.time() - since <= 4.0


async def test_cve_2020_13849_a_connect_that_comes_byte_by_byte_must_be_whole_in_time(
    open_server: Served | ServerProcess,
) -> None:
    assert await closed_although_it_sends(open_server, b"\x10\x7f" + MQTT + bytes(200))


async def test_cve_2020_13849_a_packet_that_never_ends_does_not_keep_a_connection_alive(
    open_server: Served | ServerProcess,
) -> None:
    """Whole packets count for keep alive [MQTT-3.1.2-24], bytes do not."""
    opening = encode(Connect("dripper", keep_alive=1))
    assert await closed_although_it_sends(open_server, opening + b"\x30\x80\x40" + bytes(200))


async def closed_although_it_sends(server: Target, stream: bytes) -> bool:
    """Whether a client that sends a byte each fifth of a second is closed within six."""
    peer = await server.peer()
    ended = asyncio.create_task(peer.expect_end())
    head, stream = stream[:40], stream[40:]
    peer.send(head)
    for at in range(30):
        done, _ = await asyncio.wait([ended], timeout=0.2)
        if done:
            return True
        peer.send(stream[at : at + 1])
    ended.cancel()
    return False


# ---- Whose session it is


async def victim_of(server: Served | ServerProcess, name: str, secret: bytes) -> Device:
    """A device with a persistent session, connected and up to date."""
    device = await server.device(name, clean=False, username=name, password=secret)
    await device.subscribe()
    await device.snapshot()
    return device


async def is_unharmed(server: Served | ServerProcess, victim: Device, secret: bytes) -> None:
    """Still connected; and after it left, its session is there."""
    victim.peer.send(Pingreq())
    await victim.peer._after_frames(Pingresp)
    await victim.peer.leave()
    again = await server.device(
        victim.name, victim.replica, clean=False, username=victim.name, password=secret
    )
    assert again.session_present


@pytest.mark.parametrize("clean", [True, False])
async def test_mosquitto_3551_a_refused_client_harms_nothing_of_whom_it_names(
    closed_server: Served | ServerProcess, clean: bool
) -> None:
    name = f"pump-{clean}"
    secret = await added(closed_server, name)
    victim = await victim_of(closed_server, name, secret)
    forged = Will(f"u/{name}", encode_up(Hello(0, 0)), 1)
    for username, password in ((name, b"wrong"), (name, None), (None, None), ("nobody", secret)):
        connect = Connect(name, clean, 60, username, password, forged)
        assert await refused(closed_server, connect) in {4, 5}
    await is_unharmed(closed_server, victim, secret)


@pytest.mark.parametrize("clean", [True, False])
async def test_mosquitto_3553_another_user_cannot_have_a_session_by_its_client_id(
    closed_server: Served | ServerProcess, clean: bool
) -> None:
    name, other = f"valve-{clean}", f"mallory-{clean}"
    secret = await added(closed_server, name)
    theirs = await added(closed_server, other)
    victim = await victim_of(closed_server, name, secret)
    connect = Connect(name, clean, username=other, password=theirs)
    assert await refused(closed_server, connect) == 5
    await is_unharmed(closed_server, victim, secret)


async def test_mosquitto_3553_two_users_with_the_same_client_id_have_two_sessions(
    closed_server: Served | ServerProcess,
) -> None:
    users = {name: await added(closed_server, name) for name in ("ann", "bob")}
    peers = {}
    for name, secret in users.items():
        peers[name] = await closed_server.connect(
            "phone", clean=False, username=name, password=secret
        )
        assert await peers[name].subscribe((f"to/{name}", 1)) == (1,)
    peers["ann"].send(Publish("to/bob", b"hello bob", 1, 1))
    assert (await peers["bob"].expect(Publish)).payload == b"hello bob"
    await peers["ann"].expect(Puback)
    await peers["ann"].ping()


# ---- What the access rules keep


async def test_who_only_connects_receives_nothing(open_server: Served | ServerProcess) -> None:
    await says(open_server, "kept/x", b"retained", retain=True)
    peer = await open_server.connect("spy")
    await peer.ping()
    await peer.ping()


async def test_what_is_refused_to_all_cannot_be_had_by_a_wider_filter(
    open_server: Served | ServerProcess,
) -> None:
    await says(open_server, "secret/x", b"not taken", retain=True)
    peer = await open_server.connect("")
    assert (await peer.subscribe(("secret/x", 0), ("secret/#", 0))) == (REFUSED, REFUSED)
    assert (await peer.subscribe(("+/x", 0))) == (0,)
    await says(open_server, "secret/x", b"not taken")
    await says(open_server, "public/x", b"taken")
    found = (await peer.expect(Publish)).payload
    while found == b"retained":  # of another test
        found = (await peer.expect(Publish)).payload
    assert found == b"taken"


@pytest.mark.parametrize("topic", ["$SYS/broker/clients", "secret/will", "f/kitchen", "u/kitchen"])
async def test_a_will_on_a_topic_that_is_not_the_clients_is_refused_with_its_connect(
    open_server: Served | ServerProcess, topic: str
) -> None:
    assert await refused(open_server, Connect("heir", will=Will(topic, b"mine"))) == 5


async def test_a_publish_to_a_topic_of_the_server_is_dropped_and_the_client_goes_on(
    open_server: Served | ServerProcess,
) -> None:
    before = await count(open_server, "dropped", "publish_not_permitted")
    peer = await open_server.connect("", clean=True)
    for packet_id, topic in enumerate(("$SYS/broker/version", "$share/a/b", "$x"), start=1):
        peer.send(Publish(topic, b"mine", 1, packet_id))
        assert await peer.expect(Puback) == Puback(packet_id)
    assert await count(open_server, "dropped", "publish_not_permitted") == before + 3
    assert await peer.subscribe(("lights/#", 1)) == (1,)


async def test_devices_cannot_read_what_is_for_operators(
    closed_server: Served | ServerProcess,
) -> None:
    secret = await added(closed_server, "curious")
    peer = await closed_server.connect("curious", username="curious", password=secret)
    codes = await peer.subscribe(("$SYS/#", 0), ("$SYS/broker/+", 0), ("$SYS/broker/uptime", 0))
    assert codes == (REFUSED,) * 3


# ---- What is left behind


async def test_connections_that_came_to_nothing_leave_nothing(
    open_server: Served | ServerProcess,
) -> None:
    """Junk, refusals and halves of packets: each connection's descriptor is free again."""
    junk = (b"\xff" * 9, b"GET / HTTP/1.1\r\n\r\n", b"\x10\x20\x00\x04MQ", b"", b"\x10\x00")
    before = descriptors(open_server)
    for _ in range(40):
        for first in junk:
            peer = await open_server.peer()
            peer.send(first)
        await open_server.drop_peers()
    await eventually(lambda: descriptors(open_server), lambda now: now <= before + 5)


def descriptors(server: Served | ServerProcess) -> int:
    """Open files of the server; of the test itself where both are one process."""
    pid = server._process.pid if isinstance(server, ServerProcess) and server._process else "self"
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_passwords_are_tried_only_so_often(serve: Serve) -> None:
    server = await serve(open=False, auth__login_failures=5, auth__login_refill=0.1)
    secret = await added(server, "lock")
    codes = [
        await refused(server, Connect("lock", username="lock", password=b"guess %d" % at))
        for at in range(30)
    ]
    assert set(codes[:5]) == {4}
    assert set(codes[6:]) == {3}
    assert server.count("dropped", "connect_refused_login_limited") >= 20
    await server.connect("lock", username="lock", password=secret)  # a secret is never locked out


async def test_no_password_is_in_any_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = await serve(open=False)
    secret = await added(server, "diary")
    caplog.set_level("DEBUG")
    await refused(server, Connect("diary", username="diary", password=b"my-dearest-guess"))
    peer = await server.connect("diary", username="diary", password=secret)
    peer.send(b"\xf0\x00")
    await peer.expect_closed()
    assert "closing" in caplog.text
    assert "dearest" not in caplog.text
    assert secret.decode() not in caplog.text
