"""The figures of a gateway as retained messages: one leaf of `feed/sys/<instance>/…` for each number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices.packets import Will, publish_head, topic_field

if TYPE_CHECKING:
    from collections.abc import Iterable


class Metrics:
    """Makes messages of leaves; those that have not changed are not sent again.

    Args:
        prefix: What the operator put before all topics.
        instance: Names the gateway.
    """

    def __init__(self, prefix: str, instance: str) -> None:
        self._above = f"{prefix}feed/sys/{instance}/"
        self._sent: dict[str, str] = {}

    @property
    def will(self) -> Will:
        """What the broker is to say when the gateway vanishes: the leaf `up` is 0."""
        return Will(f"{self._above}up", b"0", qos=0, retain=True)

    def all_again(self) -> None:
        """The broker may have forgotten what it retained."""
        self._sent.clear()

    def packets(self, leaves: Iterable[tuple[str, str]]) -> list[bytes]:
        """PUBLISH packets of those leaves, paths and texts, that have changed."""
        packets = []
        for leaf, value in leaves:
            if self._sent.get(leaf) != value:
                self._sent[leaf] = value
                head = publish_head(topic_field(self._above + leaf), len(value), retain=True)
                packets.append(head + value.encode())
        return packets
