"""Decisions on their way to the log: what is dropped is counted, what is erased stays away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from broker.decisions import Decisions
from feedgen.ranking.decisions import Admissions, Outcomes
from feedgen.ranking.tokens import device_token
from feedgen.store.decision_log import DecisionLog, read

MAX_BYTES = 1 << 26


def outcomes(devices: Sequence[str], shown: float) -> Outcomes:
    rows = len(devices)
    return Outcomes(
        t=shown + 600,
        model=1,
        device=np.array([device_token(device) for device in devices], np.uint64),
        n=np.ones(rows, np.int64),
        shown=np.full(rows, shown),
        rank=np.zeros(rows, np.int8),
        p=np.full(rows, 0.5, np.float32),
        opened=np.ones(rows, np.bool_),
        dismissed=np.zeros(rows, np.bool_),
        dwell=np.full(rows, -1, np.float32),
    )


def admissions(devices: Sequence[str]) -> Admissions:
    rows = len(devices)
    zeros = np.zeros(rows, np.float32)
    return Admissions(
        t=1.0,
        n=1,
        model=1,
        rung=0,
        how=0,
        device=np.array([device_token(device) for device in devices], np.uint64),
        mean=zeros,
        sd=zeros,
        propensity=zeros + 1,
        key=np.zeros(rows, np.int32),
        bar=np.zeros(rows, np.int32),
    )


def logged(directory: Path) -> list[tuple[str, int]]:
    return [(each.KIND, int(token)) for each in read(directory) for token in each.device]


@pytest.fixture
async def decisions(tmp_path: Path) -> Decisions:
    made = Decisions(tmp_path, MAX_BYTES, wanted=True)
    made.open()
    return made


async def test_what_was_shown_before_a_device_was_erased_is_not_written_afterwards(
    decisions: Decisions, tmp_path: Path
) -> None:
    decisions.admitted([admissions(["kitchen", "hall"])])
    await decisions.erase("kitchen", 100.0)
    decisions.became(outcomes(["kitchen", "hall"], shown=99.0))
    # A new device under the old name.
    decisions.became(outcomes(["kitchen"], shown=101.0))
    await decisions.close()
    kitchen, hall = device_token("kitchen"), device_token("hall")
    assert logged(tmp_path) == [
        ("admissions", hall),
        ("outcomes", hall),
        ("outcomes", kitchen),
    ]


async def test_a_log_that_another_process_has_costs_decisions_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with DecisionLog(tmp_path):
        late = Decisions(tmp_path, MAX_BYTES, wanted=True)
        late.open()
        assert "decisions are not logged" in caplog.text
        late.admitted([admissions(["kitchen", "hall"])])
        late.became(outcomes(["kitchen"], 1.0))
        assert late.dropped == {"decisions_closed": 3}
        await late.close()
    assert logged(tmp_path) == []


async def test_where_no_log_is_wanted_none_is_made(tmp_path: Path) -> None:
    directory = tmp_path / "decisions"
    none = Decisions(directory, MAX_BYTES, wanted=False)
    none.open()
    none.admitted([admissions(["kitchen"])])
    none.became(outcomes(["kitchen"], 1.0))
    await none.erase("kitchen", 1.0)
    await none.close()
    assert not directory.exists()
    assert none.dropped == {}
    assert none.fault is None
