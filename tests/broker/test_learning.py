"""The learned ranking in a server: feedback over MQTT, windows that follow it, and what survives."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from broker.admin.offline import Offline
from broker.config_layers import load
from broker.decisions import DIRECTORY
from broker.ranking_state import FILE
from devices.frames import Event, Feedback, Kind
from feedgen.ranking.ladder import Event as Switch
from feedgen.ranking.rungs import Reason, Rung
from feedgen.ranking.tokens import device_token
from feedgen.store.decision_log import read
from tests.broker.support import Device, Served, ServerProcess, eventually, item

Serve = Callable[..., Awaitable[Served]]

LEARNED: dict[str, Any] = {
    "ranking__model": "learned",
    "ranking__window": 1.0,
    "ranking__refresh": 0.2,
    "ranking__explore": 0.0,
    "ranking__holdout": 0.0,
}
"""Quick to learn, and without chance."""


@pytest.fixture(autouse=True)
def quick_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns come many times a second and not once."""
    monkeypatch.setattr("broker.service._TIMER", 0.02)
    monkeypatch.setattr("broker.service._WATCH", 0.05)


FLEET = [f"device-{number}" for number in range(12)]
PLEASANT = [f"pleasant {number}" for number in range(4)]
TEDIOUS = [f"tedious {number}" for number in range(4)]


async def publish(served: Served | ServerProcess, *payloads: str) -> None:
    """One item each, on the channel that its first word names."""
    for payload in payloads:
        await served.publish(item(payload, payload), channel=payload.partition(" ")[0])


def taste(payloads: Sequence[str | bytes], numbers: Sequence[int]) -> Feedback:
    """Everything is shown; what is pleasant is opened."""
    events = []
    for rank, (payload, n) in enumerate(zip(payloads, numbers, strict=True)):
        events.append(Event(n, Kind.SHOWN, rank))
        if str(payload).startswith("pleasant"):
            events.append(Event(n, Kind.OPENED))
    return Feedback(tuple(events))


async def see(served: Served, device: Device) -> None:
    """Apply frames until the device has what the server has."""
    await served.at_rest()
    await device.shows(*served.window(device.name))


async def react(served: Served, devices: Iterable[Device]) -> None:
    """All devices look at their windows and report; returns when it is learned, and ranked by."""
    loop = served.server.service.learning
    assert loop is not None
    learned = served.count("ranking", "learned")
    reported = 0
    for device in devices:
        await see(served, device)
        window = device.replica.window
        await device.tell(taste(device.shown, [each.n for each in window]))
        reported += len(window)
    await served.counted("ranking", "learned", learned + reported)
    version = loop.ranking.version
    await eventually(lambda: loop.ranking.version > version or not loop.ranking._learned)
    await served.at_rest()


async def taught(serve: Serve, **settings: Any) -> tuple[Served, list[Device]]:
    """A server ranked by its live model, and a fleet that has opened what is pleasant."""
    served = await serve(**{**LEARNED, **settings})
    await served.command("ranking.pin", rung="live")
    fleet = [await served.subscribed(name) for name in FLEET]
    # The tedious is newer: by age alone it stands first.
    await publish(served, *PLEASANT, *TEDIOUS)
    await react(served, fleet)
    return served, fleet


def kinds(window: Iterable[str | bytes]) -> list[str]:
    return [str(payload).partition(" ")[0] for payload in window]


def rows_of(data: Path, device: str) -> int:
    token = np.uint64(device_token(device))
    return sum(int((record.device == token).sum()) for record in read(data / DIRECTORY))


# ---- It learns


async def test_a_channel_that_devices_open_rises(serve: Serve) -> None:
    served, fleet = await taught(serve)
    for device in fleet:
        await see(served, device)
        assert kinds(device.shown) == ["pleasant"] * 4 + ["tedious"] * 4
    # Of new items nobody has seen any: the channel speaks for them.
    await publish(served, "pleasant news", "tedious news")
    await see(served, fleet[0])
    assert fleet[0].shown.index("pleasant news") < fleet[0].shown.index("tedious news")


async def test_feedback_that_is_repeated_teaches_nothing(serve: Serve) -> None:
    served, fleet = await taught(serve)
    loop = served.server.service.learning
    assert loop is not None
    windows = [served.window(name) for name in FLEET]
    pending, learned = loop.ranking.learning.labels.pending, served.count("ranking", "learned")
    for device in fleet:
        await see(served, device)
        await device.tell(taste(device.shown, [each.n for each in device.replica.window]))
    assert served.count("dropped", "feedback_repeated") == len(FLEET) * 12
    assert loop.ranking.learning.labels.pending == pending
    # Long enough for what was repeated to be told, were it taken for something new.
    closed = served.server.service.now() + 1.2
    await eventually(served.server.service.now, lambda now: now > closed)
    assert served.count("ranking", "learned") == learned
    assert [served.window(name) for name in FLEET] == windows


@pytest.mark.parametrize(
    ("rung", "refreshed"),
    [(Rung.LIVE, 1), (Rung.POPULARITY, 0), (Rung.NEWEST, 0)],
)
async def test_no_window_is_ranked_anew_for_its_device_while_items_rank_the_same_for_all(
    serve: Serve, rung: Rung, refreshed: int
) -> None:
    served, _ = await taught(serve)
    await eventually(lambda: served.count("ranking", "refreshed") == len(FLEET))
    learning = served.server.service.learning
    assert learning is not None
    learning.ranking.ladder.pin(rung, served.server.service.now())
    learning._refreshing[FLEET[0]] = None
    learning._refresh_some()
    assert served.count("ranking", "refreshed") == len(FLEET) + refreshed


async def test_a_device_that_opened_something_sees_soon_what_was_learned_from_it(
    serve: Serve,
) -> None:
    served, fleet = await taught(serve)
    await eventually(lambda: served.count("ranking", "refreshed") == len(FLEET))
    await publish(served, "pleasant news")
    device = fleet[0]
    await see(served, device)
    rebuilt = served.server.service.engine.counters["rebuilt"]
    await device.tell(Feedback((Event(device.number("pleasant news"), Kind.OPENED),)))
    await served.counted("ranking", "refreshed", len(FLEET) + 1)
    await served.at_rest()
    assert served.server.service.engine.counters["rebuilt"] == rebuilt + 1


async def test_a_dismissed_item_is_learned_from_and_leaves_the_window(serve: Serve) -> None:
    served, fleet = await taught(serve)
    device = fleet[0]
    await see(served, device)
    worst = device.replica.window[-1]
    await device.tell(Feedback((Event(worst.n, Kind.DISMISSED),)))
    await eventually(lambda: worst.payload not in served.window(device.name))


async def test_feedback_on_an_item_that_is_over_is_taken_and_the_item_forgotten(
    serve: Serve,
) -> None:
    served = await serve(**LEARNED)
    loop = served.server.service.learning
    assert loop is not None
    await served.command("ranking.pin", rung="live")
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "soon over", ttl=1))
    await device.shows("soon over")
    n = device.number("soon over")
    assert n in loop.ranking._terms
    await device.shows()
    assert n not in loop.ranking._terms
    await device.tell(Feedback((Event(n, Kind.SHOWN), Event(n, Kind.DWELL, 30, 5))))
    assert loop.ranking.learning.labels.pending == 1
    await eventually(lambda: loop.ranking.learning.labels.pending == 0)


async def test_newest_first_is_moved_by_nothing(serve: Serve) -> None:
    served = await serve(ranking__model="newest")
    fleet = [await served.subscribed(name) for name in FLEET]
    await publish(served, *PLEASANT, *TEDIOUS)
    for device in fleet:
        await see(served, device)
        await device.tell(taste(device.shown, [each.n for each in device.replica.window]))
    await served.at_rest()
    assert served.window(FLEET[0]) == [*reversed(TEDIOUS), *reversed(PLEASANT)]
    assert served.server.service.engine.counters["rekeyed"] == 0


# ---- Who ranks


async def test_a_pinned_rung_takes_effect_on_windows_and_is_let_go(serve: Serve) -> None:
    served, _ = await taught(serve)
    assert await served.command("ranking.pin", rung="newest") == {
        "pinned": "newest",
        "rung": "newest",
    }
    await served.at_rest()
    for name in FLEET:
        items = (await served.command("explain", device=name))["items"]
        by_key = sorted(items, key=lambda each: each["place_by_key"])
        assert [each["payload"] for each in by_key] == [*reversed(TEDIOUS), *reversed(PLEASANT)]
    await served.command("ranking.pin", rung="live")
    await eventually(
        lambda: all(kinds(served.window(name))[:4] == ["pleasant"] * 4 for name in FLEET)
    )
    answer = await served.command("ranking.pin", rung="none")
    # A model that has learned for a second has not proven itself.
    assert answer == {"pinned": None, "rung": "popularity"}


async def test_devices_of_the_holdout_stay_on_newest_first(serve: Serve) -> None:
    served, _ = await taught(serve, ranking__holdout=0.5, ranking__seed=2)
    loop = served.server.service.learning
    assert loop is not None
    held_out = {name for name in FLEET if loop.ranking.people.held_out(device_token(name))}
    assert 2 < len(held_out) < len(FLEET) - 2
    newest = [*reversed(TEDIOUS), *reversed(PLEASANT)]
    for name in FLEET:
        assert (served.window(name) == newest) == (name in held_out), name
        explained = await served.command("explain", device=name)
        assert explained["held_out"] == (name in held_out)


async def test_a_fall_is_a_warning_and_a_count_and_ranks_everything_anew(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served, _ = await taught(serve)
    loop = served.server.service.learning
    assert loop is not None
    caplog.clear()
    loop._follow([Switch(0.0, Rung.LIVE, Rung.POPULARITY, Reason.DRIFT, {"drift_level": 1.25})])
    (record,) = [each for each in caplog.records if "ranking" in each.message]
    assert record.levelno == logging.WARNING
    assert record.message == "the ranking falls from live to popularity: drift (drift_level 1.25)"
    assert served.count("ranking", "fell") == 1
    assert loop.waiting


# ---- What survives


async def test_an_orderly_restart_goes_on_with_what_was_learned(serve: Serve) -> None:
    served, _ = await taught(serve)
    before = await served.command("ranking.status")
    await served.drop_peers()
    await served.restart()
    after = await served.command("ranking.status")
    assert after["learned"] == before["learned"]
    assert after["version"] > before["version"]
    assert after["pinned"] == "live"
    device = await served.subscribed("newcomer")
    await see(served, device)
    assert kinds(device.shown)[:4] == ["pleasant"] * 4


async def test_a_killed_server_goes_on_with_the_model_that_it_saved(
    process: Callable[..., ServerProcess],
) -> None:
    server = process(**LEARNED)
    device = await server.subscribed("kitchen")
    await publish(server, *PLEASANT, *TEDIOUS)
    while len(device.shown) < 8:
        await device.frame()
    await device.tell(taste(device.shown, [each.n for each in device.replica.window]))

    async def status() -> Any:
        return await asyncio.to_thread(server.command, "ranking.status")

    while (await status())["learned"] < 8:
        await device.peer.ping()
    # A pin is kept at once, and with it everything else.
    await asyncio.to_thread(server.command, "ranking.pin", rung="live")
    saved = await status()
    server.kill()
    server.start()
    again = await status()
    assert (again["learned"], again["pinned"]) == (saved["learned"], "live")


async def test_what_was_learned_is_saved_from_time_to_time(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.learning.SAVE_EVERY", 0.1)
    served = await serve(**LEARNED)
    await eventually(lambda: served.count("ranking", "saved") > 1)
    assert (served.data / FILE).exists()


async def test_a_damaged_state_is_set_aside_and_the_ranking_begins_anew(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served, _ = await taught(serve)
    await served.drop_peers()
    await served.stop()
    path = served.data / FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes((whole[-1] ^ 1,)))
    await served.start()
    assert (await served.command("ranking.status"))["learned"] == 0
    assert served.count("ranking", "begun_anew") == 1
    assert path.with_name(f"{FILE}.damaged").read_bytes() != whole
    assert "begins anew" in caplog.text


async def test_a_save_that_fails_is_counted_and_logged_when_it_begins_to(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve(**LEARNED)
    loop = served.server.service.learning
    assert loop is not None
    in_the_way = served.data / f"{FILE}.tmp"
    in_the_way.mkdir()
    await loop.save()
    await loop.save()
    assert served.count("ranking", "save_failed") == 2
    assert caplog.text.count("what was learned is not saved") == 1
    in_the_way.rmdir()
    await loop.save()
    assert served.count("ranking", "saved") == 1
    assert (served.data / FILE).exists()


# ---- Decisions


async def test_decisions_and_their_outcomes_are_logged(serve: Serve) -> None:
    served, fleet = await taught(serve)
    await served.drop_peers()
    await served.stop()
    records = list(read(served.data / DIRECTORY))
    admitted = sum(len(each) for each in records if each.KIND == "admissions")
    outcomes = [each for each in records if each.KIND == "outcomes"]
    assert admitted >= len(fleet) * 8
    assert sum(len(each) for each in outcomes) == len(fleet) * 8
    assert sum(int(each.opened.sum()) for each in outcomes) == len(fleet) * 4
    await served.start()


async def test_an_erased_device_is_in_no_decision_any_more_nor_ever_again(serve: Serve) -> None:
    served, fleet = await taught(serve)
    gone, stays = fleet[:2]
    await publish(served, "pleasant late")
    for device in gone, stays:
        await see(served, device)
        n = device.number("pleasant late")
        await device.tell(Feedback((Event(n, Kind.SHOWN, 0), Event(n, Kind.OPENED))))
    # Its outcome is still to come.
    await served.command("device.erase", device=gone.name)
    assert rows_of(served.data, gone.name) == 0
    await served.counted("ranking", "learned", len(FLEET) * 8 + 2)
    await served.drop_peers()
    await served.stop()
    assert rows_of(served.data, gone.name) == 0
    assert rows_of(served.data, stays.name) > 8
    await served.start()


async def test_a_device_that_is_erased_while_no_server_runs_is_in_no_decision_any_more(
    serve: Serve,
) -> None:
    served, _ = await taught(serve)
    await served.drop_peers()
    await served.stop()
    assert rows_of(served.data, FLEET[0]) > 0

    def erase() -> Any:
        with Offline(load(None, {}, {"data": str(served.data)})) as offline:
            return offline.call("device.erase", device=FLEET[0])

    answer = await asyncio.to_thread(erase)
    assert "decisions" in answer["removed"]
    assert rows_of(served.data, FLEET[0]) == 0
    assert rows_of(served.data, FLEET[1]) > 0
    await served.start()


async def test_a_server_that_logs_no_decisions_still_erases_those_of_before(serve: Serve) -> None:
    served, _ = await taught(serve)
    await served.drop_peers()
    await served.restart(**{"ranking.decisions": False})
    assert rows_of(served.data, FLEET[0]) > 0
    await served.command("device.erase", device=FLEET[0])
    assert rows_of(served.data, FLEET[0]) == 0


# ---- What operators see


async def test_the_parts_of_a_key_explain_the_order(serve: Serve) -> None:
    served, _ = await taught(serve)
    await publish(served, "pleasant news")
    await served.at_rest()
    found = await served.command("explain", device=FLEET[0])
    assert (found["device"], found["rung"], found["held_out"]) == (FLEET[0], "live", False)
    assert [each["payload"] for each in found["items"]] == served.window(FLEET[0])
    keys = {
        each["place_by_key"]: each["published"] + sum(each["key"].values())
        for each in found["items"]
    }
    # Equal within the rounding of ticks.
    for better, worse in zip(sorted(keys), sorted(keys)[1:], strict=False):
        assert keys[better] >= keys[worse] - 0.05
    best = found["items"][0]
    names = [name for name, _ in best["parts"]]
    assert "channel pleasant" in names[:3]
    assert 0.5 < best["probability"] < 1


async def test_others_have_their_turn_while_a_window_is_explained(serve: Serve) -> None:
    served, _ = await taught(serve)
    await publish(served, "pleasant news")
    await served.at_rest()
    service = served.server.service
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    turn()
    found = await service.explain(FLEET[0])
    assert found is not None
    assert turns > len(found["items"]) > 1


async def test_a_device_that_goes_while_its_window_is_explained_has_none(serve: Serve) -> None:
    served, _ = await taught(serve)
    await publish(served, "pleasant news")
    await served.at_rest()
    live = served.server.service.roster.get(FLEET[0])
    assert live is not None
    asked = asyncio.create_task(served.server.service.explain(FLEET[0]))
    await asyncio.sleep(0)
    served.server.service.roster.unseat(live)
    assert await asked is None


async def test_the_status_is_json_for_everybody(serve: Serve) -> None:
    served, _ = await taught(serve)
    found = await served.command("ranking.status")
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["learned"] == len(FLEET) * 8
    assert {each["name"] for each in found["publishers"]["shares"]} == {"pleasant", "tedious"}
    brief = (await served.command("status"))["ranking"]
    assert (brief["model"], brief["rung"]) == ("learned", "live")


async def test_a_server_that_does_not_learn_says_so(serve: Serve) -> None:
    served = await serve(ranking__model="popularity")
    assert await served.command("ranking.status") == {"model": "popularity"}
    with pytest.raises(Exception, match="learns nothing"):
        await served.command("ranking.pin", rung="live")
    await served.subscribed("kitchen")
    await publish(served, "pleasant news")
    await eventually(lambda: served.window("kitchen"))
    found = await served.command("explain", device="kitchen")
    assert found["items"][0]["probability"] is None
    assert found["items"][0]["key"]["device"] == 0
