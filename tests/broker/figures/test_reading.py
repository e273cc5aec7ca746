"""Readings of servers that run."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest

from broker.figures.catalog import FIGURES, Kind
from broker.figures.reading import FRESH, RECENT, Figures, Reading
from tests.broker.support import Served, eventually, item

Serve = Callable[..., Awaitable[Served]]


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def figures(served: Served, clock: Clock) -> Figures:
    server = served.server
    return Figures(server.service, server.lane, server.exchange, clock)


def anew(figures: Figures, clock: Clock) -> Reading:
    clock.now += FRESH
    return figures.read()


def named(*parts: str) -> set[str]:
    """Figures whose names begin so."""
    return {name for name in FIGURES if name.removeprefix("fleetfeed_").startswith(parts)}


OF_NODES = {*named("cluster_"), "fleetfeed_ranking_age_seconds"}
OF_GATEWAYS = named("uplink_")
OF_RANKING = named("ranking_", "publisher_", "exposure_")


async def test_a_server_has_every_figure_from_the_start(served: Served) -> None:
    reading = served.server.figures.read()
    found = {*reading.numbers, *reading.totals}
    # The server of these tests is alone, and does not learn.
    assert found == {*FIGURES} - OF_RANKING - OF_NODES - OF_GATEWAYS
    for name, values in reading.numbers.items():
        figure = FIGURES[name]
        if figure.kind is Kind.COUNTER:
            assert {*figure.values} <= {*values}
        if not figure.label:
            assert {*values} == {""}


async def test_a_server_that_learns_has_those_of_the_ranking(serve: Serve) -> None:
    served = await serve(ranking__model="learned")
    reading = served.server.figures.read()
    assert {*reading.numbers, *reading.totals} == {*FIGURES} - OF_NODES - OF_GATEWAYS
    assert reading.number("fleetfeed_ranking_rung") in {0, 1, 2, 3}


async def test_what_happens_is_counted(figures: Figures, clock: Clock, served: Served) -> None:
    device = await served.subscribed("kitchen")
    await served.publish(item("a", "one"), json.dumps({"id": "no payload"}).encode())
    await device.shows("one")
    await served.counted("frames", "acked")  # the empty window came at QoS 0
    await served.at_rest()
    reading = anew(figures, clock)
    number = reading.number
    assert number("fleetfeed_devices", "subscribed") == 1
    assert number("fleetfeed_devices", "stalled") == 0
    assert number("fleetfeed_frames_total", "sent") == 2
    assert number("fleetfeed_frames_total", "acked") == 1
    assert number("fleetfeed_frames_inflight") == 0
    assert number("fleetfeed_items_total", "received") == 2
    assert number("fleetfeed_items_rejected_total") == 1
    assert number("fleetfeed_store_up") == 1
    assert reading.totals["fleetfeed_publish_to_frame_seconds"].count == 1
    assert reading.totals["fleetfeed_publish_to_ack_seconds"].count == 1
    assert reading.totals["fleetfeed_device_ack_seconds"].count == 1
    assert reading.totals["fleetfeed_commit_seconds"].count == 1
    assert reading.totals["fleetfeed_engine_chunk_seconds"].count >= 2
    assert 0 < reading.recent["fleetfeed_publish_to_ack_seconds"].quantile(0.99) < 60


async def test_bytes_and_packets_are_those_on_the_wire(
    figures: Figures, clock: Clock, served: Served
) -> None:
    """CONNECT, SUBSCRIBE, two PUBLISH and a PINGREQ; CONNACK, SUBACK, PUBACK, PINGRESP back."""
    before = anew(figures, clock)
    peer = await served.connect("quiet")  # 19 bytes
    await peer.subscribe(("home", 0))  # 11
    await peer.publish("elsewhere", b"x" * 200, qos=1)  # 216
    await peer.publish("elsewhere", b"", qos=0)  # 13
    await peer.ping()  # 2
    after = anew(figures, clock)

    def grown(name: str, of: str) -> float:
        return after.number(name, of) - before.number(name, of)

    assert grown("fleetfeed_mqtt_bytes_total", "received") == 19 + 11 + 216 + 13 + 2
    assert grown("fleetfeed_mqtt_packets_total", "received") == 5
    assert grown("fleetfeed_mqtt_publishes_total", "received") == 2
    assert grown("fleetfeed_mqtt_publish_bytes_total", "received") == 216 + 13
    assert grown("fleetfeed_mqtt_bytes_total", "sent") == 4 + 5 + 4 + 2
    assert grown("fleetfeed_mqtt_packets_total", "sent") == 4
    assert grown("fleetfeed_mqtt_publishes_total", "sent") == 0


async def test_frames_and_their_acknowledgements_are_in_the_bytes_and_packets(
    figures: Figures, clock: Clock, served: Served
) -> None:
    device = await served.subscribed("kitchen")
    before = anew(figures, clock)
    frames = served.count("frames", "bytes")
    await served.publish(item("a", "one"))
    await device.shows("one")
    await served.counted("frames", "acked")
    after = anew(figures, clock)
    sent = "fleetfeed_mqtt_publish_bytes_total", "sent"
    assert after.number(*sent) - before.number(*sent) == served.count("frames", "bytes") - frames
    received = "fleetfeed_mqtt_packets_total", "received"
    assert after.number(*received) - before.number(*received) == 4  # CONNECT … DISCONNECT, PUBACK


async def test_clients_come_and_go(figures: Figures, clock: Clock, served: Served) -> None:
    stays = await served.connect("stays")
    leaves = await served.connect("leaves", clean=False)
    await stays.subscribe(("home", 0), ("garden", 0))
    await stays.unsubscribe("home")
    clients = "fleetfeed_mqtt_clients"
    reading = anew(figures, clock)
    assert [reading.number(clients, of) for of in ("connected", "disconnected", "total")] == [
        2,
        0,
        2,
    ]
    assert reading.number("fleetfeed_mqtt_subscriptions") == 1
    await leaves.leave()
    await eventually(lambda: served.server.lane.traffic.clients, lambda found: found == 1)
    reading = anew(figures, clock)
    assert [reading.number(clients, of) for of in ("connected", "disconnected", "total")] == [
        1,
        1,
        2,
    ]
    assert reading.number("fleetfeed_mqtt_clients_max") == 2
    again = await served.connect("leaves", clean=False)
    taken_over = await served.connect("leaves", clean=False)
    await again.expect_end()
    assert anew(figures, clock).number(clients, "total") == 2
    await taken_over.drop()
    await stays.drop()
    await eventually(lambda: served.server.lane.traffic.clients, lambda found: found == 0)
    assert served.server.lane.traffic.devices == 0


async def test_a_device_that_does_not_subscribe_is_silent(
    figures: Figures, clock: Clock, served: Served
) -> None:
    await served.connect("deaf")
    await served.subscribed("kitchen")
    reading = anew(figures, clock)
    assert reading.number("fleetfeed_devices", "connected") == 2
    assert reading.number("fleetfeed_devices", "silent") == 1


async def test_all_who_ask_within_a_second_see_the_same(
    figures: Figures, clock: Clock, served: Served
) -> None:
    first = anew(figures, clock)
    await served.connect("somebody")
    clock.now += FRESH / 2
    assert figures.read() is first
    clock.now += FRESH / 2
    assert figures.read().number("fleetfeed_mqtt_clients", "total") == 1


async def test_quantiles_forget_what_is_long_ago(
    figures: Figures, clock: Clock, served: Served
) -> None:
    name = "fleetfeed_commit_seconds"
    served.server.service.commits.add(5.0)
    assert anew(figures, clock).recent[name].count == 1
    for _ in range(int(2 * RECENT / 10)):
        clock.now += 10.0
        reading = figures.read()
    assert reading.recent[name].count == 0
    assert reading.totals[name].count == 1


async def test_loads_are_events_per_minute(figures: Figures, clock: Clock, served: Served) -> None:
    await served.publish(item("a", "one"), item("b", "two"))
    clock.now += 60.0
    one, *_ = figures.read().loads["fleetfeed_items_total", "received"]
    assert one == pytest.approx(2 * (1 - 0.3679), rel=1e-3)


async def test_the_loop_is_measured(served: Served) -> None:
    lags = served.server.figures.lag.lags
    await eventually(lambda: lags.read().count, lambda count: count >= 2)
