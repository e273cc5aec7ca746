"""What one session still has to be sent of ordinary MQTT messages (MQTT 3.1.1, 4.1, 4.3, 4.4, 4.6).

Pure: it decides and encodes, its owner writes. Frames of the feed are not here: the ledger knows those
per device, and numbers them in the other half of the packet identifiers.

Messages leave in the order in which they came. At most `window` of them are unacknowledged; the others
wait, as long as there is room. A session without a connection keeps those of QoS 1 and 2.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from devices.packets import as_duplicate, publish_head, pubrel, topic_field

FIRST_ID, LAST_ID = 0x8000, 0xFFFF
"""Packet identifiers of these messages; those below are the ledger's."""

_OVERHEAD = 256
"""Bytes that a message counts for beyond topic and payload, for the objects that hold it."""


@dataclass(frozen=True, slots=True)
class Message:
    """An application message on its way to subscribers; one object for all of them.

    Attributes:
        topic: Its topic name.
        payload: Its content.
        qos: The QoS at which it was published.
    """

    topic: str
    payload: bytes
    qos: int = 0

    @property
    def size(self) -> int:
        """Bytes that it counts for while it waits or is retained."""
        return len(self.topic) + len(self.payload) + _OVERHEAD

    def packet(self, qos: int, packet_id: int = 0, *, retain: bool = False) -> bytes:
        """The PUBLISH that carries it."""
        topic = topic_field(self.topic)
        head = publish_head(topic, len(self.payload), qos, packet_id, retain=retain)
        return head + self.payload


@dataclass(slots=True)
class _Flight:
    """A message that was sent and is not acknowledged; `released` once PUBREC has come (QoS 2)."""

    message: Message
    qos: int
    retain: bool
    released: bool = False

    def packet(self, packet_id: int) -> bytes:
        return self.message.packet(self.qos, packet_id, retain=self.retain)


class Outbox:
    """The outgoing side of one session.

    Args:
        window: Messages that may be unacknowledged.
        max_messages: Messages that may wait besides.
        max_bytes: Bytes that they may have together.
    """

    __slots__ = (
        "_flights",
        "_last_id",
        "_max_bytes",
        "_max_messages",
        "_waiting",
        "_window",
        "bytes",
    )

    def __init__(self, *, window: int, max_messages: int, max_bytes: int) -> None:
        self._window = window
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._flights: dict[int, _Flight] = {}
        self._waiting: deque[tuple[Message, int, bool]] = deque()
        self._last_id = LAST_ID
        self.bytes = 0

    def __len__(self) -> int:
        """Messages that are unacknowledged or wait."""
        return len(self._flights) + len(self._waiting)

    @property
    def room(self) -> int:
        """Messages that may still be added, as far as their number goes."""
        return self._max_messages - len(self._waiting) if self.bytes < self._max_bytes else 0

    @property
    def waiting(self) -> int:
        """Messages that were not sent yet."""
        return len(self._waiting)

    def add(self, message: Message, qos: int, *, retain: bool = False) -> bool:
        """Takes a message to be sent at this QoS; False if there is no room.

        Args:
            message: The message.
            qos: The QoS at which it is sent.
            retain: Whether it was retained, and is sent because of a new subscription
                [MQTT-3.3.1-8].
        """
        if self.room <= 0:
            return False
        self._waiting.append((message, qos, retain))
        self.bytes += message.size
        return True

    def next(self) -> bytes | None:
        """The next packet to send; None if nothing waits, or the window is full."""
        if not self._waiting:
            return None
        message, qos, retain = self._waiting[0]
        if qos and len(self._flights) >= self._window:
            return None
        self._waiting.popleft()
        self.bytes -= message.size
        if not qos:
            return message.packet(0, retain=retain)
        packet_id = self._new_id()
        flight = self._flights[packet_id] = _Flight(message, qos, retain)
        return flight.packet(packet_id)

    def _new_id(self) -> int:
        packet_id = self._last_id
        while True:
            packet_id = packet_id + 1 if packet_id < LAST_ID else FIRST_ID
            if packet_id not in self._flights:
                self._last_id = packet_id
                return packet_id

    def acknowledged(self, packet_id: int) -> bool:
        """PUBACK has come; whether it was awaited."""
        flight = self._flights.get(packet_id)
        if flight is None or flight.qos != 1:
            return False
        del self._flights[packet_id]
        return True

    def received(self, packet_id: int) -> None:
        """PUBREC has come: from now on PUBREL is what is sent again [MQTT-4.3.3-1]."""
        flight = self._flights.get(packet_id)
        if flight is not None and flight.qos == 2 and not flight.released:
            flight.released = True
            # PUBRELs go out again in the order in which their PUBRECs came [MQTT-4.6.0-4].
            self._flights[packet_id] = self._flights.pop(packet_id)

    def completed(self, packet_id: int) -> bool:
        """PUBCOMP has come; whether it was awaited."""
        flight = self._flights.get(packet_id)
        if flight is None or not flight.released:
            return False
        del self._flights[packet_id]
        return True

    def disconnected(self) -> int:
        """The connection is gone: what waits at QoS 0 goes with it. Returns how many those were."""
        before = len(self._waiting)
        self._waiting = deque(entry for entry in self._waiting if entry[1])
        self.bytes = sum(message.size for message, _, _ in self._waiting)
        return before - len(self._waiting)

    def again(self) -> list[bytes]:
        """What a resumed session is sent again, in the original order (MQTT 3.1.1, 4.4).

        PUBLISH with DUP and its packet identifier; PUBREL where PUBREC had come.
        """
        released = [pubrel(each) for each, flight in self._flights.items() if flight.released]
        return [
            *(
                as_duplicate(flight.packet(packet_id))
                for packet_id, flight in self._flights.items()
                if not flight.released
            ),
            *released,
        ]
