"""What answering may take of the loop's time."""

from __future__ import annotations

import asyncio
import time

import pytest

from broker.web import turns
from broker.web.turns import Busy, Turns
from tests.broker.support import PATIENCE, eventually

WORK = 0.01


async def works(seconds: float = WORK) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def waits(gate: asyncio.Event) -> None:
    await works()
    await gate.wait()
    await works()


async def test_work_counts_and_waiting_does_not() -> None:
    gate = asyncio.Event()
    busy = Busy(waits(gate))
    task = asyncio.ensure_future(_await(busy))
    await eventually(lambda: busy.seconds)
    first = busy.seconds
    await works()
    assert busy.seconds == first >= WORK
    gate.set()
    await task
    assert busy.seconds >= first + WORK


async def _await(busy: Busy) -> None:
    await busy


async def test_what_is_awaited_hears_that_it_is_cancelled_and_what_it_raises_is_raised() -> None:
    heard: list[str] = []

    async def listens() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("so it is")

    task = asyncio.ensure_future(_await(Busy(listens())))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == ["cancelled"]
    with pytest.raises(ValueError, match="so it is"):
        await Busy(fails())


async def test_those_who_ask_again_and_again_leave_most_of_the_loop_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "AT_ONCE", 2 * WORK)
    answered, loop, count = Turns(), asyncio.get_running_loop(), 8
    began = loop.time()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(answered.answer(works) for _ in range(count)))
    # The first three wait for nobody, and nobody waits for the last.
    assert loop.time() - began >= (count - 4) * WORK / turns.SHARE


async def test_one_that_waits_does_not_hold_up_the_next() -> None:
    answered, gate = Turns(), asyncio.Event()
    held = asyncio.ensure_future(answered.answer(lambda: waits(gate)))
    async with asyncio.timeout(PATIENCE):
        await answered.answer(works)
        gate.set()
        await held
