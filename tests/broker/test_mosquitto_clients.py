"""Debian's mosquitto_pub and mosquitto_sub as devices, publishers and ordinary clients."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from devices.frames import Delta, Put, Snapshot, decode_frame
from tests.broker.support import ServerProcess, eventually, item

if TYPE_CHECKING:
    from tests.conftest import Mosquitto

pytestmark = pytest.mark.mosquitto


class Tools:
    """Both programs, against one server."""

    def __init__(self, mosquitto: Mosquitto, server: ServerProcess) -> None:
        self._mosquitto = mosquitto
        self._at = ("-h", server.address[0], "-p", str(server.address[1]))

    def publish(self, topic: str, message: str, *options: str) -> None:
        command = [str(self._mosquitto.pub), *self._at, "-t", topic, "-m", message, *options]
        subprocess.run(command, check=True, timeout=20, capture_output=True)

    def publish_lines(self, topic: str, lines: list[str], *options: str) -> None:
        """All of them on one connection."""
        command = [str(self._mosquitto.pub), *self._at, "-t", topic, "-l", *options]
        subprocess.run(command, input="\n".join(lines), check=True, timeout=20, text=True)

    def listen(self, *options: str) -> subprocess.Popen[str]:
        """mosquitto_sub that prints a topic and a payload in hexadecimal on each line."""
        command = [str(self._mosquitto.sub), *self._at, "-F", "%t %x", "-W", "10", *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests here, each of which has devices and channels of its own."""
    data = tmp_path_factory.mktemp("mosquitto") / "data"
    server = ServerProcess(data, TOPICS__SYS_INTERVAL="1").start()
    yield server
    server.close()


@pytest.fixture
async def server(running: ServerProcess) -> AsyncIterator[ServerProcess]:
    yield running
    await running.drop_peers()


@pytest.fixture
def tools(mosquitto: Mosquitto, server: ServerProcess) -> Tools:
    return Tools(mosquitto, server)


def line(listener: subprocess.Popen[str]) -> tuple[str, bytes]:
    assert listener.stdout is not None
    said = listener.stdout.readline()
    assert said, "mosquitto_sub ended"
    topic, payload = said.rstrip("\n").split(" ")
    return topic, bytes.fromhex(payload)


def test_a_kitchen_sees_a_snapshot_and_then_a_delta_hardly_longer_than_its_text(
    tools: Tools, server: ServerProcess
) -> None:
    server.command("device.add", device="kitchen", secret=False, follow=["alerts"])
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
    name = f"hall{qos}"
    server.command("device.add", device=name, secret=False, follow=[name])
    with tools.listen("-i", name, "-t", f"f/{name}", "-q", qos, "-C", "3") as hall:
        line(hall)
        for text in ("one", "two"):
            tools.publish(f"items/{name}", text, "-q", qos)
            delta = decode_frame(line(hall)[1])
            assert isinstance(delta, Delta)
            assert [op.item.payload for op in delta.ops if isinstance(op, Put)] == [text.encode()]


async def test_a_will_of_mosquitto_becomes_an_item(tools: Tools, server: ServerProcess) -> None:
    server.command("device.add", device="watcher", secret=False, follow=["wills"])
    device = await server.subscribed("watcher")
    will = ("--will-topic", "items/wills", "--will-payload", "gone", "--will-qos", "1")
    with tools.listen("-i", "porch", "-t", "f/porch", *will) as porch:
        line(porch)
        porch.kill()
    await device.shows(b"gone")


def test_sys_topics_are_on_the_same_port(tools: Tools) -> None:
    with tools.listen("-t", "$SYS/#", "-C", "4") as listener:
        topics = {line(listener)[0] for _ in range(4)}
    assert all(topic.startswith("$SYS/broker/") for topic in topics)
    assert listener.returncode == 0


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_ordinary_clients_on_the_same_port(tools: Tools, qos: str) -> None:
    """One message for each run of mosquitto_pub, which says goodbye right behind it."""
    light = f"home{qos}/hall/light"

    def heard() -> bytes:
        # amqtt greets new clients with what is retained for the subscriptions of others.
        while (found := line(listener))[0] != light:
            pass
        return found[1]

    # What is retained comes as soon as the listener is subscribed.
    tools.publish(light, "off", "-q", "1", "-r")
    with tools.listen("-t", f"home{qos}/+/light", "-q", qos) as listener:
        assert heard() == b"off"
        for number in range(20):
            tools.publish(light, f"on{number}", "-q", qos)
            assert heard() == b"on%d" % number
        listener.terminate()


async def test_a_burst_of_one_publisher_arrives_whole(tools: Tools, server: ServerProcess) -> None:
    server.command("device.add", device="attic", secret=False, follow=["burst"])
    device = await server.subscribed("attic")
    before = server.count("items", "new")
    lines = [json.dumps(item(str(n), f"item {n}")) for n in range(100)]
    tools.publish_lines("items/burst", lines, "-q", "1")
    assert server.count("items", "new") == before + 100
    await eventually(lambda: server.status()["store"]["pending"], lambda found: found == 0)
    window = [payload for _, payload in server.command("windows", devices=["attic"])["attic"]]
    assert len(window) == 8
    await device.shows(*window)
