"""Benches with short times, for clients in this process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simulator.device_check.bench import Bench
from simulator.device_check.case import Result
from simulator.device_check.cases import chosen
from simulator.device_check.limits import Limits
from simulator.device_check.run import tried

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

    from tests.simulator.device_check.clients import Client

PATIENT = Limits(
    answer=5.0,
    grace=0.12,
    quiet=0.3,
    reconnect=10.0,
    longest=4.0,
    pauses=3,
    backoff=4.0,
    hello_again=(0.9, 6.0),
    noise=0.05,
)
"""For clients that are right: nothing is waited for in vain."""
HASTY = replace(PATIENT, answer=1.0, reconnect=2.0, hello_again=(0.9, 1.8))
"""For clients that are wrong: mostly something is."""


@asynccontextmanager
async def bench_with(
    client: Client, *, outside: bool = False, limits: Limits = PATIENT, **more: Any
) -> AsyncIterator[Bench]:
    bench = Bench(client, limits, outside=outside, **more)
    await bench.open()
    try:
        yield bench
    finally:
        await client.cut_power()
        await bench.close()


async def result_of(
    case: str, client: Client, *, outside: bool = False, limits: Limits = PATIENT
) -> Result:
    async with bench_with(client, outside=outside, limits=limits) as bench:
        (found,) = chosen(only=[case])
        if case == "up-messages":
            await bench.connected()
        return await tried(found, bench)


AT_ONCE = 12


def all_of(tries: Mapping[str, Coroutine[None, None, Result]]) -> dict[str, Result]:
    """Run these, several at once: nearly all of their time is waiting."""

    async def run() -> dict[str, Result]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(coroutine: Coroutine[None, None, Result]) -> Result:
            async with places:
                return await coroutine

        return dict(zip(tries, await asyncio.gather(*map(one, tries.values())), strict=True))

    return asyncio.run(run())
