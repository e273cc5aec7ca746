"""The nouns of MQTT 3.1.1: its packets as values, its rules for topics, and how a packet can be wrong.

Section numbers and `[MQTT-x.x.x-x]` statements are those of the OASIS Standard of 29 October 2014.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

MAX_LEVELS = 200
"""Levels that a topic or filter may have. Ours: 4.7.3 sets no limit, but matching walks level by level."""

MAX_STRING = 65_535
"""Bytes of a string or binary field, whose length travels as two bytes (1.5.3)."""

MAX_REMAINING_LENGTH = 268_435_455
"""The largest number that four bytes of remaining length express (2.2.3)."""

REFUSED = 0x80
"""The SUBACK code of a filter that the server does not grant (3.9.3)."""


@dataclass(frozen=True, slots=True)
class Will:
    """What the server publishes when a client is gone without DISCONNECT (3.1.2.5)."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Connect:
    """A client asks for a session (3.1).

    An empty `client_id` is well formed; with `clean_session` false the server answers it with
    CONNACK 2 [MQTT-3.1.3-8]. `keep_alive` is in seconds, 0 switches it off. A decoded packet always
    has `level` 4: another level raises, as its fields may be others.
    """

    client_id: str
    clean_session: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)  # packets are logged
    will: Will | None = None
    level: int = 4


@dataclass(frozen=True, slots=True)
class Connack:
    """The server's answer to CONNECT; `code` 0 accepts, 1 to 5 say why not (3.2.2.3)."""

    session_present: bool
    code: int


@dataclass(frozen=True, slots=True)
class Publish:
    """An application message; `packet_id` is 0 at QoS 0, which has none (3.3)."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    retain: bool = False
    dup: bool = False


@dataclass(frozen=True, slots=True)
class Puback:
    """Acknowledges a PUBLISH of QoS 1 (3.4)."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pubrec:
    """First answer to a PUBLISH of QoS 2: received (3.5)."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pubrel:
    """Answer to PUBREC: the packet id may be released (3.6)."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pubcomp:
    """Answer to PUBREL: the exchange of QoS 2 is complete (3.7)."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Asks for topic filters, each with the highest QoS wanted (3.8)."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Suback:
    """One code per filter of the SUBSCRIBE: the QoS granted, or `REFUSED` (3.9)."""

    packet_id: int
    codes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Gives up topic filters (3.10)."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsuback:
    """Acknowledges an UNSUBSCRIBE (3.11)."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Pingreq:
    """The client is alive and asks the same of the server (3.12)."""


@dataclass(frozen=True, slots=True)
class Pingresp:
    """The server is alive (3.13)."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The client leaves on purpose: its will is dropped (3.14)."""


Packet = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
)


class PacketError(StrEnum):
    """Why the connection must be closed; each is one counter."""

    NOT_MQTT = "not_mqtt"  # the stream begins as TLS, HTTP or SSH does
    UNEXPECTED_TYPE = "unexpected_type"  # reserved, or one that only the other side may send
    BAD_FLAGS = "bad_flags"
    BAD_LENGTH = "bad_length"  # a remaining length of more than four bytes
    TOO_LARGE = "too_large"
    TRUNCATED = "truncated"  # the remaining length ends inside a field
    TRAILING_BYTES = "trailing_bytes"
    BAD_QOS = "bad_qos"
    BAD_PACKET_ID = "bad_packet_id"
    BAD_UTF8 = "bad_utf8"  # surrogates and U+0000 included
    BAD_TOPIC = "bad_topic"
    BAD_FILTER = "bad_filter"
    TOO_MANY_LEVELS = "too_many_levels"
    EMPTY_SUBSCRIBE = "empty_subscribe"  # also UNSUBSCRIBE and SUBACK
    BAD_PROTOCOL_NAME = "bad_protocol_name"
    BAD_PROTOCOL_LEVEL = "bad_protocol_level"  # the one that is answered: CONNACK 1
    BAD_CONNECT_FLAGS = "bad_connect_flags"
    BAD_CODE = "bad_code"  # a CONNACK or SUBACK code that is reserved


class MalformedPacket(Exception):  # noqa: N818  # names the peer's fault, not ours
    """The peer broke the protocol, so the connection must be closed [MQTT-4.8.0-1].

    Attributes:
        reason: What is wrong, from a closed set.
        detail: The same for a person who reads the log; holds nothing of the payload.
        packets: What the same call of `Decoder.feed` decoded before, still to be handled.
    """

    def __init__(self, reason: PacketError, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.packets: list[tuple[Packet, bytes]] = []


def topic_fault(topic: str) -> PacketError | None:
    """What forbids `topic` as a topic name to publish to (4.7), or None."""
    if not topic or "+" in topic or "#" in topic or "\0" in topic:
        return PacketError.BAD_TOPIC
    if len(topic) >= MAX_LEVELS and topic.count("/") >= MAX_LEVELS:
        return PacketError.TOO_MANY_LEVELS
    return None


def filter_fault(topic_filter: str) -> PacketError | None:
    """What forbids `topic_filter` in SUBSCRIBE and UNSUBSCRIBE (4.7), or None."""
    if not topic_filter or "\0" in topic_filter:
        return PacketError.BAD_FILTER
    if topic_filter.count("/") >= MAX_LEVELS:
        return PacketError.TOO_MANY_LEVELS
    if "+" in topic_filter or "#" in topic_filter:
        *parents, last = topic_filter.split("/")
        if any(_is_mixed(level) or level == "#" for level in parents) or _is_mixed(last):
            return PacketError.BAD_FILTER
    return None


def _is_mixed(level: str) -> bool:
    """Whether a wildcard shares its level with other characters [MQTT-4.7.1-2, 4.7.1-3]."""
    return len(level) > 1 and ("+" in level or "#" in level)


def valid_topic(topic: str) -> bool:
    """Whether a message may be published to `topic`."""
    return topic_fault(topic) is None and _fits(topic)


def valid_filter(topic_filter: str) -> bool:
    """Whether `topic_filter` may be subscribed to."""
    return filter_fault(topic_filter) is None and _fits(topic_filter)


def _fits(text: str) -> bool:
    try:
        return len(text.encode()) <= MAX_STRING
    except UnicodeEncodeError:  # a lone surrogate [MQTT-1.5.3-1]
        return False
