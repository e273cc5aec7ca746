"""Many rounds: seasons of them, each on a data directory of its own, and what they came to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, TypeAlias

from rich.live import Live

from simulator.bounds import growth, memory_grows
from simulator.facts import Finding
from simulator.faults import report
from simulator.faults.plan import Kind, draw
from simulator.faults.report import Outcome
from simulator.faults.season import Season
from simulator.faults.server import ServerFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rich.console import Console

    from simulator.faults.plan import Plan
    from simulator.faults.season import Round
    from simulator.faults.server import ServerUnderTest

SEASON = 25
"""Rounds that one data directory lives through."""

MEMORY = 400 * 2**20
"""Bytes that a server with a few dozen devices may ever take."""

GROWTH = 128 * 2**10
"""Bytes that a round may leave behind in the memory of a server."""

_PICTURES = 0.25

Show: TypeAlias = "Callable[[Outcome, Plan | None], None]"


async def run_suite(
    *,
    rounds: int,
    seed: int,
    devices: int,
    only: Kind | None,
    server: Callable[[int], ServerUnderTest],
    missing: Mapping[Kind, str],
    keep: Callable[[ServerUnderTest, int], None],
    json_output: bool,
    console: Console,
) -> int:
    """Runs the rounds `seed` to `seed` + `rounds` - 1.

    Args:
        rounds: How many.
        seed: Of the first.
        devices: Faulty ones; a healthy one comes on top.
        only: The one kind of fault that is wanted.
        server: Makes a server on a fresh data directory, with settings drawn from the seed that it is given.
        missing: Kinds that cannot be had here, and why.
        keep: Called with a server in whose season something was found, after its end, and the seed of that round.
        json_output: Print nothing but one JSON object, to standard output, at the end.
        console: Where to print otherwise: a live picture on a terminal, a line for each round elsewhere.

    Returns:
        0 if every promise was kept, else 1.
    """
    suite = _Suite(seed, rounds, devices, only, server, missing, keep)
    live = console.is_terminal and not json_output
    with _screen(console, suite) if live else contextlib.nullcontext():
        await suite.run(_silence if live or json_output else _lines(console))
    if json_output:
        sys.stdout.write(json.dumps(suite.outcome.as_json()) + "\n")
    else:
        console.print(report.summary(suite.outcome))
    return 0 if suite.outcome.ok else 1


class _Suite:
    """The state of a run."""

    def __init__(
        self,
        seed: int,
        rounds: int,
        devices: int,
        only: Kind | None,
        server: Callable[[int], ServerUnderTest],
        missing: Mapping[Kind, str],
        keep: Callable[[ServerUnderTest, int], None],
    ) -> None:
        self.outcome = Outcome(seed, rounds, devices + 1, missing)
        self.doing: Plan | None = None
        self._devices = devices
        self._only = only
        self._server = server
        self._keep = keep
        self._available = [kind for kind in Kind if kind not in missing]
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
        """Up to `SEASON` rounds on one data directory; what went wrong once is not taken along."""
        seed = self.outcome.seed + self.outcome.done
        server = self._server(seed)
        found = 0
        async with Season(server, self._devices, seed) as season:
            counted = _Counted(self.outcome, season)
            for _ in range(min(SEASON, self.outcome.rounds - self.outcome.done)):
                seed = self.outcome.seed + self.outcome.done
                self.doing = draw(seed, self._available, self._only)
                result = await season.run(self.doing)
                self.outcome.add(result)
                counted.update()
                self.tick()
                ended(self.outcome, result)
                found = len(result.findings)
                if found:
                    break
            self.doing = None
            if not found:
                last = await season.stop()
                last += memory_grows(
                    season.memory, most=MEMORY, per_round=GROWTH, devices=self._devices
                )
                self.outcome.findings += [(None, finding) for finding in last]
                found = len(last)
        self.outcome.growth = max(self.outcome.growth, growth(season.memory))
        if found:
            self._keep(server, seed)


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
def _screen(console: Console, suite: _Suite) -> Iterator[None]:
    """A live picture."""
    with Live(console=console, auto_refresh=False, transient=True) as live:

        async def paint() -> None:
            while True:
                suite.tick()
                live.update(report.picture(suite.outcome, suite.doing), refresh=True)
                await asyncio.sleep(_PICTURES)

        painting = asyncio.ensure_future(paint())
        try:
            yield
        finally:
            painting.cancel()
