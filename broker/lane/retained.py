"""Retained messages: the last one of each topic, for those who subscribe later (MQTT 3.1.1, 3.3.1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedgen.channels import matches, valid_channel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.lane.outbox import Message


class Retained:
    """The last message of each topic.

    A flat table: what is retained is bounded, and a filter with wildcards is answered step by step
    (`Answer`). A tree of topic levels was rejected: topics of many levels cost it far more memory than
    their bytes say.

    Args:
        max_messages: Topics that may have a retained message.
        max_bytes: Bytes that these may have together.
    """

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._messages: dict[str, Message] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> bool:
        """Retains a message in place of the last one of its topic; an empty one ends that.

        False if there is no room. The one before is gone all the same: a new subscriber must not be
        shown what is over [MQTT-3.3.1-5].
        """
        former = self._messages.pop(message.topic, None)
        if former is not None:
            self.bytes -= former.size
        if not message.payload:
            return True  # [MQTT-3.3.1-10], [MQTT-3.3.1-11]
        if len(self) >= self._max_messages or self.bytes + message.size > self._max_bytes:
            return False
        self._messages[message.topic] = message
        self.bytes += message.size
        return True

    def answer(self, topic_filter: str, qos: int) -> Answer:
        """Begins to answer a subscription to a valid filter, granted at this QoS."""
        if valid_channel(topic_filter):
            found = self.get(topic_filter)
            return Answer(self, topic_filter, qos, () if found is None else (found,))
        return Answer(self, topic_filter, qos, list(self._messages.values()))

    def get(self, topic: str) -> Message | None:
        """The last message of a topic."""
        return self._messages.get(topic)

    @property
    def messages(self) -> list[Message]:
        """The last message of every topic."""
        return list(self._messages.values())

    def holds(self, message: Message) -> bool:
        """Whether this is still the last message of its topic."""
        return self._messages.get(message.topic) is message


class Answer:
    """What is retained for one subscription, found step by step.

    Args:
        retained: All there is.
        topic_filter: What was subscribed to.
        qos: The QoS that was granted.
        candidates: What was retained at that moment.
    """

    __slots__ = ("_at", "_candidates", "_retained", "qos", "topic_filter")

    def __init__(
        self, retained: Retained, topic_filter: str, qos: int, candidates: Sequence[Message]
    ) -> None:
        self._retained = retained
        self._candidates = candidates
        self._at = 0
        self.topic_filter = topic_filter
        self.qos = qos

    @property
    def over(self) -> bool:
        """Whether everything was looked at."""
        return self._at >= len(self._candidates)

    def look(self) -> Message | None:
        """Looks at the next candidate, and returns it if it belongs to the answer."""
        message = self._candidates[self._at]
        self._at += 1
        # One that was replaced meanwhile has come, or will come, to the subscriber by itself.
        belongs = matches(self.topic_filter, message.topic) and self._retained.holds(message)
        return message if belongs else None
