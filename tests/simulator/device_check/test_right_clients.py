"""Each case passes a client that does everything right."""

from __future__ import annotations

import pytest

from simulator.device_check.case import Result, Status, Where
from simulator.device_check.cases import CASES, chosen
from simulator.device_check.run import tried
from tests.simulator.device_check.benches import all_of, bench_with, result_of
from tests.simulator.device_check.clients import Client

SLOWER = {"wait-after-close": {"first_pause": 2.05}}
"""What a right client needs beside its short times."""
ANYWHERE = [case.id for case in CASES if case.where is Where.ANYWHERE and case.seconds < 4]


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return all_of({case.id: tried_alone(case.id) for case in CASES})


async def tried_alone(case: str) -> Result:
    outside = case.startswith("outside")
    client = Client(outside=outside, **SLOWER.get(case, {}))
    return await result_of(case, client, outside=outside)


@pytest.mark.parametrize("case", [case.id for case in CASES])
def test_a_right_client_passes(case: str, results: dict[str, Result]) -> None:
    expected = Status.NOT_APPLICABLE if case == "qos2" else Status.PASS
    assert results[case].status is expected, results[case].sentence


async def test_a_right_client_that_takes_qos_2_passes() -> None:
    result = await result_of("qos2", Client(max_qos=2))
    assert result.status is Status.PASS, result.sentence


@pytest.mark.parametrize("case", ANYWHERE)
async def test_a_right_client_beside_an_outside_broker_passes(case: str) -> None:
    result = await result_of(case, Client(outside=True), outside=True)
    assert result.status in {Status.PASS, Status.NOT_APPLICABLE}, result.sentence


@pytest.mark.parametrize("case", ["puback-qos1", "gap", "session-present", "power-loss", "burst"])
async def test_a_client_that_takes_qos_0_alone_is_no_worse(case: str) -> None:
    result = await result_of(case, Client(max_qos=0))
    expected = Status.NOT_APPLICABLE if case == "puback-qos1" else Status.PASS
    assert result.status is expected, result.sentence


class Forgetful(Client):
    """It has no flash; that is allowed."""

    def save(self) -> None:
        pass


async def test_a_client_that_keeps_nothing_over_a_loss_of_power_passes_and_is_told() -> None:
    result = await result_of("power-loss", Forgetful())
    assert result.status is Status.PASS
    assert "keeps nothing" in result.sentence


async def test_a_clean_session_makes_its_resumption_not_applicable() -> None:
    result = await result_of("session-present", Client(clean=True))
    assert result.status is Status.NOT_APPLICABLE


@pytest.mark.parametrize("case", ["keep-alive", "no-pingresp"])
async def test_a_keep_alive_that_is_too_long_to_wait_for_is_not_applicable(case: str) -> None:
    result = await result_of(case, Client(keep_alive=60))
    assert result.status is Status.NOT_APPLICABLE
    assert "60 s" in result.sentence


async def test_a_window_that_is_too_short_for_a_case_makes_it_not_applicable() -> None:
    class Small(Client):
        def new_replica(self):
            return self.replica_type(1, 256, 1, "", clock=True)

    result = await result_of("duplicate", Small())
    assert result.status is Status.NOT_APPLICABLE
    assert "room for 1" in result.sentence


async def test_the_packets_of_how_a_device_introduced_itself_are_shown_in_later_cases() -> None:
    async with bench_with(Client()) as bench:
        await tried(*chosen(only=["puback-qos1"]), bench)
        result = await tried(*chosen(only=["subscribe"]), bench)
    shown = [noted.text for noted in result.exchange]
    assert any(text.startswith("CONNECT 'kitchen'") for text in shown)
    assert any("hello at 0.0" in text for text in shown)
