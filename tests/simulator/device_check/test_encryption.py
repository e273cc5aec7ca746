"""The port with TLS: who gets through, and what is said of who does not."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from simulator.device_check.bench import Bench
from simulator.device_check.case import NoDeviceError, Status
from simulator.device_check.cases import chosen
from simulator.device_check.encryption import fault_of
from simulator.device_check.run import tried
from tests.simulator.device_check import benches
from tests.simulator.device_check.benches import HASTY, PATIENT, result_of
from tests.simulator.device_check.clients import Client

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from devices.packets import Connect
    from simulator.device_check.limits import Limits
    from tests.simulator.conftest import Until

AUTHORITY = trustme.CA()


def ours(**changes: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    for name, value in changes.items():
        setattr(context, name, value)
    return context


def trusting(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Encrypted(Client):
    """A right client that speaks TLS, and logs in."""

    tls: ssl.SSLContext | None = trusting()
    user: str | None = "kitchen"
    password: bytes | None = b"secret"

    def connect(self) -> Connect:
        return replace(super().connect(), username=self.user, password=self.password)


def bench_with(
    client: Client, heard: list[str], limits: Limits = PATIENT
) -> AbstractAsyncContextManager[Bench]:
    return benches.bench_with(client, limits=limits, tls=ours(), told=heard.append)


@pytest.mark.parametrize(
    "case", ["connect", "gap", "fragments", "one-segment", "reset-in-frame", "session-expired"]
)
async def test_a_right_client_passes_over_tls(case: str) -> None:
    heard: list[str] = []
    (found,) = chosen(only=[case])
    async with bench_with(Encrypted(), heard) as bench:
        result = await tried(found, bench)
    assert result.status is Status.PASS, result.sentence
    assert heard == []


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (None, "the device does not speak TLS"),
        (trusting(trustme.CA()), "the device broke the handshake off without a word"),
    ],
)
async def test_a_device_that_never_gets_through_is_told_of_once_and_ends_the_check(
    tls: ssl.SSLContext | None, said: str
) -> None:
    heard: list[str] = []
    (found,) = chosen(only=["connect"])
    async with bench_with(Encrypted(tls=tls), heard, HASTY) as bench:
        with pytest.raises(NoDeviceError, match=f"no TLS connection: {said}"):
            await tried(found, bench)
    assert len(heard) == 1
    assert heard[0].startswith(said)


async def test_a_handshake_that_fails_fails_no_case_where_the_next_one_does_not(
    until: Until,
) -> None:
    heard: list[str] = []
    (found,) = chosen(only=["connect"])
    client = Encrypted(tls=None)
    async with bench_with(client, heard) as bench:
        checked = asyncio.create_task(tried(found, bench))
        await until(lambda: heard)
        client.tls = trusting()
        result = await checked
    assert result.status is Status.PASS, result.sentence
    assert any("no TLS connection" in noted.text for noted in result.exchange)


async def test_a_device_with_an_old_tls_is_told_what_it_has_to_offer(until: Until) -> None:
    old = trusting()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    heard: list[str] = []
    bench = Bench(
        Encrypted(tls=old),
        HASTY,
        tls=ours(minimum_version=ssl.TLSVersion.TLSv1_3),
        told=heard.append,
    )
    await bench.open()
    await until(lambda: heard)
    await bench.device.cut_power()
    await bench.close()
    assert "it must offer TLS 1.2 or 1.3" in heard[0]


async def test_a_device_that_says_that_it_does_not_trust_us_is_believed(until: Until) -> None:
    heard: list[str] = []

    def connect(port: int) -> None:
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            pytest.raises(ssl.SSLCertVerificationError),
            trusting(trustme.CA()).wrap_socket(plain, server_hostname="127.0.0.1"),
        ):
            pass

    async with bench_with(Encrypted(), heard) as bench:
        await bench.connected()
        await asyncio.to_thread(connect, bench._port)
        await until(lambda: heard)
    assert heard[0].startswith("the device does not trust our certificate")


async def test_a_device_that_leaves_in_the_handshake_is_one_that_may_not_trust_us(
    until: Until,
) -> None:
    heard: list[str] = []
    async with bench_with(Encrypted(), heard) as bench:
        await bench.connected()
        with socket.create_connection(("127.0.0.1", bench._port)):
            pass
        await until(lambda: heard)
    assert heard[0].startswith("the device broke the handshake off without a word")


async def test_a_device_that_begins_tls_on_a_plain_port_is_told_of_the_option() -> None:
    result = await result_of("connect", Encrypted(), limits=HASTY)
    assert result.status is Status.FAIL
    assert "this port is plain: give --cert" in result.sentence


@pytest.mark.parametrize(
    ("login", "status", "said"),
    [
        ({"password": b"secret"}, Status.WARN, "its password goes in plain text"),
        ({"password": None}, Status.WARN, "a user name without a password"),
        ({"user": None, "password": None}, Status.PASS, "client id 'kitchen'"),
    ],
)
async def test_logins_that_are_careless_are_warned_of(
    login: dict[str, Any], status: Status, said: str
) -> None:
    result = await result_of("connect", Encrypted(tls=None, **login))
    assert (result.status, said in result.sentence) == (status, True), result.sentence


def test_what_openssl_says_otherwise_is_repeated() -> None:
    assert "longer than" not in fault_of(ssl.SSLError(1, "some fault"))
    assert fault_of(ConnectionAbortedError("slow")).startswith("the device did not finish")
    assert fault_of(OSError(113, "No route to host")).endswith("(No route to host)")
