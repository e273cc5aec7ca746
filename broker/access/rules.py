"""What a client may do, topic by topic (PROTOCOL.md, topics).

Pure decisions on plain values: the lane asks, the rules answer. Names are compared as they are and never
put into a pattern, so a client id or user name of `#`, `+` or `a/b` reaches nothing that is not its own.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from devices.profile import EVERYTHING
from devices.registry import covers
from devices.topics import own_topics

if TYPE_CHECKING:
    from broker.access.identity import Identity

MAX_LEVELS = 128
"""Levels of the longest topic that is taken; each costs a step of every match."""

MAX_FILTER_LEVELS = 32
"""Levels of the longest filter over other topics: each costs memory for as long as it is subscribed."""

MAX_FILTER_BYTES = 1_024
"""Bytes of the longest one, likewise."""

_SYS = ("$SYS/#",)


class Topic(enum.Enum):
    """What a topic or filter is to a client."""

    ITEM = enum.auto()
    """An item on a channel that it may publish on."""
    UP = enum.auto()
    """An up message of the client itself."""
    FRAMES = enum.auto()
    """The client's own feed."""
    OTHER = enum.auto()
    """A topic that has nothing to do with the feed, open to the client."""
    FORBIDDEN = enum.auto()
    """Not the client's business."""


class Rules:
    """The access rules of one server.

    Args:
        prefix: What stands before all topics of the feed.
        refused: Filters over other topics that are closed to everybody.
        others: Whether there is anything beside the feed.

    Attributes:
        items: What stands before the channel of an item.
        frames: What stands before the device of a feed.
        ups: What stands before the device of an up message.
    """

    def __init__(self, *, prefix: str, refused: tuple[str, ...], others: bool) -> None:
        self._feed = own_topics(prefix)
        self.items, self.frames, self.ups = self._feed
        self._refused = refused
        self._others = others

    def publish(self, identity: Identity, topic: str) -> Topic:
        """What publishing to `topic` means: ITEM, UP, OTHER or FORBIDDEN."""
        rights = identity.rights
        if topic.startswith(self.items):
            channel = topic[len(self.items) :]
            return Topic.ITEM if _open_to(rights.publish, channel) else Topic.FORBIDDEN
        if topic.startswith(self.ups):
            own = identity.device is not None and topic == self.ups + identity.device
            return Topic.UP if own else Topic.FORBIDDEN
        if topic.startswith("$"):  # the server's own (4.7.2)
            return Topic.FORBIDDEN
        return self._other(rights.write, topic)

    def subscribe(self, identity: Identity, topic_filter: str) -> Topic:
        """What subscribing to `topic_filter` means: FRAMES, OTHER or FORBIDDEN."""
        if identity.device is not None and topic_filter == self.frames + identity.device:
            return Topic.FRAMES
        if (
            topic_filter.count("/") >= MAX_FILTER_LEVELS
            or len(topic_filter.encode()) > MAX_FILTER_BYTES
        ):
            return Topic.FORBIDDEN
        granted = identity.rights.read
        if topic_filter.startswith("$"):  # `$share/…` of MQTT 5 goes with the rest
            granted = _SYS if identity.rights.operator else ()
        return self._other(granted, topic_filter)

    def is_feed_filter(self, topic_filter: str) -> bool:
        """Whether a filter lies within the topics of the feed, which no wildcard may reach into."""
        return f"{topic_filter}/".startswith(self._feed)

    def is_refused(self, text: str) -> bool:
        """Whether a topic, or all that a filter matches, is closed to everybody."""
        return bool(self._refused) and covers(self._refused, text)

    def _other(self, granted: tuple[str, ...], text: str) -> Topic:
        """OTHER if a topic or filter beside the feed is open to a client with these filters."""
        closed = not self._others or self.is_feed_filter(text)
        if closed or not _open_to(granted, text) or self.is_refused(text):
            return Topic.FORBIDDEN
        return Topic.OTHER


def _open_to(granted: tuple[str, ...], text: str) -> bool:
    """Whether one of the filters granted, or several together, cover a topic or filter."""
    if text.count("/") >= MAX_LEVELS:
        return False
    # The first test spares the common case the walk. Of channels, it also lets `$x` pass, which nobody
    # else has a claim on.
    return granted == EVERYTHING or covers(granted, text)
