# MicroPython: no packages, no pathlib, no contextlib, and modules that CPython has not.
# ruff: noqa: BLE001, INP001, S110, SIM105
# mypy: ignore-errors
"""The feed of one device on MicroPython, on umqtt.simple or umqtt.robust; see README.md beside it."""

from random import getrandbits
from select import POLLIN, poll
from time import sleep_ms, ticks_add, ticks_diff, ticks_ms

from feedreplica import Replica
from feedwire import encode
from micropython import const

SHOWN = const(0)
OPENED = const(1)
DISMISSED = const(2)
DWELL = const(3)
_FIRST = const(2_000)  # ms before the first new try to connect,
_LONGEST = const(60_000)  # and at most
_ASK = const(30_000)  # ms between hellos that no frame answers,
_ASK_LONGEST = const(3_600_000)  # and at most
_MOST = const(16)  # events of feedback kept


class Feed:
    """A window that stays current as long as `step` is called.

    Attributes:
        window: The items, best first: (n, expires, priority, payload).
        error: What went wrong last, an exception; None = nothing yet.
        dropped: Events of feedback that found no room while there was no connection.

    Args:
        mqtt: An MQTTClient, not connected. Its client id is the device's.
        k, budget: Items to hold; the longest packet to receive, in bytes.
        clock: The clock is right, so that `expires` is of use.
        path: A file on the flash for the window; None = every restart begins with a snapshot.
        keepalive: Seconds without an answer after which the connection counts as lost.
        outside: The feed works beside a broker such as Mosquitto instead of inside ours.
        prefix: What the operator put before all topics.
    """

    def __init__(
        self,
        mqtt: object,
        k: int = 8,
        budget: int = 256,
        clock: bool = False,
        path: str | None = None,
        keepalive: int = 60,
        outside: bool = False,
        prefix: str = "",
    ) -> None:
        self.error = self._poll = self._ask = self._profile = None
        self.dropped = 0
        self._mqtt = mqtt
        self._replica = Replica(k)
        self._options = {1: k, 2: budget, 3: 1, 4: "micropython", 6: int(clock)}
        self._down = (prefix + "f/" + mqtt.client_id).encode()
        self._up = (prefix + "u/" + mqtt.client_id).encode()
        self._path, self._limit, self._outside = path, keepalive, outside
        self._changed = self._gap = self._ack = False
        self._retry, self._pause, self._ask_pause = ticks_ms(), _FIRST, _ASK
        self._events = []
        mqtt.keepalive = keepalive
        mqtt.set_callback(self._frame)
        mqtt.reconnect = self._broken
        if path:
            self._replica.load(path)
        self.window = self._replica.window

    def step(self, ms: int = 0) -> bool:
        """Connect, wait at most `ms` for a frame, send what is due; True if the window changed.

        Raises nothing: after a fault, kept in `error`, a later call connects again.
        """
        self._changed = False
        try:
            pause = ticks_diff(self._retry, ticks_ms())
            if self._poll:
                self._turn(min(ms, 1000))
            elif pause > 0:
                sleep_ms(min(ms, pause))
            else:
                self._connect()
        except Exception as error:
            self._lost(error)
        return self._changed

    def feedback(self, n: int, kind: int, value: int | None = None) -> None:
        """Item `n` was SHOWN (value: at which rank), OPENED, DISMISSED, or had a DWELL of seconds."""
        if len(self._events) == _MOST:
            self.dropped += 1
            del self._events[0]
        self._events.append((n, kind, value, ticks_ms()))

    def profile(self, change: dict) -> None:
        """Send "follow", "unfollow" or "attrs"; takes the place of a change not sent yet."""
        self._profile = change

    def bye(self) -> None:
        """Before a sleep: send what is due and disconnect. The next `step` connects again."""
        try:
            if self._poll:
                self._send_due()
                self._send([4, self._options[5]])
                self._mqtt.disconnect()
        except Exception as error:
            self._lost(error)
        self._poll, self._retry = None, ticks_ms()

    def _connect(self) -> None:
        mqtt = self._mqtt
        self._options[5] = c = getrandbits(30)
        if self._outside:
            mqtt.set_last_will(self._up, encode([4, c]), False, 1)
        try:
            mqtt.connect(False, timeout=self._limit)
        except TypeError:  # an older umqtt, which waits for CONNACK without a limit
            mqtt.connect(False)
        poller = poll()
        poller.register(mqtt.sock, POLLIN)
        mqtt.sock = _Socket(mqtt.sock, self._limit)
        self._poll = poller.poll
        self._since = self._heard = self._pinged = ticks_ms()
        if not self._outside:
            self._hello()
        # Though the session may be there: its SUBSCRIBE may have been lost.
        mqtt.subscribe(self._down, 1)
        if self._outside:
            self._hello()

    def _turn(self, ms: int) -> None:
        if self._poll(ms):
            op = self._mqtt.wait_msg()
            if op and op & 0xF0 != 0x30:
                raise OSError("unexpected packet")
            self._heard = ticks_ms()
        self._send_due()

    def _send_due(self) -> None:
        now = ticks_ms()
        if ticks_diff(now, self._heard) > self._limit * 1000:
            raise OSError("no answer")
        if ticks_diff(now, self._pinged) >= self._limit * 500:  # umqtt does not by itself
            self._pinged = now
            self._mqtt.ping()
        if self._ack:
            self._ack = False
            self._send([1, self._replica.epoch, self._replica.seq])
        if self._ask is not None and ticks_diff(now, self._ask) >= 0:
            self._ask = None
        if self._gap and self._ask is None:
            self._hello()
        if self._profile:
            self._send([3, self._profile], 1)
            self._profile = None
        if self._events:
            ages = [
                (n, kind, value, ticks_diff(now, at) // 1000) for n, kind, value, at in self._events
            ]
            self._send([2, ages], 1)
            self._events = []

    def _hello(self) -> None:
        pause = self._ask_pause
        self._ask = ticks_add(ticks_ms(), pause + getrandbits(10) * pause // 2048)
        self._ask_pause = min(2 * pause, _ASK_LONGEST)
        hello = [0, self._replica.epoch, self._replica.seq, self._options]
        self._send(hello, 1 if self._outside else 0)

    def _send(self, message: list, qos: int = 0) -> None:
        self._mqtt.pid %= 0xFFFF  # umqtt counts past the largest packet id
        self._mqtt.publish(self._up, encode(message), False, qos)
        if qos:  # whatever came before its PUBACK was read there
            self._heard = ticks_ms()

    def _frame(self, topic: bytes, data: bytes) -> None:
        # umqtt sends PUBACK when this returns: by then the window is in the flash.
        if topic != self._down:
            return
        word = self._replica.receive(data)
        if word == "applied":
            self._gap, self._ask, self._ask_pause = False, None, _ASK
            try:
                if self._path:
                    self._replica.save(self._path)
            except OSError as error:  # the flash is full: the older position stays good
                self.error = error
        elif word in ("gap", "impossible"):
            self._gap = True
        self._ack = self._ack or (self._outside and word in ("applied", "stale"))
        self._changed = self._changed or self.window != self._replica.window
        self.window = self._replica.window

    def _broken(self) -> None:
        # In place of umqtt.robust's own, which reconnects in step with the fleet and says no hello.
        raise OSError("connection lost")

    def _lost(self, error: Exception) -> None:
        self.error = error
        now = ticks_ms()
        if self._poll and ticks_diff(now, self._since) >= _LONGEST:
            self._pause = _FIRST
        elif not isinstance(error, OSError) and error.args and error.args[0] in (1, 2, 4, 5):
            self._pause = _LONGEST  # what CONNACK refuses now it refuses in a second, too
        self._retry = ticks_add(now, self._pause // 2 + getrandbits(10) * self._pause // 2048)
        self._pause = min(2 * self._pause, _LONGEST)
        self._poll = None
        try:
            self._mqtt.sock.close()
        except Exception:  # it may never have been opened
            pass


class _Socket:
    # umqtt sets its socket to blocking in every packet, which on a board ends its time limit too.
    def __init__(self, sock: object, seconds: int) -> None:
        if hasattr(sock, "settimeout"):
            sock.settimeout(seconds)
        self.read, self.write, self.close = sock.read, sock.write, sock.close

    def setblocking(self, flag: bool) -> None:
        pass
