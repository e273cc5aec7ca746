"""Whole runs against real servers, and against some that lie."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from broker.commands.simulate_hosts import OneServer, Running
from broker.commands.simulate_server import TOLD
from feedgen.store.sqlite_file import FILE
from simulator.faults.server import ServerFault
from simulator.scenario.classes import TooFew
from simulator.scenario.loading import parse
from simulator.scenario.outcome import Options
from simulator.scenario.run import Run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from simulator.results import Check, Result
    from simulator.scenario.model import Scenario
    from simulator.scenario.screen import Scene

TEXT = """
[scenario]
name = "try"
about = "To try it."
speed = 60
feedback = 0.1
[server.settings.feed]
hello_wait = 0.5
[[class]]
name = "panel"
share = 3
k = 64
budget = 8192
[[class]]
name = "phone"
share = 2
k = 4
people = true
link = { base = "wifi", attach_seconds = 0.05 }
[[class]]
name = "old"
share = 1
k = 3
fragile = true
[[publisher]]
name = "news"
rate = 12
people = true
priorities = [1, 6, 1, 0]
[[phase]]
name = "calm"
seconds = 2
ramp = 1
[[phase]]
name = "trouble"
seconds = 4
"""
KILL = """
[[fault]]
do = "kill"
at = 3
seconds = 0.3
"""
OPTIONS = Options(30, 1, patience=20.0)


def scenario(*more: str) -> Scenario:
    return parse("\n".join((TEXT, *more)), "try.toml")


def fault(do: str, **more: Any) -> str:
    said = "\n".join(
        f"{key} = {value!r}" for key, value in ({"at": 3, "seconds": 1} | more).items()
    )
    return f'[[fault]]\ndo = "{do}"\n{said}\n'


async def run(
    host: Any, *more: str, options: Options = OPTIONS, show: Callable[[Scene], None] | None = None
) -> Result:
    return await Run(scenario(*more), host, options, show or (lambda _: None)).run()


def checks(result: Result) -> dict[str, Check]:
    return {check.name: check for check in result.checks}


def broken(result: Result) -> set[str]:
    return {one.promise for one in result.broken} | {
        check.name for check in result.checks if check.ok is False
    }


async def test_trouble_of_all_kinds_breaks_no_promise(tmp_path: Path) -> None:
    result = await run(
        OneServer(tmp_path / "server", TOLD | {"feed.hello_wait": 0.5}),
        KILL,
        fault("outage", who="panel", share=0.5, over=0.5),
        fault("power-loss", who="phone", share=0.3, over=0.5, at=4),
        fault("stall", who="panel", share=0.2),
        fault("reset", who="phone", at=2.2),
        fault("hole", who="phone", share=0.3, at=4.5),
        fault("poison", count=1, channel="news", priority=2, at=2),
        fault("burst", count=2, at=2),
        fault("spike", who=["news", "feedback"], factor=3.0),
        "[expect]\nurgent_p99 = 20\n",
    )
    assert broken(result) == set()
    assert result.ok
    assert result.complete
    assert result.items["acknowledged"] == result.items["published"] > 60
    assert checks(result)["G2"].text.startswith("30 of 30 devices show their feed")
    assert checks(result)["urgent_p99"].ok
    panel, phone, old = result.classes
    assert (panel.devices, phone.devices, old.devices) == (15, 10, 5)
    assert panel.latency.count > 50
    assert panel.counts["feedback"] > 0
    assert phone.wake_up.count >= 10
    assert phone.packets_down > 0
    assert phone.joules > 0
    assert old.counts["crashes"] > 0
    assert phone.link == "wifi"
    assert result.truth is not None
    assert len(result.truth.at) > 3
    assert {span.name for span in result.phases} == {"calm", "trouble"}
    assert len(result.faults) == 9
    rows = {series.name: series.values for series in result.series}
    assert len(result.at) == len(rows["connected"]) >= 6
    (kill,) = (span for span in result.faults if span.name == "kill the server")
    assert 3 <= kill.start < kill.end < 8
    assert max(rows["server memory"]) > 30 * 2**20
    assert max(rows["frames/s"]) > 0
    # What the server said of itself, but for the time when there was none.
    levels = [level for level in rows["overload level"] if level == level]  # noqa: PLR0124 - NaN
    assert levels
    assert {*levels} <= {*range(6)}
    assert [stage.name for stage in result.stages] == ["trouble"]
    assert not any("$SYS" in note for note in result.notes)


SLEEPERS = """
[[class]]
name = "gauge"
share = 6
k = 3
sleep = { period = "2m", awake = "20s" }
messages = 12
"""


async def test_who_sleeps_by_turns_is_woken_for_the_rest_which_is_no_part_of_its_day(
    tmp_path: Path,
) -> None:
    host = OneServer(tmp_path / "server", {"feed.hello_wait": 0.5})
    result = await run(host, SLEEPERS, "[expect]\nexhausted = 0.0\n")
    gauge = result.classes[-1]
    assert gauge.counts["sleeps"] > 3
    assert 6 <= gauge.device_seconds / gauge.devices / 60 < result.seconds - 0.02
    rows = {series.name: series.values for series in result.series}
    assert max(rows["asleep"]) >= 10
    assert gauge.exhausted > 0
    assert checks(result)["exhausted"].ok is False
    assert checks(result)["G2"].ok
    assert re.search(r"not there: \d+ dark$", checks(result)["G2"].text)


class Forgetful(OneServer):
    """A server that loses acknowledged items when it is killed."""

    async def kill(self) -> None:
        await super().kill()
        with closing(sqlite3.connect(self._data / FILE)) as store, store:
            store.execute("DELETE FROM items")


class Forgiving(OneServer):
    """A server that says that every window has one item less than it has."""

    async def windows(self, devices: Any) -> Any:
        found = await super().windows(devices)
        return {device: window and window[:-1] for device, window in found.items()}


class Gullible(OneServer):
    """A server that takes everything that it hears again for new."""

    said = 0

    async def counts(self) -> Any:
        self.said += 1
        return replace(await super().counts(), accepted=self.said)


@pytest.mark.parametrize(
    ("liar", "promise"), [(Forgetful, "G3"), (Forgiving, "G2"), (Gullible, "G4")]
)
async def test_a_server_that_breaks_a_promise_is_found_out(
    liar: type[OneServer], promise: str, tmp_path: Path
) -> None:
    host = liar(tmp_path / "server", {"feed.hello_wait": 0.5})
    result = await run(host, KILL, options=replace(OPTIONS, seconds=2.5, patience=-57.0))
    assert not result.ok
    assert promise in broken(result)


async def test_who_interrupts_gets_what_was_measured_and_nothing_is_left_behind(
    tmp_path: Path,
) -> None:
    host = OneServer(tmp_path / "server", {})
    task: asyncio.Task[Result]

    def show(scene: Scene) -> None:
        if scene.moving is not None and scene.moving.at > 1.8 and not scene.doing:
            task.cancel()

    task = asyncio.ensure_future(run(host, show=show))
    result = await task
    assert not result.complete
    assert any("interrupted" in note for note in result.notes)
    assert result.items["published"] > 0
    assert len(result.at) > 0
    assert not host.running
    assert checks(result)["G2"].ok is None  # not looked at, and not said to be kept


class Dead(OneServer):
    """A server that does not start."""

    async def start(self) -> None:
        raise ServerFault("the server did not start: the port is taken")


async def test_a_server_that_does_not_start_is_a_result_too(tmp_path: Path) -> None:
    result = await run(Dead(tmp_path / "server", {}))
    assert [(one.promise, one.sentence) for one in result.broken] == [
        ("server", "the server did not start: the port is taken")
    ]
    assert not result.complete
    assert result.checks == ()


@contextlib.asynccontextmanager
async def there_already(directory: Path) -> AsyncIterator[OneServer]:
    server = OneServer(directory / "server", {"feed.hello_wait": 0.5, "topics.enabled": False})
    await server.start()
    yield server
    await server.close()


async def test_of_a_server_that_cannot_be_asked_only_what_is_seen_is_judged(
    tmp_path: Path,
) -> None:
    async with there_already(tmp_path) as server:
        host = Running(server.address, outside=False, data=None)
        result = await run(host, KILL, options=replace(OPTIONS, seconds=2.5, devices=12))
        assert server.running
    assert result.complete
    assert any("kill at 3 s was left out" in note for note in result.notes)
    assert any("tells nothing of its load under $SYS" in note for note in result.notes)
    assert [name for name, check in checks(result).items() if check.ok is None] == [
        "G1", "G2", "G3", "G5",
    ]  # fmt: skip
    assert checks(result)["G6"].ok


async def test_a_server_that_runs_already_is_asked_by_way_of_its_data_directory(
    tmp_path: Path,
) -> None:
    async with there_already(tmp_path) as server:
        host = Running(server.address, outside=False, data=server.directory / "data")
        result = await run(host, options=replace(OPTIONS, seconds=2.5, devices=12))
    assert result.ok
    assert checks(result)["G2"].text.startswith("12 of 12 devices")
    assert checks(result)["G5"].ok is None


async def test_fewer_devices_than_classes_are_refused_before_anything_starts(
    tmp_path: Path,
) -> None:
    with pytest.raises(TooFew, match="2 devices are too few"):
        Run(scenario(), OneServer(tmp_path / "server", {}), Options(2, 1), lambda _: None)
