"""Debian's mosquitto_pub and mosquitto_sub as devices, publishers and ordinary clients."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from devices.frames import Delta, Put, Snapshot, decode_frame
from tests.broker.support import ServerProcess, eventually, item

if TYPE_CHECKING:
    from tests.conftest import Mosquitto

pytestmark = pytest.mark.mosquitto
Start = Callable[..., ServerProcess]


class Tools:
    """Both programs, against one server."""

    def __init__(self, mosquitto: Mosquitto, server: ServerProcess) -> None:
        self._mosquitto = mosquitto
        self._at = ("-h", server.address[0], "-p", str(server.address[1]))

    def publish(self, topic: str, message: str, *options: str) -> None:
        command = [self._mosquitto.pub, *self._at, "-t", topic, "-m", message, *options]
        subprocess.run(command, check=True, timeout=20, capture_output=True)

    def listen(self, *options: str) -> subprocess.Popen[str]:
        """A subscribed mosquitto_sub that prints topic and payload in hexadecimal among its debugging."""
        command = [self._mosquitto.sub, *self._at, "-F", "> %t %x", "-W", "10", "-d", *options]
        listener = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert listener.stdout is not None
        while "Subscribed" not in (said := listener.stdout.readline()):
            assert said, "mosquitto_sub ended before it was subscribed"
        return listener


@pytest.fixture
def server(process: Start) -> ServerProcess:
    return process(HANDOVER__SYS_INTERVAL="1")


@pytest.fixture
def tools(mosquitto: Mosquitto, server: ServerProcess) -> Tools:
    return Tools(mosquitto, server)


def line(listener: subprocess.Popen[str]) -> tuple[str, bytes]:
    assert listener.stdout is not None
    while not (said := listener.stdout.readline()).startswith("> "):
        assert said, "mosquitto_sub ended"
    _, topic, payload = said.rstrip("\n").split(" ")
    return topic, bytes.fromhex(payload)


def test_a_kitchen_sees_a_snapshot_and_then_a_delta_hardly_longer_than_its_text(
    tools: Tools,
) -> None:
    sent = item("a1", "Flood warning until 9 pm", 3)
    with tools.listen("-i", "kitchen", "-t", "f/kitchen", "-q", "1", "-C", "2") as kitchen:
        topic, data = line(kitchen)
        first = decode_frame(data)
        assert topic == "f/kitchen"
        assert isinstance(first, Snapshot)
        assert first.items == ()
        tools.publish("items/alerts", json.dumps(sent), "-q", "1")
        topic, data = line(kitchen)
    delta = decode_frame(data)
    assert isinstance(delta, Delta)
    (put,) = delta.ops
    assert isinstance(put, Put)
    assert (put.rank, put.item.priority, put.item.payload) == (0, 3, "Flood warning until 9 pm")
    assert len(data) <= len("Flood warning until 9 pm") + 20
    assert kitchen.returncode == 0


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_an_item_published_at_any_qos_reaches_a_device_once(
    tools: Tools, server: ServerProcess, qos: str
) -> None:
    with tools.listen("-i", "kitchen", "-t", "f/kitchen", "-q", qos, "-C", "3") as kitchen:
        line(kitchen)
        tools.publish("items/news", "one", "-q", qos)
        frames = [decode_frame(line(kitchen)[1])]
        tools.publish("items/news", "two", "-q", qos)
        frames.append(decode_frame(line(kitchen)[1]))
    payloads = [f.ops[0].item.payload for f in frames if isinstance(f, Delta) if isinstance(f.ops[0], Put)]
    assert payloads == [b"one", b"two"]
    assert server.count("items", "new") == 2


async def test_a_will_of_mosquitto_becomes_an_item(tools: Tools, server: ServerProcess) -> None:
    device = await server.subscribed("hall")
    will = ("--will-topic", "items/news", "--will-payload", "the kitchen is gone", "--will-qos", "1")
    with tools.listen("-i", "kitchen", "-t", "f/kitchen", *will) as kitchen:
        line(kitchen)
        kitchen.kill()
    await device.shows(b"the kitchen is gone")


def test_sys_topics_are_amqtts_on_the_same_port(tools: Tools) -> None:
    with tools.listen("-t", "$SYS/#", "-C", "4") as listener:
        topics = {line(listener)[0] for _ in range(4)}
    assert all(topic.startswith("$SYS/broker/") for topic in topics)
    assert listener.returncode == 0


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_ordinary_clients_on_the_same_port(
    tools: Tools, server: ServerProcess, qos: str
) -> None:
    """One message for each run of mosquitto_pub, which says goodbye right behind it."""
    with tools.listen("-t", "home/+/light", "-q", qos, "-C", "20") as listener:
        for number in range(20):
            tools.publish("home/hall/light", f"on{number}", "-q", qos)
            assert line(listener) == ("home/hall/light", b"on%d" % number)
    assert server.count("connections", "handed_over") == 21


async def test_a_burst_of_one_publisher_arrives_whole(tools: Tools, server: ServerProcess) -> None:
    device = await server.subscribed("kitchen")
    command = [tools._mosquitto.pub, *tools._at, "-t", "items/news", "-q", "1", "-l"]
    lines = "".join(json.dumps(item(str(n), f"item {n}")) + "\n" for n in range(100))
    subprocess.run(command, input=lines, check=True, timeout=20, text=True)
    assert server.count("items", "new") == 100
    await eventually(lambda: server.status()["store"]["pending"] == 0)
    window = [payload for _, payload in server.command("windows", devices=["kitchen"])["kitchen"]]
    await device.shows(*window)
