"""A server under load, and with budgets: real clients, levels that are reached by saying so.

A look at the server that calls for a level is what the watch would take by itself ten times a second; the
calm that a level needs to end is set beyond what a test takes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from broker import service as data_path
from broker.overload.delays import Delays
from broker.overload.levels import Level, begins
from devices.frames import Profile
from devices.packets import Connack, Connect, Puback, Publish
from feedgen.ranking.rungs import Rung
from tests.broker.support import Device, Peer, Served, eventually, item

if TYPE_CHECKING:
    from broker.access.door import Attempt, Verdict

Serve = Callable[..., Awaitable[Served]]

URGENT = 3


def reach(served: Served, level: Level) -> None:
    """Take looks that call for this level until it is the present one."""
    service = served.server.service
    settings = service.config.overload
    for _ in range(1000):
        if service.overload.level is level:
            return
        pressure = begins(level) if service.overload.level < level else 0.0
        verdict = service.overload.observe(
            Delays(oldest_stored=settings.item_delay * pressure), time.monotonic()
        )
        if verdict.changed:
            service.load_changed(verdict)
    raise AssertionError(f"level {service.overload.level} after 1000 looks")


async def overloaded(serve: Serve, level: Level, **settings: Any) -> Served:
    served = await serve(overload__calm=600.0, **settings)
    reach(served, level)
    return served


def published(name: str, count: int, **more: Any) -> list[Publish]:
    return [
        Publish("items/news", json.dumps(item(f"{name}{n}", f"{name} {n}", **more)).encode(), 1, n)
        for n in range(1, count + 1)
    ]


async def acknowledged(peer: Peer, count: int) -> None:
    for _ in range(count):
        await peer.expect(Puback)


def overload(served: Served) -> dict[str, Any]:
    return dict(served.server.service.status()["overload"])


# ---- Levels


async def test_at_every_level_what_was_acknowledged_arrives(serve: Serve) -> None:
    served = await serve(overload__calm=600.0)
    device = await served.subscribed("kitchen")
    shown: list[str | bytes] = []
    for level in Level:
        reach(served, level)
        await served.publish(item(f"a{level}", f"at {level}", priority=1))
        shown = [f"at {level}", *shown]
        await device.shows(*shown)
        assert overload(served)["level"] == level


async def test_what_is_held_goes_on_when_the_engine_has_time_and_urgent_items_before_it(
    serve: Serve,
) -> None:
    served = await overloaded(serve, Level.HOLDING)
    service = served.server.service
    device = await served.subscribed("kitchen")
    publisher = await served.connect("publisher")
    publisher.send(*published("low", 300, priority=0), *published("urgent", 1, priority=URGENT))
    await eventually(lambda: service.overload.admission.held)
    await acknowledged(publisher, 301)
    await eventually(lambda: served.window("kitchen")[:1] == ["urgent 1"])
    await served.at_rest()
    assert len(served.window("kitchen")) == 8
    await device.shows(*served.window("kitchen"))
    assert overload(served)["items_held"] == 0


async def test_nothing_is_ranked_anew_while_items_are_held(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await overloaded(serve, Level.HOLDING)
    service = served.server.service
    await served.subscribed("kitchen")
    steps = []
    taken = service.engine.step

    def step(*args: Any, background: bool, **more: Any) -> Any:
        held = service.overload.admission.held
        steps.append((held > 0, background))
        return taken(*args, background=background, **more)

    monkeypatch.setattr(service.engine, "step", step)
    publisher = await served.connect("publisher")
    publisher.send(*published("low", 300, priority=0))
    await acknowledged(publisher, 300)
    await served.at_rest()
    assert set(steps) == {(True, False), (False, True)}


async def test_an_urgent_item_is_sent_in_the_step_in_which_it_becomes_durable(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await served.subscribed("kitchen")
    service = served.server.service
    monkeypatch.setattr(service, "_work", lambda: None)  # its turn does not come
    await served.publish(item("a", "calm", 2))
    await served.publish(item("b", "fire", URGENT))
    await device.shows("fire")
    monkeypatch.undo()
    service._scheduled = False
    service._schedule()
    await device.shows("fire", "calm")


async def test_urgent_items_that_come_thick_are_worked_off_together(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await served.subscribed("kitchen")
    service = served.server.service
    steps = []
    taken = service.engine.step
    monkeypatch.setattr(data_path, "_HURRY_PAUSE", 3600.0)

    def step(now: float, rows: int, *, urgent: bool = False, **more: Any) -> Any:
        steps.append(urgent)
        return taken(now, rows, urgent=urgent, **more)

    monkeypatch.setattr(service.engine, "step", step)
    await served.publish(*(item(f"u{n}", f"urgent {n}", URGENT) for n in range(5)))
    await device.shows(*(f"urgent {n}" for n in reversed(range(5))))
    assert steps.count(True) == 1
    assert len(steps) > 1


async def test_a_turn_of_work_takes_a_step_however_long_it_took_to_get_there(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await served.subscribed("kitchen")
    monkeypatch.setattr(data_path, "_SLICE", -1.0)  # the time is over before it begins
    await served.publish(item("a", "one"))
    await device.shows("one")


async def test_a_held_item_that_is_retracted_is_never_shown(serve: Serve) -> None:
    served = await overloaded(serve, Level.HOLDING)
    device = await served.subscribed("kitchen")
    publisher = await served.connect("publisher")
    retraction = json.dumps({"id": "low1", "retract": True}).encode()
    publisher.send(*published("low", 2, priority=0), Publish("items/news", retraction, 1, 9))
    await acknowledged(publisher, 3)
    await device.shows("low 2")


@pytest.mark.parametrize("first", [[], [item("a", "before", ttl=60)]])
async def test_what_expires_before_its_turn_is_not_shown_any_more(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, first: list[dict[str, Any]]
) -> None:
    served = await serve()
    device = await served.subscribed("kitchen")
    await served.publish(*first)
    await served.at_rest()
    monkeypatch.setattr(data_path, "_AT_ONCE", 0)  # the engine is given nothing but urgent items
    await served.publish(item("a", "too late", ttl=1))
    await served.counted("items", "expired", 1)
    monkeypatch.undo()
    await served.at_rest()
    assert served.window("kitchen") == []
    known = await served.command("item.show", id="a") if first else {"state": "expired"}
    assert known["state"] == "expired"
    assert overload(served)["held_expired"] == (0 if first else 1)
    await served.publish(item("b", "next"))
    await device.shows("next")
    assert served.count("frames", "puts") == 1 + len(first)


async def test_diversity_and_personal_ranks_are_given_up_and_come_back(serve: Serve) -> None:
    served = await overloaded(serve, Level.COALESCING, ranking__model="learned")
    service = served.server.service
    assert service.learning is not None
    ranking = service.learning.ranking
    service.learning.pin(Rung.LIVE, service.now())  # a new one begins with popularity

    def gives_up() -> tuple[bool, bool, str]:
        exploring = ranking.served is not None and ranking.served.sampled
        return service.engine.diverse, exploring, ranking.rung.name

    seen = [gives_up()]
    for level in (Level.PLAIN, Level.TOPIC_ONLY, Level.PLAIN, Level.COALESCING, Level.NORMAL):
        reach_down(served, level)
        seen.append(gives_up())
    # What ranks everything anew comes back with the last level alone.
    assert seen == [
        (True, True, "LIVE"),
        (False, False, "LIVE"),
        (False, False, "POPULARITY"),
        (False, False, "POPULARITY"),
        (False, False, "POPULARITY"),
        (True, True, "LIVE"),
    ]


def reach_down(served: Served, level: Level) -> None:
    """Reach a level that may be lower than the present one: as if the calm had lasted."""
    levels = served.server.service.overload._levels
    levels._calm, calm = 0.0, levels._calm
    reach(served, level)
    levels._calm = calm


async def test_windows_without_diversity_are_sent_anew_when_it_comes_back(serve: Serve) -> None:
    served = await overloaded(serve, Level.PLAIN, ranking__model="learned", ranking__holdout=0.0)
    device = await served.subscribed("kitchen")
    await served.publish(*(item(f"a{n}", f"a {n}") for n in range(6)), channel="same")
    await served.publish(item("b", "b"), channel="other")
    await served.publish(*(item(f"c{n}", f"c {n}") for n in range(6)), channel="same")
    await served.at_rest()
    await device.shows(*served.window("kitchen"))
    reach_down(served, Level.NORMAL)
    await served.at_rest()
    await device.shows(*served.window("kitchen"))


async def test_who_sends_most_is_not_read_for_a_while_and_loses_nothing(serve: Serve) -> None:
    served = await overloaded(serve, Level.CHOKING)
    loud, modest = await served.connect("loud"), await served.connect("modest")
    await eventually(lambda: served.server.service.overload.senders.cap)
    loud.send(*published("loud", 300))
    await acknowledged(loud, 300)
    assert overload(served)["publishers_choked"] == ["loud"]
    loud.send(*published("more", 10))
    await modest.publish("items/news", b'{"id": "m", "payload": "from the modest"}')
    assert served.count("items", "new") == 301
    await acknowledged(loud, 10)
    assert overload(served)["publishers_stopped"]["overload"] >= 1


# ---- Clients


async def test_clients_that_come_all_at_once_are_let_in_one_after_another(serve: Serve) -> None:
    served = await serve(overload__connect_rate=100.0)
    peers = [await served.peer() for _ in range(40)]
    for at, peer in enumerate(peers):
        peer.send(Connect(f"client-{at}", True, 60))
    codes = [(await peer.expect(Connack)).code for peer in peers]
    assert codes == [0] * 40
    assert served.server.service.overload.pace.waited >= 10


async def test_who_finds_no_place_to_wait_is_told_to_come_back_later(serve: Serve) -> None:
    served = await serve(overload__connect_rate=1.0, overload__connect_queue=2)
    peers = [await served.peer() for _ in range(24)]
    for at, peer in enumerate(peers):
        peer.send(Connect(f"client-{at}", True, 60))
    await eventually(lambda: served.count("dropped", "connect_refused_overloaded") >= 4)
    refused = served.count("dropped", "connect_refused_overloaded")
    codes = await asyncio.gather(*(peer.read() for peer in peers[24 - refused :]))
    assert [connack.code for connack in codes if isinstance(connack, Connack)] == [3] * refused
    assert overload(served)["connects_waiting"] <= 2


async def test_a_client_that_gives_up_while_it_waits_takes_nobodys_turn(serve: Serve) -> None:
    served = await serve(overload__connect_rate=1.0)
    pace = served.server.service.overload.pace
    pace._tokens = -1000.0  # nobody comes in for a while
    peers = [await served.peer() for _ in range(6)]
    for at, peer in enumerate(peers):
        peer.send(Connect(f"client-{at}", True, 60))
    await eventually(lambda: pace.waiting == 6)
    for peer in peers[:5]:
        await peer.drop()
    await eventually(lambda: pace.waiting == 1)
    pace._tokens = 1.0
    assert (await peers[5].expect(Connack)).code == 0
    assert pace.refused == 0


async def test_one_client_that_breaks_something_keeps_no_other_out(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve(overload__connect_rate=1.0)
    pace = served.server.service.overload.pace
    pace._tokens = -1000.0
    peers = [await served.peer() for _ in range(3)]
    for at, peer in enumerate(peers):
        peer.send(Connect(f"client-{at}", True, 60))
        await eventually(lambda at=at: pace.waiting == at + 1)
    door = served.server.lane.door
    admit = door.admit

    def fails(attempt: Attempt) -> Verdict:
        if attempt.connect.client_id == "client-0":
            raise RuntimeError("a defect")
        return admit(attempt)

    monkeypatch.setattr(door, "admit", fails)
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    pace._tokens = 5.0
    assert [(await peer.expect(Connack)).code for peer in peers[1:]] == [0, 0]
    assert [str(each["exception"]) for each in told] == ["a defect"]


async def test_what_a_waiting_client_sends_behind_its_connect_is_carried_out_afterwards(
    serve: Serve,
) -> None:
    served = await serve(overload__connect_rate=50.0)
    peers = [await served.peer() for _ in range(20)]
    for at, peer in enumerate(peers):
        peer.send(Connect(f"client-{at}", True, 60), *published(f"i{at}-", 1))
    for peer in peers:
        await peer.expect(Connack)
        await peer.expect(Puback)
    assert served.count("items", "new") == 20


# ---- Budgets


def refill(served: Served) -> None:
    """An hour has passed for the budgets of devices."""
    for shelf in served.server.service.roster.shelves:
        assert shelf.allowances is not None
        shelf.allowances._at -= 3600.0


def budget(served: Served, device: str) -> dict[str, Any]:
    return dict(served.server.service.describe(device)["allowance"])


async def with_a_spent_budget(serve: Serve) -> tuple[Served, Device]:
    """A device that got its snapshot and one change, which is all it may have for now."""
    served = await serve(budgets__device_frames=4)
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"))
    await device.shows("one")
    return served, device


async def test_a_device_without_budget_gets_the_net_difference_when_some_is_back(
    serve: Serve,
) -> None:
    served, device = await with_a_spent_budget(serve)
    sent = served.count("frames", "sent")
    await served.publish(item("b", "two"), item("c", "three"), item("b", "two again"))
    await eventually(lambda: served.window("kitchen")[:1] == ["two again"])
    await served.at_rest()
    assert budget(served, "kitchen")["waiting"]
    assert served.count("frames", "sent") == sent
    refill(served)
    await device.shows("two again", "three", "one")
    assert served.count("frames", "sent") == sent + 1
    assert not budget(served, "kitchen")["waiting"]


async def test_an_urgent_item_passes_without_budget_and_takes_nothing_else_along(
    serve: Serve,
) -> None:
    served, device = await with_a_spent_budget(serve)
    await served.publish(item("b", "two"), item("c", "fire", priority=URGENT))
    await device.shows("fire", "one")
    assert served.window("kitchen") == ["fire", "two", "one"]
    await served.at_rest()
    assert not served.server.service.describe("kitchen")["up_to_date"]
    await served.publish(item("c", "fire is out", priority=URGENT))
    await device.shows("fire is out", "one")
    refill(served)  # which pays for the urgent ones
    refill(served)
    await device.shows("fire is out", "two", "one")


async def test_a_device_that_asks_is_answered_without_budget(serve: Serve) -> None:
    served, device = await with_a_spent_budget(serve)
    await served.publish(item("b", "two"))
    await device.peer.drop()
    again = await served.device("kitchen")
    await again.subscribe()
    assert [entry.payload for entry in (await again.snapshot()).items] == ["two", "one"]


async def test_devices_have_budgets_of_their_own(serve: Serve) -> None:
    served, _ = await with_a_spent_budget(serve)
    other = await served.subscribed("cellar")
    await served.publish(item("b", "two"))
    await other.shows("two", "one")


async def test_in_its_quiet_hours_a_device_gets_urgent_items_alone(serve: Serve) -> None:
    served = await serve()
    device = await served.subscribed("kitchen")
    hour = time.gmtime().tm_hour
    quiet = f"{(hour - 1) % 24}-{(hour + 2) % 24}"
    await device.tell(Profile(attrs={"quiet": quiet}))
    await served.publish(item("a", "one"), item("b", "fire", priority=URGENT))
    await device.shows("fire")
    found = budget(served, "kitchen")
    assert (found["waiting"], found["quiet"], found["left"]) == (True, True, 0.0)
    await device.tell(Profile(attrs={"quiet": ""}))
    await device.shows("fire", "one")


async def test_a_time_zone_that_is_none_costs_a_device_nothing_but_its_quiet_hours(
    serve: Serve,
) -> None:
    served = await serve()
    device = await served.subscribed("kitchen")
    await device.tell(Profile(attrs={"quiet": "0-23:59", "tz": "+-3"}))
    await device.peer.drop()
    again = await served.device("kitchen")
    await again.subscribe()
    assert (await again.snapshot()).items == ()
    assert served.server.service.describe("kitchen")["allowance"]["quiet"]


async def test_a_publisher_over_its_budget_is_not_read_until_some_is_back(serve: Serve) -> None:
    served = await serve(budgets__publisher_items=8)
    greedy, modest = await served.connect("greedy"), await served.connect("modest")
    greedy.send(*published("g", 5))
    await acknowledged(greedy, 5)
    assert overload(served)["publishers_over_budget"] == ["greedy"]
    greedy.send(*published("h", 2))
    await modest.publish("items/news", b'{"id": "m", "payload": "from the modest"}')
    assert served.count("items", "new") == 6
    sender = served.server.service.overload.senders._senders[("", "greedy")]
    sender.items.at -= 3600.0
    await acknowledged(greedy, 2)
    assert overload(served)["publishers_over_budget"] == []
    assert overload(served)["publishers_stopped"]["budget"] == 1


async def test_a_device_that_says_too_much_is_not_read_until_some_budget_is_back(
    serve: Serve,
) -> None:
    served = await serve(budgets__device_messages=8)
    chatty, modest = await served.subscribed("chatty"), await served.subscribed("modest")
    for n in range(8):
        await chatty.tell(Profile(attrs={"model": f"m{n}"}))
        if overload(served)["devices_over_budget"]:
            break
    assert overload(served)["devices_over_budget"] == ["u/chatty"]
    said = served.count("up", "profile")
    chatty.say(Profile(attrs={"model": "x"}))
    await served.publish(item("a", "one"))
    await modest.shows("one")
    assert served.count("up", "profile") == said < 9
    sender = served.server.service.overload.talkers._senders[("", "u/chatty")]
    sender.items.at -= 3600.0
    await served.counted("up", "profile", said + 1)
    await chatty.shows("one")
