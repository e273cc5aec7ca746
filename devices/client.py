"""The Python client: a device's feed over MQTT, on paho-mqtt and threads like it.

    with FeedClient("kitchen", password=secret, state=Path("kitchen.feed")) as feed:
        while feed.wait_for_change():
            draw(feed.window)

`FeedClient` is the shell around `Replica`: it connects and comes back after a loss, says hello, keeps
the window in a file before it acknowledges a frame, and sends what people did with the items in few
messages. All that is decided about frames is decided in `replica`.

A broker that refuses is not hammered: `on_error` hears of it each time, and the next try comes after the
longest pause, as what is refused today is mostly refused in a second too. A connection that is lost soon
after it was accepted makes the next pause longer as well, so that two clients with one id, which throw each
other out, do so ever more rarely.

Threads: paho's network thread receives; one thread of our own sends what is due later (collected
feedback, the acks of an outside broker, a hello that had to wait). Decisions are made under one lock
and acted on outside of it, as paho may call back while it holds locks of its own.
"""

from __future__ import annotations

import logging
import math
import secrets
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from devices.feedback import PendingFeedback
from devices.frames import (
    Bye,
    Event,
    Feedback,
    FeedItem,
    Kind,
    Profile,
    Snapshot,
    Up,
    decode_up,
    encode_up,
)
from devices.pauses import Pauses
from devices.refusals import UNAVAILABLE, connack_code, refusal, tls_fault
from devices.replica import HelloPacer, Received, Replica
from devices.window_file import WindowFile, WindowFileError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from paho.mqtt.client import ConnectFlags, DisconnectFlags
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

logger = logging.getLogger("fleetfeed.client")

_ACK_AFTER = 0.3
"""Seconds that an ack of an outside broker waits for more frames to cover; the protocol allows 1."""
_MAX_QUEUED = 100
"""Messages of QoS ≥ 1 that paho keeps while there is no connection."""
_MANY_BRIEF = 3
"""Connections in a row that were lost soon after they were accepted, for the application to hear of it."""


class FeedClientError(Exception):
    """Something that the application should know; the client goes on by itself."""


class RefusedError(FeedClientError):
    """The broker does not let this device in; the client tries again after its longest pause.

    Attributes:
        code: The return code of CONNACK (MQTT 3.1.1, 3.2.2.3), 1 to 5; None if the broker closed the
            connection without an answer.
    """

    def __init__(self, code: int | None, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class FeedClient:
    """The feed of one device.

    Args:
        device: its id, also the MQTT client id.
        host, port: of the broker.
        username: by default the device's id if there is a password.
        password: what the operator gave for this device.
        tls: a context from `ssl.create_default_context()`; None = plaintext.
        k: how many items the window holds.
        budget: longest MQTT packet that the device wants to receive, in bytes.
        max_qos: highest QoS of a frame.
        agent: name and version of the application, for the operator.
        clock: the device's clock is right, so that `FeedItem.expires` is of use to it.
        state: where to keep window and position. None: every start begins with a snapshot.
        clean_session: do not let the broker keep the MQTT session while the device is away. Either way
            the feed itself resumes from the position that the device names.
        outside_broker: the feed works beside a broker such as Mosquitto instead of inside ours.
        prefix: what the operator put before all topics.
        on_change: called with the window whenever it has changed, on the network thread.
        on_error: called with what went wrong, on the thread that noticed; by default it is logged. A
            `RefusedError` says that the broker refuses this device. Who wants to give up calls `stop`.
        flush_after: seconds for which feedback is collected.
        reconnect_after, reconnect_at_most: seconds before the first new try after a loss, doubling up to
            the longest; each is shortened at random by up to half, so that with less than 2 a fleet may
            be back within a second of a server's end. After a refusal it is the longest at
            once, unless the broker says that it is only busy. A connection that lasts as long as the
            longest pause ends the doubling.
    """

    def __init__(
        self,
        device: str,
        *,
        host: str = "127.0.0.1",
        port: int = 1883,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        k: int = 8,
        budget: int = 256,
        max_qos: int = 1,
        agent: str = "fleetfeed-python",
        clock: bool = True,
        state: Path | None = None,
        clean_session: bool = False,
        outside_broker: bool = False,
        prefix: str = "",
        keep_alive: int = 60,
        on_change: Callable[[tuple[FeedItem, ...]], None] | None = None,
        on_error: Callable[[Exception], None] | None = None,
        flush_after: float = 1.0,
        reconnect_after: float = 2.0,
        reconnect_at_most: float = 60.0,
    ) -> None:
        self.device = device
        self._down_topic = f"{prefix}f/{device}"
        self._up_topic = f"{prefix}u/{device}"
        self._max_qos = max_qos
        self._outside = outside_broker
        self._on_change = on_change
        self._on_error = on_error
        self._flush_after = flush_after
        self._pauses = Pauses(reconnect_after, reconnect_at_most)

        self._lock = threading.Condition()
        self._stopping = threading.Event()
        self._timers: threading.Thread | None = None
        self._connected = False
        self._answered = False  # the broker has sent a CONNACK on this connection
        self._accepted_at = math.inf
        self._changes = 0  # how often the window has changed, and how often when last looked at
        self._changes_seen = 0
        self._c = 0
        self._gap = False
        self._hello_pacer = HelloPacer(secrets.randbits(64))
        self._ack_at = math.inf
        self._flush_at = math.inf
        self._feedback = PendingFeedback()

        self._file = WindowFile(state, device) if state is not None else None
        held = self._load()
        self._replica = Replica(k, budget, max_qos, agent, clock)
        if held is not None:
            self._replica = Replica(
                k, budget, max_qos, agent, clock, held.epoch, held.seq, held.items
            )
            self._replica.k = held.k
        self._mqtt = self._make_mqtt_client(clean_session)
        if password is not None or username is not None:
            self._mqtt.username_pw_set(username if username is not None else device, password)
        self._encrypted = tls is not None
        if tls is not None:
            self._mqtt.tls_set_context(tls)
        self._address = host, port, keep_alive

    # ------------------------------------------------------------------------------- the application

    def start(self) -> None:
        """Connect, now or as soon as the broker can be reached; returns at once."""
        if self._timers is not None:
            raise FeedClientError("a feed client starts once; make another one")
        self._timers = threading.Thread(target=self._run_timers, name=f"feed {self.device}")
        self._timers.daemon = True
        self._timers.start()
        host, port, keep_alive = self._address
        self._mqtt.connect_async(host, port, keep_alive)
        self._mqtt.loop_start()

    def stop(self) -> None:
        """Send collected feedback, say bye, disconnect, and end both threads. May be called twice."""
        if self._timers is None or self._stopping.is_set():
            return
        self._guarded(self.flush)
        if self._connected:
            self._send(Bye(self._c))
        self._stopping.set()
        with self._lock:
            self._lock.notify_all()
        self._mqtt.disconnect()
        self._mqtt.loop_stop()
        if threading.current_thread() is not self._timers:
            self._timers.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def window(self) -> tuple[FeedItem, ...]:
        """The items, best first; what was kept in `state` until the first frame of this run."""
        with self._lock:
            self._changes_seen = self._changes
            return self._replica.window

    @property
    def position(self) -> tuple[int, int]:
        """(epoch, seq) of the window; (0, 0) = none."""
        with self._lock:
            return self._replica.position

    def wait_for_change(self, timeout: float | None = None) -> bool:
        """Wait until the window is another than when `window` was last read.

        Returns:
            False once `timeout` seconds have passed without, or after `stop`.
        """

        def changed_or_over() -> bool:
            return self._changes != self._changes_seen or self._stopping.is_set()

        with self._lock:
            self._lock.wait_for(changed_or_over, timeout)
            return self._changes != self._changes_seen and not self._stopping.is_set()

    def shown(self, n: int, rank: int) -> None:
        """Item `n` was shown at `rank` (0 = best)."""
        self._happened(Event(n, Kind.SHOWN, rank))

    def opened(self, n: int) -> None:
        """Item `n` was opened."""
        self._happened(Event(n, Kind.OPENED))

    def dismissed(self, n: int) -> None:
        """Item `n` is not wanted; a frame will take it out of the window."""
        self._happened(Event(n, Kind.DISMISSED))

    def dwell(self, n: int, seconds: float) -> None:
        """Somebody spent this long with item `n`."""
        self._happened(Event(n, Kind.DWELL, max(0, round(seconds))))

    def flush(self) -> None:
        """Send the collected feedback now, if there is a connection; else it stays collected."""
        with self._lock:
            self._flush_at = math.inf
            messages = self._feedback.take(time.monotonic()) if self._connected else []
        for message in messages:
            self._send(message, qos=1)

    def follow(self, *filters: str) -> None:
        """Also follow these channels.

        Raises:
            ValueError: not MQTT topic filters within the bounds of the protocol.
            FeedClientError: too much waits to be sent already.
        """
        self._update_profile(Profile(follow=filters))

    def unfollow(self, *filters: str) -> None:
        """Take these filters, exactly as they were followed, back. Raises like `follow`."""
        self._update_profile(Profile(unfollow=filters))

    def set_attrs(self, **attrs: str | int) -> None:
        """Say what kind of device this is (class, tz, quiet, sleep, region…). Raises like `follow`."""
        self._update_profile(Profile(attrs=attrs))

    # ------------------------------------------------------------------------------------ connection

    def _make_mqtt_client(self, clean_session: bool) -> Client:
        # Without manual_ack: paho acknowledges after on_message has returned, which is when the frame
        # is in the file; with it, paho never answers the PUBREL of a session from before a restart.
        mqtt = Client(CallbackAPIVersion.VERSION2, self.device, clean_session=clean_session)
        mqtt.max_queued_messages_set(_MAX_QUEUED)
        # paho's own pauses are the same on every device of a fleet; ours (_pause) are not.
        mqtt.reconnect_delay_set(0, 0)
        mqtt.on_pre_connect = self._before_connect
        mqtt.on_connect = self._connect_answered
        mqtt.on_connect_fail = self._not_connected
        mqtt.on_subscribe = self._subscribed
        mqtt.on_message = self._message
        mqtt.on_disconnect = self._disconnected
        return mqtt

    def _before_connect(self, _client: Client, _userdata: Any) -> None:
        self._c = secrets.randbits(32)
        self._answered = False
        self._accepted_at = math.inf
        if self._outside:
            self._mqtt.will_set(self._up_topic, encode_up(Bye(self._c)), qos=1)

    def _connect_answered(
        self,
        _client: Client,
        _userdata: Any,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._refused(connack_code(reason.value))
            return
        self._accepted_at = time.monotonic()
        # Inside our broker a hello that comes before SUBSCRIBE spares a needless snapshot. An outside
        # broker would deliver the answer to nobody before SUBACK.
        if not self._outside:
            self._hello()
        self._mqtt.subscribe(self._down_topic, self._max_qos)
        with self._lock:
            self._connected = True
            if self._feedback:
                self._flush_at = time.monotonic() + self._flush_after
            self._lock.notify_all()

    def _refused(self, code: int) -> None:
        if code != UNAVAILABLE:
            self._pauses.refused()
        sentence = f"the broker refused the connection: {refusal(code)} (return code {code})"
        self._report(RefusedError(code, sentence))

    def _not_connected(self, _client: Client, _userdata: Any) -> None:
        """No connection came about. paho does not say why, but calls while it handles the exception."""
        error = sys.exception()
        logger.info("%s: no connection: %s", self.device, error)
        fault = tls_fault(error) if self._encrypted else None
        if fault is not None:
            self._report(FeedClientError(f"no TLS connection to the broker: {fault.value}"))
        self._pause()

    def _subscribed(
        self,
        _client: Client,
        _userdata: Any,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._report(FeedClientError(f"the broker refused to let us read {self._down_topic}"))
        elif self._outside:
            self._hello()

    def _disconnected(
        self,
        _client: Client,
        _userdata: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._lock:
            self._connected = False
            self._ack_at = math.inf
        if self._stopping.is_set():
            return
        logger.info("%s: connection lost: %s", self.device, reason)
        if not self._answered:
            self._report(RefusedError(None, self._unanswered()))
        elif math.isfinite(self._accepted_at):
            self._lost(time.monotonic() - self._accepted_at)
        self._pause()

    def _lost(self, lasted: float) -> None:
        """An accepted connection has ended: 3.1.1 has no word for why, but several in a row say something."""
        if self._pauses.lost(lasted) == _MANY_BRIEF:
            sentence = (
                f"{_MANY_BRIEF} connections in a row were lost soon after the broker had accepted them:"
                f" another client may use the id {self.device}, or the link is bad"
            )
            self._report(FeedClientError(sentence))

    def _unanswered(self) -> str:
        return "the broker closed the connection before it answered: " + (
            "it may want a client certificate, or another one than ours"
            if self._encrypted
            else "it may be full, or speak TLS on this port"
        )

    def _pause(self) -> None:
        """Hold paho's network thread back from its next try."""
        self._stopping.wait(self._pauses.next())

    # ---------------------------------------------------------------------------------------- frames

    def _message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        if message.topic != self._down_topic:
            return
        with self._lock:
            before = self._replica.window
            received = self._replica.receive(bytes(message.payload))
            window = self._replica.window
            self._changes += window != before
            self._note(received)
            held = Snapshot(*self._replica.position, self._replica.k, window)
        if received is Received.APPLIED:
            self._save(held)
        elif received in {Received.GAP, Received.IMPOSSIBLE}:
            self._hello_if_due()
        elif received is Received.BAD:
            self._report(FeedClientError(f"{len(message.payload)} bytes that are no frame"))
        if window != before and self._on_change is not None:
            self._guarded(self._on_change, window)

    def _note(self, received: Received) -> None:
        """What follows from a frame; under the lock."""
        if received is Received.APPLIED:
            self._gap = False
            self._hello_pacer.applied()
        elif received in {Received.GAP, Received.IMPOSSIBLE}:
            self._gap = True
        # A stale frame too: it may have come again because the ack for it was lost.
        if self._outside and received in {Received.APPLIED, Received.STALE}:
            self._ack_at = min(self._ack_at, time.monotonic() + _ACK_AFTER)
        self._lock.notify_all()

    def _hello_if_due(self) -> None:
        with self._lock:
            if not (self._connected and self._gap and self._hello_pacer.wants(time.monotonic())):
                return
            hello = self._next_hello()
        self._publish_hello(hello)

    def _hello(self) -> None:
        with self._lock:
            hello = self._next_hello()
        self._publish_hello(hello)

    def _publish_hello(self, hello: bytes) -> None:
        # QoS 0: a hello that is lost is lost with its connection, and the next one says another. An
        # outside broker may lose it alone, while the feed is away; at QoS 1 it keeps it for the feed.
        self._mqtt.publish(self._up_topic, hello, qos=1 if self._outside else 0)

    def _next_hello(self) -> bytes:
        """The hello to send now; under the lock, so that the two threads never send one each."""
        self._hello_pacer.sent(time.monotonic())
        return self._replica.hello(self._c)

    # ------------------------------------------------------------------------------------- going out

    def _happened(self, event: Event) -> None:
        _check(Feedback((event,)))
        with self._lock:
            now = time.monotonic()
            self._feedback.add(event, now)
            if self._connected:
                self._flush_at = min(self._flush_at, now + self._flush_after)
                self._lock.notify_all()

    def _update_profile(self, change: Profile) -> None:
        _check(change)
        self._send(change, qos=1)

    def _send(self, message: Up, qos: int = 0) -> None:
        info = self._mqtt.publish(self._up_topic, encode_up(message), qos)
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            raise FeedClientError(f"{_MAX_QUEUED} messages wait for a connection already")

    def _run_timers(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                now = time.monotonic()
                hello_at = self._hello_pacer.until if self._connected and self._gap else math.inf
                due = min(self._ack_at, self._flush_at, hello_at)
                if due > now:
                    self._lock.wait(None if math.isinf(due) else due - now)
                    continue
                ack = self._replica.ack() if self._ack_at <= now else None
                if ack is not None:
                    self._ack_at = math.inf
                flush = self._flush_at <= now
            if ack is not None:
                self._mqtt.publish(self._up_topic, ack)
            if flush:
                self._guarded(self.flush)
            self._hello_if_due()

    # ------------------------------------------------------------------------------------ file, errors

    def _load(self) -> Snapshot | None:
        if self._file is None:
            return None
        try:
            return self._file.load()
        except WindowFileError as error:
            self._report(error)
            return None

    def _save(self, held: Snapshot) -> None:
        if self._file is None:
            return
        try:
            self._file.save(held)
        except WindowFileError as error:
            self._report(error)

    def _guarded(self, call: Callable[..., None], *args: Any) -> None:
        """Call what may be the application's code: its errors must not end our thread."""
        try:
            call(*args)
        except Exception as error:  # noqa: BLE001 (handed on, whatever it is)
            self._report(error)

    def _report(self, error: Exception) -> None:
        if self._on_error is None:
            logger.warning("%s: %s", self.device, error, exc_info=error.__traceback__ is not None)
            return
        try:
            self._on_error(error)
        except Exception:
            logger.exception("%s: on_error failed", self.device)


def _check(message: Up) -> None:
    """Raise here and now, as a ValueError, what the server would refuse later."""
    decode_up(encode_up(message))
