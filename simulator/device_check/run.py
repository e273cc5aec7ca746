"""Goes through the cases: one after the other with a device, several at once with programs of our own."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.device_check.case import NoDeviceError, Result, Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.device_check.bench import Bench
    from simulator.device_check.case import Case

CASE_LIMIT = 180.0
"""Seconds after which a case ends, whatever it waits for."""
LAST = "up-messages"
"""Looks at what the device sent in all cases before."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came of all cases.

    Attributes:
        device: What was checked, in words.
        results: One for each case, in the order of the table.
        seconds: How long all took.
    """

    device: str
    results: tuple[Result, ...]
    seconds: float

    def count(self, status: Status) -> int:
        """How many cases ended so."""
        return sum(result.status is status for result in self.results)

    @property
    def ok(self) -> bool:
        """Whether no case failed."""
        return not self.count(Status.FAIL)


async def run(
    cases: Sequence[Case],
    benches: Sequence[Bench],
    *,
    device: str,
    told: Callable[[Result], None] = lambda _: None,
) -> Report:
    """Run `cases` on `benches`, which are open.

    With several benches the longest cases begin first, each on the next bench that is free.

    Args:
        cases: What is tried.
        benches: With a device each.
        device: What is checked, in words.
        told: Hears of each result when it is there.

    Raises:
        NoDeviceError: No device came at all.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    ordinary = [case for case in cases if case.id != LAST]
    if len(benches) > 1:
        ordinary.sort(key=lambda case: -case.seconds)
    waiting = deque(ordinary)
    results: dict[str, Result] = {}

    def note(result: Result) -> None:
        results[result.case.id] = result
        told(result)

    async def work(bench: Bench) -> None:
        while waiting:
            note(await tried(waiting.popleft(), bench))

    try:
        async with asyncio.TaskGroup() as group:
            for bench in benches:
                group.create_task(work(bench))
        for case in cases:
            if case.id == LAST:
                note(await _last(case, benches))
    except* NoDeviceError as errors:
        raise errors.exceptions[0] from None
    done = tuple(results[case.id] for case in cases)
    return Report(device, done, loop.time() - began)


async def tried(case: Case, bench: Bench) -> Result:
    """Run one case on one bench.

    Raises:
        NoDeviceError: No device came at all.
    """
    loop = asyncio.get_running_loop()
    bench.begin()
    began = loop.time()
    try:
        async with asyncio.timeout(CASE_LIMIT):
            if case.fresh:
                await bench.refresh()
            status, sentence = Status.PASS, await case.run(bench)
    except Verdict as verdict:
        status, sentence = verdict.status, verdict.sentence
    except TimeoutError:
        status, sentence = Status.FAIL, f"not done within {CASE_LIMIT:g} s"
    return Result(case, status, sentence, bench.exchange.taken(), loop.time() - began)


async def _last(case: Case, benches: Sequence[Bench]) -> Result:
    """The result of the worst bench."""
    results = [await tried(case, bench) for bench in benches if bench.greeting is not None]
    rank = (Status.NOT_APPLICABLE, Status.PASS, Status.WARN, Status.FAIL).index
    return max(results, key=lambda result: rank(result.status))
