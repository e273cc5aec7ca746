"""Several gateways beside one broker: which devices are whose, whatever comes and goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices.frames import Delta, Hello, encode_up
from devices.packets import Publish
from tests.broker.support import eventually, follow, item

if TYPE_CHECKING:
    from tests.broker.gateway.conftest import Crew
    from tests.broker.gateway.stage import Beside, OutsideDevice

NAMES = tuple(f"d{number}" for number in range(8))


async def arrived(worker: Beside, *names: str) -> dict[str, OutsideDevice]:
    """Devices that have said hello and got their first frame."""
    found = {name: await worker.arrive(name) for name in names}
    for device in found.values():
        await device.frame()
    return found


async def left(devices: dict[str, OutsideDevice]) -> None:
    for device in devices.values():
        await device.leave()


async def test_devices_are_spread_over_the_workers_and_all_get_every_item(crew: Crew) -> None:
    one, two = await crew.worker(), await crew.worker()
    devices = await arrived(one, *NAMES)
    assert one.gateway.presence.connections
    assert two.gateway.presence.connections
    assert sorted(one.gateway.presence.devices() + two.gateway.presence.devices()) == list(NAMES)
    await crew.ingesting.publish(item("a", "first"), item("b", "second"))
    for device in devices.values():
        await device.shows("second", "first")
    await left(devices)


async def test_what_a_device_says_takes_effect_at_its_worker_whoever_ingests(crew: Crew) -> None:
    one, two = await crew.worker(), await crew.worker()
    devices = await arrived(one, *NAMES[:4])
    for device in devices.values():
        await device.tell(follow("alerts/#", unfollow=["#"]))
    await eventually(
        lambda: one.count("up", "profile") + two.count("up", "profile"), lambda count: count == 4
    )
    await crew.ingesting.publish(item("n", "news"))
    await crew.ingesting.publish(item("x", "storm"), channel="alerts/weather")
    for device in devices.values():
        await device.shows("storm")
    await left(devices)


async def test_a_worker_that_comes_is_handed_its_devices_and_none_of_them_notices(
    crew: Crew,
) -> None:
    one = await crew.worker()
    devices = await arrived(one, *NAMES)
    epochs = {name: device.replica.epoch for name, device in devices.items()}
    two = await crew.worker()
    moved = [name for name in NAMES if two.worker.spread.worker(name) == "w2"]
    assert moved
    await eventually(
        lambda: sorted(two.gateway.presence.devices()), lambda found: found == sorted(moved)
    )
    await crew.ingesting.publish(item("a", "first"))
    for name, device in devices.items():
        assert isinstance(await device.frame(), Delta)
        assert device.shown == ["first"]
        assert device.replica.epoch == epochs[name]
    await left(devices)


async def test_a_worker_that_leaves_hands_its_devices_over(crew: Crew) -> None:
    one, two = await crew.worker(), await crew.worker()
    devices = await arrived(one, *NAMES)
    epochs = {name: device.replica.epoch for name, device in devices.items()}
    await one.stop()
    await eventually(lambda: sorted(two.gateway.presence.devices()) == list(NAMES))
    await eventually(lambda: two.gateway.ingest.up)
    await two.publish(item("a", "first"))
    for name, device in devices.items():
        await device.shows("first")
        assert device.replica.epoch == epochs[name]
    await left(devices)


async def test_the_devices_of_a_worker_that_died_are_claimed_and_begin_a_new_epoch(
    faulty: Crew,
) -> None:
    one, two = await faulty.worker(), await faulty.worker()
    devices = await arrived(one, *NAMES)
    dead = faulty.ingesting
    alive = two if dead is one else one
    died_with = dead.gateway.presence.devices()
    epochs = {name: device.replica.epoch for name, device in devices.items()}
    await dead.vanish()
    await eventually(lambda: alive.gateway.ingest.up, within=20)
    await alive.publish(item("a", "first"))
    for name, device in devices.items():
        await device.shows("first")
        assert device.replica.epoch == epochs[name] + (name in died_with)
    await left(devices)


async def test_what_a_device_says_while_its_worker_is_dead_and_nobody_knows_is_carried_out_by_the_next(
    faulty: Crew,
) -> None:
    one, two = await faulty.worker(), await faulty.worker()
    devices = await arrived(one, *NAMES)
    alive = faulty.ingesting
    dead = two if alive is one else one
    name = dead.gateway.presence.devices()[0]
    assert dead.shared is not None
    dead.shared.away = True  # it reads nothing of what is left for it
    await devices[name].tell(follow("alerts/#", unfollow=["#"]))
    await dead.vanish()
    await eventually(lambda: name in alive.gateway.presence.devices(), within=20)
    await eventually(lambda: alive.count("up", "profile"), lambda count: count == 1)
    await alive.publish(item("n", "news"))
    await alive.publish(item("x", "storm"), channel="alerts/weather")
    await devices[name].shows("storm")
    await left(devices)


async def test_what_is_published_while_nobody_ingests_waits_in_the_session(faulty: Crew) -> None:
    one, two = await faulty.worker(), await faulty.worker()
    dead = faulty.ingesting
    alive = two if dead is one else one
    [device] = (await arrived(one, "d0")).values()
    await dead.vanish()
    await dead.publish(item("a", "first"))  # the broker takes it
    await device.shows("first")
    assert alive.count("items", "new") == 1
    await device.leave()


async def test_all_workers_gone_and_back_go_on_with_those_who_are_there(crew: Crew) -> None:
    one = await crew.worker()
    devices = await arrived(one, *NAMES[:3])
    epochs = {name: device.replica.epoch for name, device in devices.items()}
    await one.stop()
    two = await crew.worker()
    await two.publish(item("a", "first"))
    for name, device in devices.items():
        await device.shows("first")
        assert device.replica.epoch == epochs[name]
    await left(devices)


async def test_while_the_store_is_away_what_was_accepted_is_delivered_and_nobody_falls_asleep(
    faulty: Crew,
) -> None:
    one = await faulty.worker(gateway__ack_limit=0.2)
    [device] = (await arrived(one, "d0")).values()
    await one.unacknowledged("d0", 0)
    assert one.shared is not None
    one.shared.away = True
    publisher = await one.client("publisher")
    await publisher.publish("items/news", b'{"id": "a", "payload": "durable"}')
    publisher.send(Publish("items/news", b'{"id": "b", "payload": "best effort", "priority": 2}'))
    await device.shows("best effort")
    assert one.count("items", "received") == 2
    one.shared.away = False
    await device.shows("best effort", "durable")
    assert one.count("closed", "asleep") == 0
    await device.leave()


async def test_a_device_that_cannot_be_claimed_does_not_hold_up_the_others(faulty: Crew) -> None:
    worker = await faulty.worker()
    kept = faulty.world.devices["d1"]
    kept.version, kept.blob = faulty.world.serial(), b"of a release to come"
    broken = await worker.client("d1")
    await broken.publish("u/d1", encode_up(Hello(0, 0)))
    await worker.counted("dropped", "unclaimed_device")
    uplink = worker.gateway.ingest.ups
    assert uplink is not None
    assert uplink._link is not None
    owed = uplink._link._owed
    await eventually(lambda: not owed)
    assert kept.blob == b"of a release to come"
    await broken.leave()
