"""Many rounds: seasons of them, each at a site of its own, and what they came to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rich.live import Live

from simulator.bounds import growth, memory_grows
from simulator.facts import Finding
from simulator.faults import report
from simulator.faults.report import Outcome
from simulator.faults.season import Season
from simulator.faults.server import ServerFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console

    from simulator.faults.plan import Kind, Plan
    from simulator.faults.season import Round
    from simulator.faults.server import UnderTest
    from simulator.faults.site import Site

SEASON = 25
"""Rounds that one site lives through."""

MEMORY = 400 * 2**20
"""Bytes that a server with a few dozen devices may ever take."""

GROWTH = 128 * 2**10
"""Bytes that a round may leave behind in the memory of a server, unless the suite says otherwise."""

_PICTURES = 0.25

Show: TypeAlias = "Callable[[Outcome, Plan | None], None]"


@dataclass(frozen=True, slots=True)
class Suite:
    """What is to be run.

    Attributes:
        rounds: How many.
        seed: Of the first; the next have the next ones.
        devices: Faulty ones; healthy ones come on top.
        draw: The round of a seed.
        site: Makes what a season takes place at, with settings drawn from the seed that it is given.
        missing: Kinds that cannot be had here, and why.
        keep: Called with what a season took place at if something was found there, after its end, and
            with the seed of that round.
        options: What was asked for beside rounds and seed, for the command that does it again.
        growth: Bytes that a round may leave behind in the memory of a server.
    """

    rounds: int
    seed: int
    devices: int
    draw: Callable[[int], Plan]
    site: Callable[[int], Site]
    missing: Mapping[Kind, str]
    keep: Callable[[UnderTest, int], None]
    options: str = ""
    growth: int = GROWTH


async def run_suite(suite: Suite, *, json_output: bool, console: Console) -> int:
    """Runs all rounds.

    Args:
        suite: Which.
        json_output: Print nothing but one JSON object, to standard output, at the end.
        console: Where to print otherwise: a live picture on a terminal, a line for each round elsewhere.

    Returns:
        0 if every promise was kept, else 1.
    """
    running = _Running(suite)
    live = console.is_terminal and not json_output
    with _screen(console, running) if live else contextlib.nullcontext():
        await running.run(_silence if live or json_output else _lines(console))
    if json_output:
        sys.stdout.write(json.dumps(running.outcome.as_json()) + "\n")
    else:
        console.print(report.summary(running.outcome))
    return 0 if running.outcome.ok else 1


class _Running:
    """The state of a run."""

    def __init__(self, suite: Suite) -> None:
        self.outcome = Outcome(
            suite.seed, suite.rounds, suite.devices, suite.missing, options=suite.options
        )
        self.doing: Plan | None = None
        self._suite = suite
        self._start = time.monotonic()

    async def run(self, ended: Callable[[Outcome, Round], None]) -> None:
        """All rounds; `ended` is called after each."""
        while self.outcome.done < self.outcome.rounds:
            before = self.outcome.done
            try:
                await self._season(ended)
            except ServerFault as fault:
                self.outcome.findings.append((None, Finding("server", str(fault))))
                return
            assert self.outcome.done > before
        self.tick()

    def tick(self) -> None:
        """Time passes."""
        self.outcome.seconds = time.monotonic() - self._start

    async def _season(self, ended: Callable[[Outcome, Round], None]) -> None:
        """Up to `SEASON` rounds at one site; what went wrong once is not taken along."""
        suite, outcome = self._suite, self.outcome
        seed = outcome.seed + outcome.done
        site = suite.site(seed)
        outcome.devices = suite.devices + site.healthy
        found = 0
        async with Season(site, suite.devices, seed) as season:
            counted = _Counted(outcome, season)
            for _ in range(min(SEASON, outcome.rounds - outcome.done)):
                seed = outcome.seed + outcome.done
                self.doing = suite.draw(seed)
                result = await season.run(self.doing)
                outcome.add(result)
                counted.update()
                self.tick()
                ended(outcome, result)
                found = len(result.findings)
                if found:
                    break
            self.doing = None
            if not found:
                last = await season.stop()
                last += memory_grows(
                    season.memory, most=MEMORY, per_round=suite.growth, devices=suite.devices
                )
                outcome.findings += [(None, finding) for finding in last]
                found = len(last)
        outcome.growth = max(outcome.growth, growth(season.memory))
        if found:
            suite.keep(site.server, seed)


class _Counted:
    """Brings what a season counts over to the outcome."""

    def __init__(self, outcome: Outcome, season: Season) -> None:
        self._outcome = outcome
        self._season = season
        self._was = self._counts()

    def _counts(self) -> dict[str, int]:
        season, tally = self._season, self._season.tally
        return {
            "acknowledged": season.acknowledged,
            "repeated": season.repeated,
            "poisoned": season.poisoned,
            "frames": tally.frames,
            "resent": tally.resent,
            "hellos": tally.hellos,
            "connects": tally.connects,
        }

    def update(self) -> None:
        """Adds what came since the last time."""
        now = self._counts()
        for name, number in now.items():
            more = getattr(self._outcome, name) + number - self._was[name]
            setattr(self._outcome, name, more)
        self._was = now


def _silence(_outcome: Outcome, _round: Round) -> None:
    """Shows nothing."""


def _lines(console: Console) -> Callable[[Outcome, Round], None]:
    def show(outcome: Outcome, last: Round) -> None:
        console.out(report.line(outcome, last), highlight=False)

    return show


@contextlib.contextmanager
def _screen(console: Console, running: _Running) -> Iterator[None]:
    """A live picture."""
    with Live(console=console, auto_refresh=False, transient=True) as live:

        async def paint() -> None:
            while True:
                running.tick()
                live.update(report.picture(running.outcome, running.doing), refresh=True)
                await asyncio.sleep(_PICTURES)

        painting = asyncio.ensure_future(paint())
        try:
            yield
        finally:
            painting.cancel()
