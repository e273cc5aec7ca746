"""Devices on links, against real servers on 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import tracemalloc
from typing import TYPE_CHECKING, cast

import pytest
import pytest_asyncio
import trustme
import uvloop

from simulator.links.channel import HIGH, MOST
from simulator.links.clockwork import Clockwork
from simulator.links.link import MSS
from simulator.links.linked import Linked
from simulator.links.profiles import PROFILES, Profile, custom

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.simulator.conftest import Until

NONE = PROFILES["none"]
FAR = Profile("far", latency=0.05)


class End(asyncio.Protocol):
    """One end of a connection that notes what it sees; the server's answers with what it got if it shall."""

    def __init__(self, *, echoes: bool = False, greeting: bytes = b"") -> None:
        self.transport: asyncio.Transport | None = None
        self.got = bytearray()
        self.times: list[float] = []
        self.ends: list[Exception | None] = []
        self.paused: list[bool] = []
        self._echoes = echoes
        self._greeting = greeting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self.transport is None
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one by what it does
        self.transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        assert not self.ends
        self.got += data
        self.times.append(asyncio.get_running_loop().time())
        if self._echoes and self.transport is not None:
            self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.append(exc)

    def pause_writing(self) -> None:
        self.paused.append(True)

    def resume_writing(self) -> None:
        self.paused.append(False)

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)


class Server:
    """Echoes; `ends` are its ends of all connections, `devices` the others."""

    def __init__(self) -> None:
        self.ends: list[End] = []
        self.devices: list[End] = []
        self.clock = Clockwork()
        self.echoes = True
        self.greeting = b""
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> tuple[str, int]:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return host, port

    def device(self) -> End:
        """The protocol of a device that will connect here."""
        self.devices.append(End())
        return self.devices[-1]

    def _accept(self) -> End:
        self.ends.append(End(echoes=self.echoes, greeting=self.greeting))
        return self.ends[-1]

    async def start(self, context: ssl.SSLContext | None = None) -> Server:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0, ssl=context)
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        ends = [end for end in (*self.ends, *self.devices) if end.transport is not None]
        for end in ends:
            assert end.transport is not None
            end.transport.abort()
        self.clock.stop()
        async with asyncio.timeout(5):
            while not all(end.ends for end in ends):  # noqa: ASYNC110 - their ends are no event
                await asyncio.sleep(0.001)
        await asyncio.sleep(0)  # sockets close a turn of the loop later


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    """A server that echoes, on a free port."""
    started = await Server().start()
    yield started
    await started.stop()


async def connected(server: Server, profile: Profile = NONE) -> tuple[Linked, End]:
    """A device with a connection."""
    linked, end = Linked(profile, 1, server.clock), server.device()
    await linked.connect(end, *server.address)
    return linked, end


def time() -> float:
    return asyncio.get_running_loop().time()


# As create_connection does


@pytest.mark.parametrize("profile", [NONE, FAR, custom(PROFILES["wifi"], attach_seconds=0.0)])
async def test_bytes_go_there_and_back(server: Server, until: Until, profile: Profile) -> None:
    linked, device = await connected(server, profile)
    for n in range(20):
        device.send(b"%04d" % n * 500)
    await until(lambda: len(device.got) == 40_000)
    assert device.got == b"".join(b"%04d" % n * 500 for n in range(20))
    assert device.transport is not None
    device.transport.close()
    await until(lambda: device.ends and server.ends[0].ends)
    assert (device.ends, server.ends[0].ends) == ([None], [None])
    assert linked.meter.down > 40_000 < linked.meter.up


@pytest.mark.parametrize(("profile", "size"), [(NONE, 20_000_000), (FAR, 500_000)])
async def test_what_was_written_before_close_arrives(
    server: Server, until: Until, profile: Profile, size: int
) -> None:
    server.echoes = False
    _, device = await connected(server, profile)
    device.send(bytes(size))
    assert device.transport is not None
    device.transport.close()
    assert device.transport.is_closing()
    device.transport.write(b"too late")
    await until(lambda: server.ends[0].ends)
    assert len(server.ends[0].got) == size


async def test_a_device_that_closes_hears_nothing_more(server: Server, until: Until) -> None:
    class Curt(End):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            assert self.transport is not None
            self.transport.close()

    linked, device = Linked(FAR, 1, server.clock), Curt()
    server.devices.append(device)
    await linked.connect(device, *server.address)
    device.send(bytes(10 * MSS))
    await until(lambda: device.ends and server.ends[0].ends)
    assert len(device.got) == MSS, "the other nine segments were there at the same moment"


@pytest.mark.parametrize("profile", [NONE, FAR])
async def test_a_server_that_closes_is_noticed(
    server: Server, until: Until, profile: Profile
) -> None:
    linked, device = await connected(server, profile)
    await until(lambda: server.ends and server.ends[0].transport)
    server.ends[0].send(b"bye")
    assert server.ends[0].transport is not None
    server.ends[0].transport.close()
    await until(lambda: device.ends)
    assert (device.got, device.ends) == (b"bye", [None])
    other = server.device()
    await linked.connect(other, *server.address)
    assert other.transport is not None


@pytest.mark.parametrize("profile", [NONE, FAR])
async def test_a_refused_connection_is_refused(
    server: Server, unused_tcp_port: int, profile: Profile
) -> None:
    linked, device = Linked(profile, 1, server.clock), server.device()
    began = time()
    with pytest.raises(ConnectionRefusedError):
        await linked.connect(device, "127.0.0.1", unused_tcp_port)
    assert time() - began >= 2 * profile.latency
    assert device.transport is None
    assert not device.ends
    assert linked.meter.packets_up == linked.meter.packets_down == 1
    await linked.connect(device, *server.address)


@pytest.mark.parametrize("profile", [NONE, FAR])
async def test_the_connection_may_be_encrypted(until: Until, profile: Profile) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = await Server().start(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    linked, device = Linked(profile, 1, server.clock), server.device()
    began = time()
    await linked.connect(device, *server.address, trusting)
    assert time() - began >= 4 * profile.latency, "a round trip for TCP, another for TLS"
    device.send(b"secret")
    await until(lambda: device.got == b"secret")
    assert linked.meter.down > 1_940
    assert server.ends[0].transport is not None
    server.ends[0].transport.close()
    await until(lambda: device.ends)
    await server.stop()


@pytest.mark.parametrize("profile", [NONE, FAR])
async def test_a_server_may_speak_first(server: Server, until: Until, profile: Profile) -> None:
    server.greeting = b"welcome"
    _, device = await connected(server, profile)
    await until(lambda: device.got == b"welcome")


async def test_the_device_may_ask_the_transport_for_its_socket(server: Server) -> None:
    _, device = await connected(server, FAR)
    assert device.transport is not None
    assert device.transport.get_extra_info("peername") == server.address
    assert device.transport.get_extra_info("no such thing", 7) == 7
    assert not device.transport.can_write_eof()
    assert device.transport.get_protocol() is device


def test_on_uvloop_it_is_the_same() -> None:
    async def conversation() -> None:
        server = await Server().start()
        server.greeting = b"welcome"
        async with asyncio.timeout(10):
            for profile in (NONE, FAR):
                linked, device = await connected(server, profile)
                device.send(b"ping")
                while device.got != b"welcomeping":  # noqa: ASYNC110 - as the fixture `until`
                    await asyncio.sleep(0.001)
                linked.reset()
                while not (device.ends and server.ends[-1].ends):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                assert isinstance(server.ends[-1].ends[0], ConnectionResetError)
                await linked.connect(server.device(), *server.address)
        await server.stop()

    uvloop.run(conversation())


# Slower


async def test_a_connection_takes_the_time_to_attach_and_a_round_trip(server: Server) -> None:
    began = time()
    await connected(server, custom(FAR, attach_seconds=0.1))
    assert time() - began >= 0.1 + 2 * 0.05


async def test_an_answer_takes_a_round_trip(server: Server, until: Until) -> None:
    _, device = await connected(server, FAR)
    began = time()
    device.send(b"ping")
    await until(lambda: device.got)
    assert device.times[0] - began >= 0.1


async def test_a_thin_link_lets_no_more_through_than_its_bandwidth(
    server: Server, until: Until
) -> None:
    _, device = await connected(server, Profile("thin", down=800_000))
    began = time()
    device.send(bytes(20_000))
    await until(lambda: len(device.got) == 20_000)
    assert device.times[-1] - began >= 20_000 / 100_000


async def test_a_device_that_gives_up_while_connecting_leaves_nothing(
    server: Server, until: Until
) -> None:
    linked, device = Linked(FAR, 1, server.clock), server.device()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.08):  # the server has seen it, the device not yet
            await linked.connect(device, *server.address)
    await until(lambda: server.ends[0].ends)
    assert device.transport is None
    assert not device.ends
    await linked.connect(device, *server.address)


# Bounds


async def test_a_sender_that_is_too_fast_is_asked_to_pause(server: Server, until: Until) -> None:
    _, device = await connected(server, Profile("thin", up=8_000_000))
    device.send(bytes(HIGH + 1))
    assert device.paused == [True]
    await until(lambda: device.paused == [True, False])


async def test_a_sender_that_does_not_pause_loses_its_connection(
    server: Server, until: Until
) -> None:
    _, device = await connected(server, FAR)
    for _ in range(MOST // 65_536 + 1):
        device.send(bytes(65_536))
    await until(lambda: device.ends and server.ends[0].ends)
    assert "does not pause" in str(device.ends[0])


async def test_a_server_that_sends_too_much_is_read_no_further(
    server: Server, until: Until
) -> None:
    server.echoes = False
    linked, device = await connected(server, Profile("thin", down=8_000))
    await until(lambda: server.ends and server.ends[0].transport)
    transport = server.ends[0].transport
    assert transport is not None
    transport.write(bytes(20_000_000))
    await until(lambda: linked._channel is not None and not linked._channel._reading)
    assert transport.get_write_buffer_size() > 10_000_000
    linked.relink(NONE)
    linked.reset()
    await until(lambda: device.ends)


@pytest.mark.parametrize("profile", [NONE, FAR])
async def test_a_device_that_does_not_read_gets_everything_when_it_does(
    server: Server, until: Until, profile: Profile
) -> None:
    _, device = await connected(server, profile)
    assert device.transport is not None
    device.transport.pause_reading()
    assert not device.transport.is_reading()
    device.send(bytes(300_000))
    await until(lambda: len(server.ends[0].got) == 300_000)
    assert device.got == b""
    device.transport.resume_reading()
    await until(lambda: len(device.got) == 300_000)


@pytest.mark.parametrize("profile", [NONE, FAR])
async def test_a_device_may_refuse_to_read_from_the_beginning(
    server: Server, until: Until, profile: Profile
) -> None:
    class Deaf(End):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            assert self.transport is not None
            self.transport.pause_reading()

    linked, device = Linked(profile, 1, server.clock), Deaf()
    server.devices.append(device)
    await linked.connect(device, *server.address)
    device.send(bytes(100_000))
    await until(lambda: len(server.ends[0].got) == 100_000)
    linked.hole(0.01)  # through which it stays deaf
    device.send(b"!")
    await until(lambda: server.ends[0].got.endswith(b"!"))
    assert device.got == b""
    assert device.transport is not None
    device.transport.resume_reading()
    await until(lambda: len(device.got) == 100_001)


async def test_a_device_that_paused_before_a_hole_is_told_to_go_on_after_it(
    server: Server, until: Until
) -> None:
    server.echoes = False
    linked, device = await connected(server)
    await until(lambda: server.ends and server.ends[0].transport)
    receiver = server.ends[0].transport
    assert receiver is not None
    receiver.pause_reading()
    device.send(bytes(20_000_000))
    assert device.paused == [True]
    linked.hole(0.01)
    receiver.resume_reading()
    await until(lambda: device.paused == [True, False])


# Trouble


@pytest.mark.parametrize("profile", [NONE, FAR])
async def test_after_a_hole_the_connection_goes_on(
    server: Server, until: Until, profile: Profile
) -> None:
    linked, device = await connected(server, profile)
    began = time()
    linked.hole(0.3)
    assert not linked.covered
    device.send(b"in the hole")
    await until(lambda: device.got)
    assert device.got == b"in the hole"
    assert device.times[0] - began >= 1.0, "TCP tries again after a second"
    assert linked.covered
    assert linked.meter.packets_up >= 3 + 1, "it was sent twice"
    device.send(b"!")
    await until(lambda: device.got.endswith(b"!"))


async def test_after_a_hole_a_straight_connection_is_straight_again(
    server: Server, until: Until
) -> None:
    linked, device = await connected(server)
    linked.hole(0.01)
    device.send(b"x")
    assert linked._channel is not None
    assert linked._channel._up is not None
    await until(lambda: device.got)
    assert linked._channel._up is None


async def test_a_device_that_leaves_in_a_hole_seems_to_be_there_until_it_ends(
    server: Server, until: Until
) -> None:
    linked, device = await connected(server)
    linked.hole(0.3)
    assert device.transport is not None
    device.transport.abort()
    await until(lambda: device.ends)
    assert not server.ends[0].ends
    gone = linked.no_coverage_until
    await until(lambda: server.ends[0].ends)
    assert time() >= gone


async def test_who_connects_in_a_hole_waits_until_it_is_over(server: Server) -> None:
    linked = Linked(NONE, 1, server.clock)
    linked.hole(0.2)
    began = time()
    await linked.connect(server.device(), *server.address)
    assert time() - began >= 0.2


async def test_a_connection_may_be_found_dead_after_a_hole(server: Server, until: Until) -> None:
    linked, device = await connected(server)
    linked.hole(0.3)
    await until(lambda: server.ends and server.ends[0].transport)
    assert server.ends[0].transport is not None
    server.ends[0].transport.close()  # as a server does that has waited for too long
    device.send(b"ping")
    assert not device.ends
    over = linked.no_coverage_until
    await until(lambda: device.ends)
    assert time() >= over


@pytest.mark.parametrize("profile", [NONE, FAR])
async def test_a_reset_is_seen_at_both_ends(server: Server, until: Until, profile: Profile) -> None:
    linked, device = await connected(server, profile)
    await until(lambda: server.ends and server.ends[0].transport)
    linked.reset()
    await until(lambda: device.ends and server.ends[0].ends)
    assert isinstance(device.ends[0], ConnectionResetError)
    assert isinstance(server.ends[0].ends[0], ConnectionResetError)
    assert len(device.ends) == 1
    linked.reset()  # without a connection: nothing
    await linked.connect(server.device(), *server.address)


async def test_a_server_that_resets_is_noticed_when_that_has_crossed_the_link(
    server: Server, until: Until
) -> None:
    _, device = await connected(server, FAR)
    await until(lambda: server.ends and server.ends[0].transport)
    device.send(b"unread")
    assert server.ends[0].transport is not None
    server.ends[0].transport.pause_reading()
    await until(lambda: server.ends[0].transport.get_extra_info("socket") is not None)
    server.ends[0].transport.abort()
    began = time()
    await until(lambda: device.ends)
    assert time() - began >= 0.04


async def test_a_reset_fails_a_connection_that_is_being_opened(server: Server) -> None:
    linked = Linked(FAR, 1, server.clock)
    opening = asyncio.ensure_future(linked.connect(server.device(), *server.address))
    await asyncio.sleep(0)
    linked.reset()
    with pytest.raises(ConnectionResetError):
        await opening


async def test_resets_come_as_often_as_the_profile_says(server: Server, until: Until) -> None:
    profile = Profile("shaky", reset_per_hour=3_600 * 50)
    linked, losses = Linked(profile, 3, server.clock), 0
    began = time()
    while losses < 20:
        device = server.device()
        with contextlib.suppress(ConnectionResetError):  # even while it connects
            await linked.connect(device, *server.address)
            await until(lambda device=device: device.ends)
        losses += 1
    assert 0.1 < time() - began < 2.0, "20 of 50 a second"


async def test_holes_come_by_themselves_too(server: Server, until: Until) -> None:
    # Few: whoever connects in a hole tries again after a second, then two, four, eight …
    linked, device = await connected(
        server, Profile("patchy", hole_per_hour=3_600 * 5, hole_seconds=0.02)
    )
    await until(lambda: not linked.covered)
    assert not device.ends


async def test_a_link_may_change_while_it_is_in_use(server: Server, until: Until) -> None:
    linked, device = await connected(server)
    linked.relink(FAR)
    began = time()
    device.send(b"slow")
    await until(lambda: device.got)
    assert time() - began >= 0.1
    linked.relink(NONE)
    device.got.clear()
    device.send(b"fast")
    await until(lambda: device.got)
    assert linked._channel is not None
    await until(lambda: linked._channel._up is None)


async def test_a_clockwork_that_stops_ends_what_lingers(server: Server, until: Until) -> None:
    linked, device = await connected(server)
    linked.hole(600.0)
    assert device.transport is not None
    device.transport.close()
    await until(lambda: device.ends)
    server.clock.stop()
    await until(lambda: server.ends[0].ends)


# What it costs


async def test_the_modem_counts_the_conversation(server: Server, until: Until) -> None:
    linked, device = await connected(server)
    device.send(bytes(60))
    await until(lambda: len(device.got) == 60)
    meter = linked.meter
    assert (meter.down, meter.packets_down) == (44 + 100, 2)
    assert (meter.up, meter.packets_up) == (44 + 40 + 100, 3)


async def test_joules_are_those_of_the_radio(server: Server, until: Until) -> None:
    profile = custom(PROFILES["wifi"], attach_seconds=0.0)
    linked, device = await connected(server, profile)
    device.send(bytes(1_000))
    await until(lambda: device.got)
    radio = profile.radio
    assert 10 * radio.idle < linked.joules(10.0) < 10 * radio.idle + radio.transmit
    device.transport.close()
    await until(lambda: server.ends[0].ends)


async def test_a_device_that_sleeps_is_charged_for_sleeping(server: Server, until: Until) -> None:
    profile = custom(PROFILES["wifi"], attach_seconds=0.0)
    server.clock.speed = 100_000.0
    linked, device = await connected(server, profile)
    assert device.transport is not None
    device.transport.close()
    await until(lambda: device.ends)
    closed = time()
    await until(lambda: time() - closed > 0.05)
    slept = (time() - closed) * 100_000
    assert linked.joules(slept) < slept * profile.radio.idle / 10


async def test_an_idle_link_weighs_less_than_two_kilobytes(server: Server) -> None:
    server.echoes = False
    clock, count = server.clock, 100
    loop = asyncio.get_running_loop()
    profile = custom(PROFILES["nbiot-nb1"], attach_seconds=0.0, latency=0.001, jitter=0.001, loss=0.0)  # fmt: skip

    async def one(n: int) -> object:
        if not profiled:
            return await loop.create_connection(server.device, *server.address)
        linked = Linked(profile, n, clock)
        await linked.connect(server.device(), *server.address)
        return linked

    async def grown() -> float:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        kept.extend(await asyncio.gather(*(one(n) for n in range(count))))
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / count

    tracemalloc.start()
    kept: list[object] = []
    try:
        profiled = False
        await grown()  # what is allocated once
        plain = await grown()
        profiled = True
        await grown()
        linked = await grown()
    finally:
        tracemalloc.stop()
    assert linked - plain < 2_048
