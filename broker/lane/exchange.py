"""Messages on all topics that are not the feed's: who subscribed to them, and their way there.

The feed's own path has nothing to do with this. Here a message goes to every session with a matching
subscription, once, at the lower of the QoS at which it was published and the highest that was granted
(MQTT 3.1.1, 3.3.5, 4.3). Everything happens in one synchronous step, so a publisher's acknowledgement,
which comes after it, says that the message stands in every session that must get it.

What is retained for a new subscription follows in steps between which others have their turn, as fast
as its client takes it.

All of this lives in memory. After a restart sessions are new to their clients, and nothing is retained.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.lane.outbox import Message, Outbox
from broker.lane.retained import Retained
from devices.packets import REFUSED
from feedgen.channels import FilterTrie

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.config import TopicSettings
    from broker.counters import Counters
    from broker.lane.session import Session

MAX_FILTER_COST = 524_288
"""Bytes of memory that the filters of one session may take, by `_cost`."""

_MAX_TOLD, _MAX_TOLD_BYTES = 1_000, 1_048_576
"""Topics of the server's own; there are some hundred."""

_LOOKS = 256
"""Retained messages that one step of an answer looks at."""


class Exchange:
    """Subscriptions, retained messages, and what sessions are to be sent.

    Args:
        settings: Its bounds.
        counters: What was dropped is counted here.

    Attributes:
        outward: Called with every message that a client of the lane or the server itself published, and
            whether to retain it: the way to the clients of other listeners.
        subscriptions: How many there are.
    """

    def __init__(self, settings: TopicSettings, counters: Counters) -> None:
        self.adopt(settings)
        self._counters = counters
        self._filters: FilterTrie[dict[Session, int]] = FilterTrie(lambda _: {})
        self._retained = Retained(
            max_messages=settings.max_retained, max_bytes=settings.max_retained_bytes
        )
        # What the server tells of itself is kept apart: no client's messages can be taken for it, and
        # it takes none of their room.
        self._told = Retained(max_messages=_MAX_TOLD, max_bytes=_MAX_TOLD_BYTES)
        self._answering: dict[Session, None] = {}
        self.subscriptions = 0
        self.outward: Callable[[Message, bool], None] | None = None

    def adopt(self, settings: TopicSettings) -> None:
        """Goes by other bounds of one client from now on; who has an outbox keeps it as it is."""
        self._settings = settings

    # ---- Messages

    def publish(self, message: Message, *, retain: bool) -> None:
        """A client of the lane publishes."""
        self.distribute(message, retain=retain)
        if self.outward is not None:
            self.outward(message, retain)

    def distribute(self, message: Message, *, retain: bool) -> None:
        """Brings a message to everyone in the lane who subscribed to it, and retains it if asked."""
        self._counters.topics["published"] += 1
        if retain and not self._retained.put(message):
            self._counters.dropped["retained_full"] += 1
        self._bring(message)

    def announce(self, message: Message) -> None:
        """The server tells something of itself, on a topic below `$SYS`; who subscribes later hears it, too."""
        self._told.put(message)
        self._bring(message)
        if self.outward is not None:
            self.outward(message, True)

    def is_told(self, topic: str) -> bool:
        """Whether the server itself tells of this topic, so that nobody else may."""
        return self._told.get(topic) is not None

    @property
    def told(self) -> list[Message]:
        """What the server told last, on each topic."""
        return self._told.messages

    @property
    def retained_messages(self) -> int:
        """Retained messages, with those of the server."""
        return len(self._retained) + len(self._told)

    @property
    def retained_bytes(self) -> int:
        """What they take."""
        return self._retained.bytes + self._told.bytes

    def _bring(self, message: Message) -> None:
        plain: bytes | None = None
        for session, most in self._granted(message.topic).items():
            qos = min(most, message.qos)
            outbox = session.outbox
            assert outbox is not None
            if qos or outbox.waiting or not _writable(session):
                self._deliver(session, outbox, message, qos)
                continue
            if plain is None:
                plain = message.packet(0)
            assert session.connection is not None
            session.connection.write(plain)
            self._counters.topics["delivered"] += 1

    def _granted(self, topic: str) -> dict[Session, int]:
        """The sessions that a message on this topic is for, with the highest QoS granted to each."""
        matched = self._filters.match(topic)
        if len(matched) == 1:
            return matched[0]
        granted: dict[Session, int] = {}
        for sessions in matched:
            for session, qos in sessions.items():
                granted[session] = max(qos, granted.get(session, 0))  # [MQTT-3.3.5-1]
        return granted

    def _deliver(self, session: Session, outbox: Outbox, message: Message, qos: int) -> None:
        if not qos and session.connection is None:
            self._counters.dropped["qos_0_away"] += 1
        elif outbox.add(message, qos):
            self.pump(session)
        else:
            self._counters.dropped["outbox_full"] += 1

    def pump(self, session: Session) -> None:
        """Sends a session what it may be sent now."""
        outbox, connection = session.outbox, session.connection
        if outbox is None or connection is None:
            return
        while not connection.writing_paused and connection.closed_for is None:
            packet = outbox.next()
            if packet is None:
                break
            self._counters.topics["delivered"] += 1
            connection.write(packet)
        if session.answers and outbox.room > 0:
            self._answer_soon(session)

    # ---- What is retained

    def answer(self, session: Session, granted: Mapping[str, int]) -> None:
        """Sends what is retained for new subscriptions [MQTT-3.3.1-6], [MQTT-3.8.4-3].

        The first of it at once, the rest later: filters with the QoS that was granted to each.
        """
        for topic_filter, qos in granted.items():
            # No wildcard at the front stands for `$SYS` [MQTT-4.7.2-1].
            retained = self._told if topic_filter.startswith("$SYS/") else self._retained
            session.answers[topic_filter] = retained.answer(topic_filter, qos)
        self._answer_on(session)

    def _answer_soon(self, session: Session) -> None:
        if session in self._answering:
            return
        if not self._answering:
            asyncio.get_running_loop().call_soon(self._answer_some)
        self._answering[session] = None

    def _answer_some(self) -> None:
        """One step for the session that has waited longest; the next has the next turn."""
        if not self._answering:
            return  # those that waited have ended
        session = next(iter(self._answering))
        del self._answering[session]
        if self._answering:
            asyncio.get_running_loop().call_soon(self._answer_some)
        self._answer_on(session)

    def _answer_on(self, session: Session) -> None:
        """One step: what is found is sent, as far as there is room for it."""
        outbox = session.outbox
        if outbox is None or session.connection is None:
            return
        looks = _LOOKS
        while session.answers and looks and outbox.room > 0:
            answer = next(iter(session.answers.values()))
            while not answer.over and looks and outbox.room > 0:
                looks -= 1
                message = answer.look()
                if message is not None:
                    outbox.add(message, min(answer.qos, message.qos), retain=True)
            if answer.over:
                del session.answers[answer.topic_filter]
        self.pump(session)

    # ---- Sessions

    def subscribe(self, session: Session, topic_filter: str, qos: int) -> int:
        """Subscribes a session to a valid filter; the SUBACK code."""
        if topic_filter not in session.filters:
            cost = sum(map(_cost, session.filters)) + _cost(topic_filter)
            if len(session.filters) >= self._settings.max_subscriptions or cost > MAX_FILTER_COST:
                self._counters.dropped["too_many_subscriptions"] += 1
                return REFUSED
        if session.outbox is None:
            session.outbox = Outbox(
                window=self._settings.max_inflight,
                max_messages=self._settings.max_queued,
                max_bytes=self._settings.max_queued_bytes,
            )
        self.subscriptions += topic_filter not in session.filters
        session.filters[topic_filter] = qos
        self._filters.add(topic_filter)[session] = qos  # [MQTT-3.8.4-3]
        return qos

    def unsubscribe(self, session: Session, topic_filter: str) -> None:
        """Ends a subscription; what was sent or waits already stays (MQTT 3.1.1, 3.10.4)."""
        if session.filters.pop(topic_filter, None) is None:
            return
        self.subscriptions -= 1
        session.answers.pop(topic_filter, None)
        sessions = self._filters.get(topic_filter)
        assert sessions is not None
        del sessions[session]
        if not sessions:
            self._filters.remove(topic_filter)

    def resume(self, session: Session) -> None:
        """Sends a session that has a connection again what is unacknowledged, then what waits."""
        if session.outbox is None or session.connection is None:
            return
        for packet in session.outbox.again():
            self._counters.topics["resent"] += 1
            session.connection.write(packet)
        self.pump(session)

    def disconnected(self, session: Session) -> None:
        """A session has lost its connection and stays."""
        gone = session.outbox.disconnected() if session.outbox is not None else 0
        if gone:
            self._counters.dropped["qos_0_away"] += gone

    def end(self, session: Session) -> None:
        """A session is over."""
        for topic_filter in list(session.filters):
            self.unsubscribe(session, topic_filter)
        self._answering.pop(session, None)
        if session.outbox is not None and len(session.outbox):
            self._counters.dropped["session_ended"] += len(session.outbox)
        session.outbox = None

    # ---- Acknowledgements

    def acknowledged(self, session: Session, packet_id: int) -> None:
        """PUBACK."""
        if session.outbox is not None and session.outbox.acknowledged(packet_id):
            self.pump(session)

    def received(self, session: Session, packet_id: int) -> None:
        """PUBREC."""
        if session.outbox is not None:
            session.outbox.received(packet_id)

    def completed(self, session: Session, packet_id: int) -> None:
        """PUBCOMP."""
        if session.outbox is not None and session.outbox.completed(packet_id):
            self.pump(session)


def _cost(topic_filter: str) -> int:
    """About the bytes that a filter takes in memory: each level is a node of the trie."""
    return len(topic_filter) + 400 * (1 + topic_filter.count("/"))


def _writable(session: Session) -> bool:
    connection = session.connection
    return (
        connection is not None and not connection.writing_paused and connection.closed_for is None
    )
