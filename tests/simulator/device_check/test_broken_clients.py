"""Each thing that a client can do wrong is seen by its case."""

from __future__ import annotations

import pytest

from simulator.device_check.case import Result
from simulator.device_check.cases import CASES
from tests.simulator.device_check.benches import HASTY, all_of, result_of
from tests.simulator.device_check.clients import BROKEN, Broken


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return all_of({name: tried(wrong) for name, wrong in BROKEN.items()})


async def tried(wrong: Broken) -> Result:
    return await result_of(wrong.case, wrong.client(), outside=wrong.outside, limits=HASTY)


@pytest.mark.parametrize(("name", "wrong"), BROKEN.items(), ids=BROKEN)
def test_what_a_client_does_wrong_is_seen(
    name: str, wrong: Broken, results: dict[str, Result]
) -> None:
    result = results[name]
    assert result.status.value == wrong.status, result.sentence
    assert wrong.says in result.sentence
    assert result.exchange


def test_every_case_is_failed_by_some_broken_client() -> None:
    failed = {wrong.case for wrong in BROKEN.values() if wrong.status == "fail"}
    assert failed == {case.id for case in CASES}
