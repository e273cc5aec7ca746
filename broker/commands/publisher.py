"""A publisher's connection: paho-mqtt behind three calls that wait and say what went wrong."""

import contextlib
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from broker.commands.reaching import Server, fail_to_connect, refused
from broker.commands.shell import Code, Failure
from devices.refusals import ACCEPTED, connack_code

CONNECT_TIMEOUT = 10.0
# Packet ids end at 65 535; far fewer in flight fill any link.
MAX_INFLIGHT = 1_000


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
    client = _client(server)
    answer: Future[int | None] = Future()

    def answered(code: int | None) -> None:
        if not answer.done():  # once let in, paho comes back by itself
            answer.set_result(code)

    client.on_connect = lambda _client, _userdata, _flags, reason, _: answered(
        connack_code(reason.value)
    )
    client.on_disconnect = lambda *_: answered(None)
    try:
        client.connect(server.host, server.port)
    except (OSError, ValueError) as error:
        fail_to_connect(server, error)
    client.loop_start()
    try:
        _await_welcome(answer, server)
        yield Publisher(client, server)
    finally:
        client.disconnect()
        client.loop_stop()


def _await_welcome(answer: Future[int | None], server: Server) -> None:
    try:
        code = answer.result(CONNECT_TIMEOUT)
    except TimeoutError:
        raise Failure(f"what listens at {server} does not speak MQTT", Code.UNREACHABLE) from None
    if code != ACCEPTED:
        raise refused(server, code)


def _client(server: Server) -> Client:
    client = Client(
        CallbackAPIVersion.VERSION2, client_id=f"fleetfeed-publish-{secrets.token_hex(6)}"
    )
    client.max_inflight_messages_set(MAX_INFLIGHT)
    client.connect_timeout = CONNECT_TIMEOUT
    if server.username is not None:
        client.username_pw_set(server.username, server.password)
    if server.tls is not None:
        client.tls_set_context(server.tls)
    return client
