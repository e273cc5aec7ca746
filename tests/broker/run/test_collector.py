"""The collector: what ends leaves no cycles behind, so that no full collection is needed."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Awaitable, Callable

from devices.packets import Connect, Puback, encode
from tests.broker.support import Served, eventually, item

Serve = Callable[..., Awaitable[Served]]

OURS = ("broker.", "feedgen.", "devices.")


async def test_items_and_devices_that_end_leave_no_cycles(serve: Serve) -> None:
    served = await serve()
    kept = []  # the ends of the test itself

    async def come_and_go(name: str) -> None:
        device = await served.subscribed(name)
        kept.append(device)
        await served.publish(item("a", f"for {name}"), item("b", "gone"))
        await served.publish({"id": "b", "retract": True})
        await device.shows(f"for {name}")
        await device.peer.drop()
        await served.at_rest()

    await come_and_go("warm")
    gc.collect()
    gc.disable()
    try:
        for at in range(5):
            await come_and_go(f"device-{at}")
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = {type(each).__qualname__ for each in gc.garbage if is_ours(each)}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == set()


async def test_connections_leave_no_cycles_however_they_end(serve: Serve) -> None:
    served = await serve()
    broken = (
        b"GET / HTTP/1.1\r\n\r\n",  # no MQTT at all
        encode(Connect("a", True, 60)) + b"\xff\xff\xff\xff\xff",  # or not any more
        encode(Connect("a", True, 60)) + b"\x30\x03\x00\x01\xff",  # a topic that is no UTF-8
        encode(Connect("a", True, 60)) + encode(Connect("a", True, 60)),
        encode(Connect("", False, 60)),
        encode(Puback(1)),
    )

    async def come_and_go() -> None:
        for packets in broken:
            peer = await served.peer()
            peer.send(packets)
            await peer.expect_end()
        await served.connect("taken-over")
        await served.connect("taken-over")
        await served.drop_peers()
        await eventually(lambda: not served.server.lane.connections, lambda none: none)

    await come_and_go()
    gc.collect()
    gc.disable()
    try:
        await come_and_go()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = {type(each).__qualname__ for each in gc.garbage if is_ours(each)}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == set()


def is_ours(thing: object) -> bool:
    return type(thing).__module__.startswith(OURS)


def test_a_process_that_serves_collects_what_is_young_alone() -> None:
    program = (
        "import gc; from broker.run.collector import settle; settle();"
        "keep = [[] for _ in range(2_000_000)];"
        "young, middle, full = (each['collections'] for each in gc.get_stats());"
        "before = full; more = [[] for _ in range(500_000)];"
        "print(gc.get_freeze_count() > 1_000, young > 100, middle > 10,"
        " gc.get_stats()[2]['collections'] == before == 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["True"] * 4
