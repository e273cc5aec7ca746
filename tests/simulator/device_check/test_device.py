"""What is checked: programs as processes, devices of other people, windows that they print."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap
from pathlib import Path

import pytest

from devices.frames import FeedItem
from simulator.device_check.bench import Bench
from simulator.device_check.case import NoDeviceError, Status
from simulator.device_check.cases import chosen
from simulator.device_check.device import Attended, Printed, Program, check_command
from simulator.device_check.limits import Limits
from simulator.device_check.run import run, tried
from tests.simulator.device_check.benches import PATIENT, bench_with
from tests.simulator.device_check.clients import Client

WINDOW = (FeedItem(1, 0, 1, "rain"), FeedItem(2, 50, 1, "wind"), FeedItem(3, 0, 1, "sun"))


def script(path: Path, text: str) -> str:
    """A command that runs this Python program; words of the command follow as sys.argv."""
    path.write_text(textwrap.dedent(text))
    return f"{sys.executable} {path} {{port}} {{device}} {{state}}"


def program(command: str, tmp_path: Path, printed: Printed | None = None) -> Program:
    return Program(command, device="oven", state=tmp_path / "state", keep_alive=5, printed=printed)


# Printed windows


@pytest.mark.parametrize(
    "line",
    [
        '{"window": [{"n": 1, "payload": "rain"}, {"n": 2}, {"n": 3}]}',
        '{"epoch": 5, "items": [{"n": 1}, {"n": 3}]}',
        "[[1, 0, 1], [3]]",
        "[1, 2, 3]",
    ],
)
async def test_a_printed_window_is_compared_and_may_hide_what_expired(line: str) -> None:
    printed = Printed()
    printed.line(line)
    assert await printed.shows(WINDOW, 1.0, now=100.0)


@pytest.mark.parametrize("line", ["[3, 1]", "[1]", "[1, 2, 3, 4]", "booting", "{}", '"[1,3]"'])
async def test_another_window_is_seen_and_other_lines_are_passed_over(line: str) -> None:
    printed = Printed()
    printed.line(line)
    assert not await printed.shows(WINDOW, 0.05, now=100.0)


async def test_a_window_that_is_printed_later_is_waited_for() -> None:
    printed = Printed()
    waiting = asyncio.create_task(printed.shows(WINDOW, 5.0, now=100.0))
    await asyncio.sleep(0)
    printed.line("[1, 3]")
    assert await waiting


async def test_a_client_that_shows_another_window_than_it_says_fails() -> None:
    class Liar(Client):
        """Its position is right and its picture is not."""

        def __init__(self) -> None:
            super().__init__()
            self.printed = Printed()  # type: ignore[assignment]

        def save(self) -> None:
            super().save()
            self.printed.line(json.dumps([item.n for item in self.replica.window][::-1]))  # type: ignore[attr-defined]

    async with bench_with(Liar(), limits=Limits(answer=0.3, grace=0.1)) as bench:
        result = await tried(*chosen(only=["gap"]), bench)
    assert result.status is Status.FAIL
    assert "should show the items [1, 2]; it printed [2, 1]" in result.sentence


# Programs


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("client --host {hots} --port {port}", "{hots}"),
        ("client", "must have {port}"),
        ("client '{port}", "cannot be read"),
    ],
)
def test_a_command_that_cannot_be_filled_in_is_refused(command: str, words: str) -> None:
    with pytest.raises(NoDeviceError, match=words.replace("{", r"\{")):
        check_command(command)


async def test_a_program_is_started_with_its_words_killed_and_started_again(tmp_path: Path) -> None:
    command = script(
        tmp_path / "client.py",
        """
        import sys, time
        with open(sys.argv[3], "a") as state:
            state.write(sys.argv[2] + " ")
        print("[" + sys.argv[1] + "]", flush=True)
        time.sleep(60)
        """,
    )
    printed = Printed()
    oven = program(command, tmp_path, printed)
    for _ in range(2):
        await oven.start("127.0.0.1", 1234)
        assert await printed.shows((FeedItem(1234, 0, 0, ""),), 10.0, now=0.0)
        assert oven.ended() is None
        await oven.cut_power()
        printed.line("[]")
    await oven.close()
    assert (tmp_path / "state").read_text() == "oven oven "


async def test_the_last_words_of_a_program_that_ended_are_told(tmp_path: Path) -> None:
    command = script(tmp_path / "client.py", "raise SystemExit('no modem')")
    oven = program(command, tmp_path)
    bench = Bench(oven, PATIENT)
    await bench.open()
    with pytest.raises(NoDeviceError, match="exit code 1: no modem"):
        await run(chosen(only=["connect"]), [bench], device="oven")
    await oven.close()
    await bench.close()


async def test_a_program_that_does_not_exist_is_told(tmp_path: Path) -> None:
    oven = program(f"{tmp_path}/nothing {{port}}", tmp_path)
    with pytest.raises(NoDeviceError, match="cannot be started: No such file"):
        await oven.start("127.0.0.1", 1)
    await oven.close()


# Devices that somebody else switches on and off


async def test_somebody_is_told_when_to_switch_a_device_on_and_when_to_cut_its_power() -> None:
    client = Client()
    said: list[str] = []
    tasks = []

    def engineer(sentence: str) -> None:
        said.append(sentence)
        if "switch it on" in sentence:
            tasks.append(asyncio.create_task(client.start(*address(sentence))))
        else:
            tasks.append(asyncio.create_task(power_cycle()))

    def address(sentence: str) -> tuple[str, int]:
        host, _, port = sentence.split()[4].rpartition(":")
        return host, int(port)

    async def power_cycle() -> None:
        await client.cut_power()
        await client.start(*address(said[0]))

    bench = Bench(Attended(engineer), PATIENT)
    await bench.open()
    report = await run(chosen(only=["power-loss", "gap"]), [bench], device="the oven")
    await client.cut_power()
    await bench.close()
    assert report.ok
    assert report.count(Status.PASS) == 2
    assert [sentence.split()[0] for sentence in said] == ["point", "cut"]


async def test_a_device_that_nobody_cuts_the_power_of_is_not_failed_for_it() -> None:
    client = Client()
    said: list[str] = []
    bench = Bench(Attended(said.append), Limits(answer=1.0, grace=0.1, reconnect=0.5))
    await bench.open()
    await client.start("127.0.0.1", int(said[0].split()[4].rpartition(":")[2]))
    result = await tried(*chosen(only=["power-loss"]), bench)
    await client.cut_power()
    await bench.close()
    assert (result.status, "nobody cut its power" in result.sentence) == (
        Status.NOT_APPLICABLE,
        True,
    )


async def test_without_any_device_the_run_ends_and_says_where_it_listened() -> None:
    bench = Bench(Attended(lambda _: None), Limits(reconnect=0.1))
    await bench.open()
    with pytest.raises(
        NoDeviceError, match=r"no device connected to 127\.0\.0\.1:\d+ within 0\.1 s"
    ):
        await run(chosen(only=["connect", "gap"]), [bench], device="nothing")
    await bench.close()
