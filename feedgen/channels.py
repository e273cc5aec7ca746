"""Channels, the filters that devices follow, and a trie from channels to filters.

A channel is the topic of an item without the leading `items/`. Filters are MQTT topic filters over
channels (MQTT 3.1.1, 4.7): `+` stands for exactly one level, a last `#` for any number of levels,
its parent level included; a wildcard in the first place never matches a channel that begins with
`$` (4.7.2). Levels may be empty, so `a//b` has three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

MAX_TOPIC = 65_535
"""Bytes of the longest topic name or filter (MQTT 3.1.1, 1.5.3)."""


def valid_channel(channel: str) -> bool:
    """Tell whether items may be published on `channel`: a topic name without wildcards."""
    return "+" not in channel and "#" not in channel and _valid_text(channel)


def valid_filter(topic_filter: str) -> bool:
    """Tell whether `topic_filter` is a well-formed MQTT filter (4.7.1).

    How many levels and bytes a device may use for one is a matter of its profile, not of this rule.
    """
    if not _valid_text(topic_filter):
        return False
    *parents, last = topic_filter.split("/")
    return all("#" not in level and ("+" not in level or level == "+") for level in parents) and (
        last in ("#", "+") or ("#" not in last and "+" not in last)
    )


def matches(topic_filter: str, channel: str) -> bool:
    """Tell whether a valid `topic_filter` matches a valid `channel`.

    This is the readable rule; `FilterTrie` answers the same for many filters at once.
    """
    wanted = topic_filter.split("/")
    levels = channel.split("/")
    if channel.startswith("$") and wanted[0] in ("+", "#"):
        return False
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        want in ("+", level) for want, level in zip(wanted, levels, strict=True)
    )


def specificity(topic_filter: str) -> int:
    """Count the literal levels of a valid filter: 0 for `#`, 2 for `alerts/+/ca`."""
    return sum(level not in ("+", "#") for level in topic_filter.split("/"))


class FilterTrie(Generic[T]):
    """Finds the filters that match a channel without looking at the others.

    Every filter has one *entry*, made by `make(filter)` when the filter is added, which holds
    whatever the owner keeps per filter. An entry is never None.

    The result for a channel is remembered until a filter that could change it comes or goes, as
    channels repeat far more often than sets of filters change. What is remembered is bounded in
    memory: the oldest results go first.
    """

    __slots__ = ("_cache", "_cached", "_entries", "_make", "_root")

    CACHE_WORDS = 1 << 18
    """Bound of the remembered results, in machine words (2 MiB)."""

    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make
        self._entries: dict[str, T] = {}
        self._root: _Node[T] = _Node()
        self._cache: dict[str, list[T]] = {}
        self._cached = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, topic_filter: str) -> bool:
        return topic_filter in self._entries

    def get(self, topic_filter: str) -> T | None:
        """Return the entry of exactly this filter, None if it was not added."""
        return self._entries.get(topic_filter)

    def add(self, topic_filter: str) -> T:
        """Return the entry of a valid filter, made now unless the filter is here already."""
        entry = self._entries.get(topic_filter)
        if entry is not None:
            return entry
        entry = self._entries[topic_filter] = self._make(topic_filter)
        node = self._root
        for level in topic_filter.split("/"):
            node = node.children.setdefault(level, _Node())
        node.entry = entry
        self._forget(topic_filter)
        return entry

    def remove(self, topic_filter: str) -> None:
        """Take out a filter and its entry; raises KeyError if it is not here."""
        del self._entries[topic_filter]
        path = [self._root]
        levels = topic_filter.split("/")
        for level in levels:
            path.append(path[-1].children[level])
        path[-1].entry = None
        while levels and path[-1].empty:
            path.pop()
            del path[-1].children[levels.pop()]
        self._forget(topic_filter)

    def match(self, channel: str) -> list[T]:
        """Return the entries of all filters that match a valid `channel`, each once.

        The order is fixed by the filters alone. The list belongs to the trie: read it, never
        change it.
        """
        found = self._cache.get(channel)
        if found is None:
            found = self._walk(channel)
            self._remember(channel, found)
        return found

    def _walk(self, channel: str) -> list[T]:
        found: list[T] = []
        nodes = [self._root]
        wildcards = not channel.startswith("$")
        for level in channel.split("/"):
            below: list[_Node[T]] = []
            for node in nodes:
                children = node.children
                if wildcards:
                    if (rest := children.get("#")) is not None and rest.entry is not None:
                        found.append(rest.entry)
                    if (any_level := children.get("+")) is not None:
                        below.append(any_level)
                if (child := children.get(level)) is not None:
                    below.append(child)
            wildcards = True
            nodes = below
            if not nodes:
                return found
        for node in nodes:
            if node.entry is not None:
                found.append(node.entry)
            # `a/#` matches `a` too (4.7.1.2).
            if (rest := node.children.get("#")) is not None and rest.entry is not None:
                found.append(rest.entry)
        return found

    def _remember(self, channel: str, found: list[T]) -> None:
        self._cache[channel] = found
        self._cached += _words(channel, found)
        while self._cached > self.CACHE_WORDS:
            oldest = next(iter(self._cache))
            self._cached -= _words(oldest, self._cache.pop(oldest))

    def _forget(self, topic_filter: str) -> None:
        """Drop the remembered results that a change of this filter could make wrong.

        A filter without wildcards concerns one channel. For the others everything goes: testing
        each remembered channel would cost more than walking the trie for those that come again.
        """
        if valid_channel(topic_filter):
            found = self._cache.pop(topic_filter, None)
            if found is not None:
                self._cached -= _words(topic_filter, found)
        else:
            self._cache.clear()
            self._cached = 0


class _Node(Generic[T]):
    """One level of the trie; wildcards are children like the others."""

    __slots__ = ("children", "entry")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.entry: T | None = None

    @property
    def empty(self) -> bool:
        return self.entry is None and not self.children


def _words(channel: str, found: list[object] | list[T]) -> int:
    """Size of a remembered result: its references, its channel, and some for the containers."""
    return 32 + len(channel) // 8 + len(found)


def _valid_text(text: str) -> bool:
    """Tell whether `text` can be a topic at all: 1 to 65 535 bytes of UTF-8 without U+0000."""
    if not text or "\0" in text:
        return False
    if text.isascii():
        return len(text) <= MAX_TOPIC
    try:
        return len(text.encode()) <= MAX_TOPIC
    except UnicodeEncodeError:  # a lone surrogate
        return False
