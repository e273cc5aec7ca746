"""A publisher's connection: paho-mqtt behind three calls that wait and say what went wrong."""

import contextlib
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from broker.commands.shell import Code, Failure

CONNECT_TIMEOUT = 10.0
# Packet ids end at 65 535; far fewer in flight fill any link.
MAX_INFLIGHT = 1_000


@dataclass(frozen=True, slots=True)
class Server:
    """Where a server is and who we are there."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Publisher:
    """An open connection; made by `connected`.

    It reconnects by itself and then sends unacknowledged items again with DUP, so that an
    acknowledgement is waited for through a restart of the server. paho's own `wait_for_publish`
    gives up on an item that was handed over while the connection was away; hence the set here.
    """

    def __init__(self, client: Client, server: Server) -> None:
        self._client = client
        self._server = server
        self._acknowledged: set[int] = set()
        self._changed = threading.Condition()
        client.on_publish = self._on_publish

    def send(self, topic: str, payload: bytes, qos: int = 1) -> int:
        """Hand one packet to the connection; the number is for `wait`."""
        return self._client.publish(topic, payload, qos).mid

    def wait(self, number: int, timeout: float) -> None:
        """Wait until the server has acknowledged, which it does when the item is durable.

        At QoS 0 that is as soon as the packet is written.

        Raises:
            Failure: no acknowledgement in time.
        """
        with self._changed:
            if self._changed.wait_for(lambda: number in self._acknowledged, timeout):
                self._acknowledged.discard(number)
                return
        away = not self._client.is_connected()
        raise Failure(
            f"the server {self._server} {'went away' if away else 'is up but slow'} and has not "
            f"confirmed the item within {timeout:g} s: publish it again, the same item with the "
            "same id is stored only once",
            Code.UNREACHABLE if away else Code.FAILED,
        )

    def _on_publish(
        self, _client: Client, _userdata: Any, number: int, _code: Any, _properties: Any
    ) -> None:
        with self._changed:
            self._acknowledged.add(number)
            self._changed.notify_all()


@contextlib.contextmanager
def connected(server: Server) -> Iterator[Publisher]:
    """Connect, and disconnect at the end.

    Raises:
        Failure: no server there, or it refused.
    """
    client = Client(
        CallbackAPIVersion.VERSION2, client_id=f"fleetfeed-publish-{secrets.token_hex(6)}"
    )
    client.max_inflight_messages_set(MAX_INFLIGHT)
    if server.username is not None:
        client.username_pw_set(server.username, server.password)
    answer: list[Any] = []
    answered = threading.Event()

    def on_connect(
        _client: Client, _userdata: Any, _flags: Any, code: Any, _properties: Any
    ) -> None:
        answer.append(code)
        answered.set()

    client.on_connect = on_connect
    client.connect_timeout = CONNECT_TIMEOUT
    try:
        client.connect(server.host, server.port)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise Failure(
            f"no server answers at {server} ({why}): start it or give --host and --port",
            Code.UNREACHABLE,
        ) from error
    client.loop_start()
    try:
        if not answered.wait(CONNECT_TIMEOUT):
            raise Failure(f"what listens at {server} does not speak MQTT", Code.UNREACHABLE)
        if answer[0].is_failure:
            raise Failure(
                f"the server {server} refused the connection ({str(answer[0]).lower()}): "
                "check --username and --password"
            )
        yield Publisher(client, server)
    finally:
        client.disconnect()
        client.loop_stop()
