"""The run: all cases on one device, on several, and what it does with devices that misbehave."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from devices.packets import Packet, Pingreq, Publish
from simulator.device_check import run as running
from simulator.device_check.case import Case, Result, Status
from simulator.device_check.cases import CASES, chosen
from simulator.device_check.run import run
from tests.simulator.device_check.benches import HASTY, bench_with, result_of
from tests.simulator.device_check.clients import BROKEN, Client

QUICK = [case for case in chosen() if case.seconds < 4]


async def test_one_device_goes_through_the_cases_in_their_order_on_few_connections() -> None:
    client = Client()
    told: list[Result] = []
    async with bench_with(client) as bench:
        report = await run(QUICK, [bench], device="the kitchen", told=told.append)
    assert report.ok
    assert [result.case for result in told] == QUICK
    assert [result.case for result in report.results] == QUICK
    assert {result.status for result in report.results} == {Status.PASS, Status.NOT_APPLICABLE}


async def test_several_devices_share_the_cases_and_the_longest_begin_first() -> None:
    told: list[Result] = []
    cases = [case for case in chosen() if case.id in {"gap", "stale", "no-pingresp", "up-messages"}]
    async with AsyncExitStack() as stack:
        benches = [await stack.enter_async_context(bench_with(Client())) for _ in range(2)]
        report = await run(cases, benches, device="two", told=told.append)
    assert report.ok
    assert [result.case.id for result in report.results] == [case.id for case in cases]
    assert [result.case.id for result in told] == ["gap", "stale", "no-pingresp", "up-messages"]


async def test_a_device_that_fails_a_case_goes_through_the_others() -> None:
    client = BROKEN["HangsUpOnTheUnknown"].client()
    cases = chosen(only=["gap", "unknown-type", "trailing", "stale"])
    async with bench_with(client, limits=HASTY) as bench:
        report = await run(cases, [bench], device="it")
    statuses = {result.case.id: result.status for result in report.results}
    assert statuses.pop("unknown-type") is Status.FAIL
    assert set(statuses.values()) == {Status.PASS}
    assert not report.ok


async def test_a_case_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(_bench: object) -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(running, "CASE_LIMIT", 0.05)
    async with bench_with(Client()) as bench:
        result = await running.tried(Case("endless", "", "", endless), bench)
    assert (result.status, result.sentence) == (Status.FAIL, "not done within 0.05 s")


async def test_a_device_that_breaks_mqtt_is_told_what_was_wrong() -> None:
    class PublishesToAWildcard(Client):
        def send(self, *packets: Packet) -> None:
            super().send(*packets)
            assert self._writer is not None
            self._writer.write(b"\x30\x05\x00\x03a/#")

    result = await result_of("gap", PublishesToAWildcard(), limits=HASTY)
    assert result.status is Status.FAIL
    assert "broke MQTT" in result.sentence
    assert "a/#" in result.sentence


async def test_a_device_that_talks_without_end_is_cut_off() -> None:
    class Chatterbox(Client):
        def idle(self, now: float) -> None:
            super().idle(now)
            for _ in range(200):
                self.send(Pingreq())

    result = await result_of("hello-again", Chatterbox(keep_alive=0), limits=HASTY)
    assert result.status is Status.FAIL
    assert "packets that nobody asked for" in result.sentence


async def test_a_second_connection_takes_over_from_the_first() -> None:
    client = Client()
    async with bench_with(client) as bench:
        first = await bench.settled()
        await client.cut_power()
        await client.start("127.0.0.1", client._address[1])
        assert await bench.comes()
        second = await bench.settled()
        assert second is not first
        assert not first.open


async def test_no_frame_is_ever_longer_than_the_budget_of_the_device() -> None:
    class Tiny(Client):
        def new_replica(self):
            return self.replica_type(8, 96, 1, "", clock=True)

        def published(self, packet: Publish) -> None:
            assert len(packet.payload) <= 96
            super().published(packet)

    client = Tiny()
    async with bench_with(client) as bench:
        report = await run(QUICK, [bench], device="a tiny one")
    assert report.ok, [result.sentence for result in report.results if result.status is Status.FAIL]


def test_cases_are_chosen_by_name_and_by_the_server_beside_which_they_make_sense() -> None:
    every = {case.id for case in CASES}
    assert {case.id for case in chosen()} == {
        name for name in every if not name.startswith("outside")
    }
    assert {case.id for case in chosen(outside=True)} == every
    assert [case.id for case in chosen(only=["outside-ack", "gap"])] == ["gap", "outside-ack"]
    assert "gap" not in {case.id for case in chosen(skip=["gap"])}
    with pytest.raises(KeyError):
        chosen(only=["gab"])


def test_every_case_has_a_name_of_its_own_and_a_title() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    assert all(case.title and case.requirement for case in CASES)


async def test_of_connections_that_nobody_takes_only_the_last_are_kept() -> None:
    async with bench_with(Client()) as bench:
        await bench.connected()
        opened = [await asyncio.open_connection("127.0.0.1", bench._port) for _ in range(110)]
        first_reader, _ = opened[0]
        async with asyncio.timeout(5.0):
            assert await first_reader.read() == b""
        for _, writer in opened:
            writer.transport.abort()
