"""Retained messages: the last one of each topic, for those who subscribe later (MQTT 3.1.1, 3.3.1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.lane.outbox import Message


class _Level:
    """A topic level: the message retained there, and the levels below."""

    __slots__ = ("below", "message")

    def __init__(self) -> None:
        self.below: dict[str, _Level] = {}
        self.message: Message | None = None


class Retained:
    """A tree of topic levels, so that a filter is answered without a look at topics that it excludes.

    Args:
        max_messages: Topics that may have a retained message.
        max_bytes: Bytes that these may have together.
    """

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._root = _Level()
        self._count = 0
        self.bytes = 0

    def __len__(self) -> int:
        return self._count

    def put(self, message: Message) -> bool:
        """Retains a message in place of the last one of its topic; an empty one ends that.

        False if there is no room. The one before is gone all the same: a new subscriber must not be
        shown what is over [MQTT-3.3.1-5].
        """
        self.remove(message.topic)
        if not message.payload:
            return True  # [MQTT-3.3.1-10], [MQTT-3.3.1-11]
        if self._count >= self._max_messages or self.bytes + message.size > self._max_bytes:
            return False
        level = self._root
        for name in message.topic.split("/"):
            level = level.below.setdefault(name, _Level())
        level.message = message
        self._count += 1
        self.bytes += message.size
        return True

    def remove(self, topic: str) -> None:
        """Retains nothing on this topic any more."""
        path = [self._root]
        names = topic.split("/")
        for name in names:
            level = path[-1].below.get(name)
            if level is None:
                return
            path.append(level)
        message = path[-1].message
        if message is None:
            return
        path[-1].message = None
        self._count -= 1
        self.bytes -= message.size
        while len(path) > 1 and path[-1].message is None and not path[-1].below:
            path.pop()
            del path[-1].below[names.pop()]

    def match(self, topic_filter: str) -> list[Message]:
        """The messages on all topics that a valid filter matches (MQTT 3.1.1, 4.7)."""
        levels = [self._root]
        names = topic_filter.split("/")
        everything = names[-1] == "#"
        if everything:
            names.pop()
        for depth, name in enumerate(names):
            if name == "+":
                levels = [each for level in levels for each in _children(level, top=not depth)]
            else:
                levels = [level.below[name] for level in levels if name in level.below]
        if everything:
            # `a/#` matches `a` too; `#` alone nothing that begins with `$` [MQTT-4.7.2-1].
            levels = [each for level in levels for each in _all(level, top=not names)]
        return [level.message for level in levels if level.message is not None]


def _children(level: _Level, *, top: bool) -> Iterator[_Level]:
    for name, below in level.below.items():
        if not (top and name.startswith("$")):
            yield below


def _all(level: _Level, *, top: bool) -> Iterator[_Level]:
    """A level and all below it, without recursion: a topic may have many levels."""
    if not top:
        yield level
    stack = list(_children(level, top=top))
    while stack:
        each = stack.pop()
        yield each
        stack += each.below.values()
