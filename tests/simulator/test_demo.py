"""The demo against a feed that is right, and against feeds that are not."""

from __future__ import annotations

import asyncio
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from devices.frames import MIN_PAYLOAD, payload_capacity
from simulator import demo
from simulator.demo import ServerHandle, fleet_of, run_demo, thinned
from simulator.publishers import week
from simulator.sources import HIGH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.demo import Window
    from tests.simulator.conftest import Until
    from tests.simulator.tiny_feed import TinyFeed


async def run(
    feed: TinyFeed, *, window: Any = None, json_output: bool = False, terminal: bool = False
) -> tuple[int, str]:
    """Runs a short demo; its exit code and what it printed."""
    console = Console(
        file=io.StringIO(), record=True, width=100, height=30, force_terminal=terminal
    )
    handle = ServerHandle("127.0.0.1", feed.port, window or feed.window)
    code = await run_demo(
        seconds=1.0, devices=20, json_output=json_output, server=handle, console=console
    )
    return code, console.export_text()


async def test_a_right_feed_is_proven_right(feed: TinyFeed) -> None:
    code, text = await run(feed)
    assert code == 0
    assert "✓ all 20 windows equal the server's" in text
    assert "items in, " in text
    assert "Try next" in text


async def test_on_a_terminal_the_windows_are_drawn_live(feed: TinyFeed) -> None:
    code, text = await run(feed, terminal=True)
    assert code == 0
    assert "wall-001  follows #" in text
    assert "siren-001  follows alerts/+/+" in text


async def test_as_json_there_is_one_object_on_standard_output_and_nothing_else(
    feed: TinyFeed, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = await run(feed, json_output=True)
    result = json.loads(capsys.readouterr().out)
    assert (code, text) == (0, "")
    assert result["ok"] is True
    assert result["windows_equal"] == result["devices"] == 20
    assert result["items"] == result["items_acknowledged"] == feed.items
    assert result["deltas"] > 0
    assert result["arrivals_timed"] > 0


async def test_a_server_that_says_otherwise_is_found_out(
    feed: TinyFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_PATIENCE", 0.1)

    async def lie(devices: Sequence[str]) -> dict[str, Window]:
        windows = await feed.window(devices)
        windows["wall-001"] = windows["wall-001"][::-1]
        return windows

    code, text = await run(feed, window=lie)
    assert code == 1
    assert "✗ 1 of 20 windows differ from the server's" in text
    assert "wall-001 should" in text


async def test_windows_that_become_equal_a_little_later_are_equal(feed: TinyFeed) -> None:
    answers = []

    async def late(devices: Sequence[str]) -> dict[str, Window]:
        answers.append(devices)
        return {} if len(answers) == 1 else await feed.window(devices)

    code, _ = await run(feed, window=late)
    assert code == 0
    assert len(answers) == 2


async def test_windows_are_asked_for_in_portions(
    feed: TinyFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_ASKED_AT_ONCE", 7)
    sizes = []

    async def noted(devices: Sequence[str]) -> dict[str, Window]:
        sizes.append(len(devices))
        return await feed.window(devices)

    code, _ = await run(feed, window=noted)
    assert code == 0
    assert sizes[:3] == [7, 7, 6]


@pytest.mark.parametrize("json_output", [False, True])
async def test_a_server_that_refuses_ends_the_demo_with_its_reason(
    feed: TinyFeed, capsys: pytest.CaptureFixture[str], json_output: bool
) -> None:
    feed.refuse = 5
    code, text = await run(feed, json_output=json_output)
    assert code == 1
    assert "not authorised" in text + capsys.readouterr().out


async def test_a_server_that_acknowledges_nothing_does_not_hold_the_demo_up(
    feed: TinyFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_IN_FLIGHT", 3)
    feed.deaf = True
    code, text = await run(feed)
    assert code == 1
    assert "✗ 3 items were never acknowledged" in text


async def test_a_server_that_goes_away_ends_the_demo(feed: TinyFeed, until: Until) -> None:
    running = asyncio.create_task(run(feed))
    await until(lambda: feed.items >= 5)
    await feed.stop()
    code, text = await running
    await feed.start()
    assert code == 1
    assert "✗ the demo cannot go on: demo-publisher" in text


async def test_a_server_that_keeps_its_windows_to_itself_ends_the_demo(
    feed: TinyFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_PATIENCE", 0.05)

    async def silent(_devices: Sequence[str]) -> dict[str, Window]:
        answer: asyncio.Future[dict[str, Window]] = asyncio.get_running_loop().create_future()
        return await answer

    code, text = await run(feed, window=silent)
    assert code == 1
    assert "the server does not say what its windows are" in text


def test_the_fleet_has_every_role_and_then_their_shares() -> None:
    specs = fleet_of(200)
    assert len({spec.device for spec in specs}) == 200
    assert len({spec.device.partition("-")[0] for spec in specs[:9]}) == 9
    names = [spec.device.partition("-")[0] for spec in specs]
    assert names.count("la") == 40
    assert names.count("button") == 10


def test_every_device_of_the_fleet_has_a_budget_that_the_protocol_allows() -> None:
    for spec in fleet_of(2_000):
        assert payload_capacity(spec.budget, spec.device) >= MIN_PAYLOAD


def test_the_devices_in_the_picture_have_names_that_fit() -> None:
    assert [spec.device for spec in fleet_of(200)[:4]] == [
        "wall-001",
        "la-001",
        "alaska-001",
        "siren-001",
    ]


@pytest.mark.parametrize("limit", [0, 200, 900, 5_000])
def test_a_shorter_stream_keeps_what_matters(limit: int) -> None:
    stream = week()
    chosen = thinned(stream, limit)
    assert [one for one in chosen if one.item["priority"] >= HIGH] == [
        one for one in stream if one.item["priority"] >= HIGH
    ]
    matters = sum(one.item["priority"] >= HIGH for one in stream)
    assert len(chosen) == pytest.approx(min(max(limit, matters), len(stream)), abs=1)
    assert chosen == [one for one in stream if one in chosen]
