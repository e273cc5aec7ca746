"""The ear of `fleetfeed top`: an MQTT client that collects what a server tells below `$SYS`.

paho's thread hears, the caller's asks for what was heard: once a round of messages has ended, which is when
nothing more comes for a moment.
"""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from broker.commands.reaching import fail_to_connect, refused
from broker.commands.shell import Code, Failure
from devices.refusals import ACCEPTED, UNAVAILABLE, connack_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from paho.mqtt.client import MQTTMessage

    from broker.commands.reaching import Server

MAX_TOPICS = 5_000
"""Topics that are kept: other brokers tell something of each client below `$SYS`."""
MAX_TEXT = 200
"""Bytes of a figure; what is longer is none."""

_CONNECT_TIMEOUT = 10.0
_KEEPALIVE = 20
_RETRY = (1, 10)
"""Seconds between two attempts to connect again: at first, and at most."""
_QUIET = 0.2
"""Seconds without a message that end a round."""
_LONGEST = 2.0
"""Seconds after which it has ended at any rate."""
_REFUSED = 0x80


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known after a round.

    Attributes:
        texts: By topic.
        dated: Whether all that was new was told just now; retained messages may be old.
    """

    texts: Mapping[str, str]
    dated: bool


class Listener:
    """A connection that comes back by itself.

    Attributes:
        online: Whether it is there.
        refused: What the server said when it let us in no more: a code of CONNACK.
        closed: Whether the server lets us read nothing below `$SYS`.
    """

    def __init__(self, server: Server) -> None:
        self.online = False
        self.refused: int | None = None
        self.closed = False
        self._server = server
        self._filters = ["$SYS/#"]
        self._client = _client(server)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._welcome: Future[int | None] = Future()
        self._first = 0
        # Both threads use these, under the lock:
        self._changed = threading.Condition()
        self._texts: dict[str, str] = {}
        self._pieces = 0
        self._dated = True

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Connect, and disconnect at the end.

        Raises:
            Failure: no server there, or it refused.
        """
        try:
            self._client.connect(self._server.host, self._server.port, keepalive=_KEEPALIVE)
        except (OSError, ValueError) as error:
            fail_to_connect(self._server, error)
        self._client.loop_start()
        try:
            self._await_welcome()
            yield
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def also(self, topic_filter: str) -> None:
        """Listen to this, too; a second time it changes nothing."""
        if topic_filter not in self._filters:
            self._filters.append(topic_filter)
            self._client.subscribe(topic_filter)

    def hear(self, seconds: float) -> Heard | None:
        """The next round, when it has ended; None if none begins within these seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._pieces, seconds):
                return None
            deadline = time.monotonic() + _LONGEST
            while time.monotonic() < deadline:
                before = self._pieces
                if not self._changed.wait_for(lambda: self._pieces > before, _QUIET):  # noqa: B023 - called here
                    break
            heard = Heard(dict(self._texts), self._dated)
            self._pieces, self._dated = 0, True
            return heard

    def check(self) -> None:
        """Look whether there is any use in waiting for the connection to come back.

        Raises:
            Failure: the server does not let us in any more.
        """
        if self.refused not in {None, UNAVAILABLE}:
            raise refused(self._server, self.refused)

    def _await_welcome(self) -> None:
        try:
            code = self._welcome.result(_CONNECT_TIMEOUT)
        except TimeoutError:
            raise Failure(
                f"what listens at {self._server} does not speak MQTT", Code.UNREACHABLE
            ) from None
        if code != ACCEPTED:
            raise refused(self._server, code)

    # ---- paho's thread

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _: Any) -> None:
        code = connack_code(reason.value)
        self.online = code == ACCEPTED
        self.refused = None if self.online else code
        if self.online:
            with self._changed:
                self._texts.clear()  # what is still true is retained, and told again
            for place, each in enumerate(self._filters):
                _, number = client.subscribe(each)
                if not place:
                    self._first = number or 0
        self._answer(code)

    def _on_disconnect(self, *_: Any) -> None:
        self.online = False
        self._answer(None)

    def _answer(self, code: int | None) -> None:
        if not self._welcome.done():
            self._welcome.set_result(code)

    def _on_subscribe(
        self, _client: Client, _data: Any, number: int, reasons: Any, _properties: Any
    ) -> None:
        if number == self._first:
            self.closed = reasons[0].value >= _REFUSED

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        with self._changed:
            topic, data = message.topic, message.payload
            if not data or len(data) > MAX_TEXT:
                self._texts.pop(topic, None)
            elif topic in self._texts or len(self._texts) < MAX_TOPICS:
                self._texts[topic] = data.decode(errors="replace")
            self._pieces += 1
            self._dated = self._dated and not message.retain
            self._changed.notify_all()


def _client(server: Server) -> Client:
    """A client without an id of its own: the server would count one with an id among its devices."""
    client = Client(CallbackAPIVersion.VERSION2, client_id="")
    client.connect_timeout = _CONNECT_TIMEOUT
    client.reconnect_delay_set(*_RETRY)
    if server.username is not None:
        client.username_pw_set(server.username, server.password)
    if server.tls is not None:
        client.tls_set_context(server.tls)
    return client
