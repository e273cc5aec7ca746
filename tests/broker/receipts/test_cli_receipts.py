"""`fleetfeed item show` and `fleetfeed publish --dry-run`, as an operator sees them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from broker.cli import app
from broker.commands import items, receipts
from tests.broker.support import ServerProcess, item

RUNNER = CliRunner()

CENSUS: dict[str, Any] = {
    "followers": 12_000,
    "eligible": 9_000,
    "admitted": 8_800,
    "sent": 8_700,
    "seen": 8_600,
    "held": 8_500,
    "dropped": {"where": 3_000, "outranked": 100, "evicted": 99},
    "reserve": 101,
    "pending": 0,
}
RECEIPT: dict[str, Any] = {
    "id": "flood\x1b[2J",
    "channel": "alerts/ca",
    "n": 77,
    "version": 3,
    "priority": 3,
    "state": "live",
    "ended": None,
    "counts": {"delivered": 9_001, "acknowledged": 8_999, "shown": 5, "opened": 2, "dismissed": 1},
    "census": CENSUS,
}
TRIAL: dict[str, Any] = {
    "outcome": "update",
    "held": "live",
    "channel": "alerts/ca",
    "id": "flood",
    "devices": {
        "following": 12_000,
        "where": 3_000,
        "dismissed": 0,
        "oversize": 7,
        "eligible": 8_993,
        "connected": 8_000,
        "shorter_form": 44,
    },
    "away": {"following": 500, "eligible": 400},
    "places": {
        "seen": 8_900,
        "first": 8_000,
        "median": 1,
        "held_back": 9,
        "outranked": 90,
        "collapsed": 0,
        "pending": 0,
        "reserve": 3,
    },
    "samples": [
        {"device": "kitchen", "place": 2, "why_not": None, "k": 8, "connected": True},
        {"device": "hall", "place": None, "why_not": "reserve", "k": 4, "connected": False},
    ],
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a command against a server that answers this; it remembers what it was asked."""

    def run(answer: dict[str, Any], *words: str) -> Result:
        def ask(_data: object, _config: object, do: str, **args: object) -> Any:
            asked.append((do, args))
            return answer

        for module in (receipts, items):
            monkeypatch.setattr(module, "ask", ask)
        result = RUNNER.invoke(app, list(words))
        assert result.exit_code == 0, result.output
        return result

    asked: list[tuple[str, dict[str, object]]] = []
    run.asked = asked  # type: ignore[attr-defined]
    return run


def lines(result: Result) -> list[str]:
    return [" ".join(line.split()) for line in result.stdout.splitlines()]


def test_a_receipt_says_whom_an_item_is_for_who_has_it_and_why_others_do_not(
    told: Callable[..., Result],
) -> None:
    now = time.time()
    result = told({**RECEIPT, "published": now - 300, "expires": now + 7200.5}, "item", "show", "x")
    assert "\x1b" not in result.stdout
    first, *others = lines(result)
    assert first.endswith("on alerts/ca (#77), urgent priority, published 5 min ago, leaves in 2 h")
    assert others == [
        "12,000 devices follow its channel",
        "9,000 of them it is for, and it fits",
        "8,800 took it into their feeds",
        "8,700 were sent it",
        "8,600 show it now",
        "8,500 of these are known to have it",
        "3,000 did not get it: their attributes do not match",
        "100 did not get it: show better items",
        "99 had it, and better items pushed it out",
        "101 next in line",
        "9,001 frames brought it, those of earlier contents and after reconnects included",
        "8,999 of these frames were acknowledged; at QoS 0 none is",
        "5 devices showed it",
        "2 opened it",
        "1 dismissed it",
    ]


def test_of_what_is_over_it_is_said_who_had_it_if_there_was_time_to_look(
    told: Callable[..., Result],
) -> None:
    now = time.time()
    over = {**RECEIPT, "state": "expired", "ended": now - 90, "expires": now - 91}
    known = lines(told(over, "item", "show", "x"))
    assert known[0].endswith(("priority, expired 90 s ago", "priority, expired 91 s ago"))
    assert "8,600 showed it at its end" in known
    assert "8,500 of these were known to have it" in known
    unknown = lines(told({**over, "census": None}, "item", "show", "x"))
    assert unknown[1] == "when it ended there was no time to look who had it"


def test_an_item_that_is_being_offered_is_said_to_be_on_its_way(
    told: Callable[..., Result],
) -> None:
    now = time.time()
    offered = {**RECEIPT, "state": "offering", "published": now, "expires": now + 60.5}
    assert lines(told(offered, "item", "show", "x"))[0].endswith("leaves in 60 s, still on its way")


def test_a_dry_run_says_who_would_get_an_item_and_where(told: Callable[..., Result]) -> None:
    result = told(TRIAL, "publish", "alerts/ca", "Flood", "--dry-run")
    assert lines(result) == [
        "flood on alerts/ca would be an update of the item that is there; nothing was sent",
        "12,000 devices follow its channel",
        "3,000 would not get it: their attributes do not match",
        "7 would not get it: it does not fit their frames",
        "8,993 it is for, and it fits; 8,000 are connected",
        "44 of these would be sent its brief form",
        "8,900 would show it, 8,000 as the first, at place 1 in the middle",
        "9 of these would get it later: their budget is used up, or it is quiet there",
        "90 show better items",
        "3 next in line",
        "400 more that it is for have not been here for long",
        "kitchen: place 2 of 8",
        "hall: next in line, not connected",
    ]
    [(do, args)] = told.asked  # type: ignore[attr-defined]
    assert (do, args["channel"], args["samples"]) == ("item.trial", "alerts/ca", 5)


def test_a_dry_run_of_a_retraction_says_who_would_lose_the_item(
    told: Callable[..., Result],
) -> None:
    answer = {**TRIAL, "outcome": "retract"}
    said = lines(told(answer, "publish", "news", "--retract", "--id", "x", "--dry-run"))
    assert said[0] == "flood on alerts/ca would be a retraction; nothing was sent"
    assert "8,900 show it now, and would lose it" in said
    assert not any("would show it" in line for line in said)


@pytest.mark.parametrize(
    ("held", "said"),
    [(None, "of what is not there"), ("retracted", "of what was retracted already")],
)
def test_a_dry_run_of_a_retraction_says_that_there_is_nothing_to_retract(
    told: Callable[..., Result], held: str | None, said: str
) -> None:
    answer = {**TRIAL, "outcome": "retract", "held": held}
    first = lines(told(answer, "publish", "news", "--retract", "--id", "x", "--dry-run"))[0]
    assert first == f"flood on alerts/ca would be a retraction {said}; nothing was sent"


def test_an_item_that_the_server_would_refuse_is_refused_before_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(items, "ask", lambda *_args, **_more: pytest.fail("asked"))
    result = RUNNER.invoke(app, ["publish", "news", "x", "--ttl", "0", "--dry-run"])
    assert result.exit_code != 0


async def test_a_real_server_answers_both(process: Callable[..., ServerProcess]) -> None:
    server = process()
    device = await server.subscribed("kitchen")
    await server.publish(item("a", "rain"))
    await device.shows("rain")
    await device.peer.ping()
    at = ["--data", str(server.data), "--json"]
    words = ["publish", "news", "snow", "--id", "b", "--priority", "high", "--dry-run", *at]
    tried = json.loads(RUNNER.invoke(app, words).stdout)
    assert tried["samples"] == [
        {"device": "kitchen", "place": 1, "why_not": None, "k": 8, "connected": True}
    ]
    found = json.loads(RUNNER.invoke(app, ["item", "show", "a", *at]).stdout)
    assert found["counts"]["acknowledged"] == 1
    assert found["census"]["seen"] == 1
    gone = RUNNER.invoke(app, ["item", "show", "b", *at])
    assert "nothing is known of an item 'b'" in str(gone.exception)
