"""The counts of a gateway as retained messages: one leaf of `feed/sys/<instance>/…` for each number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from devices.packets import Will, publish_head, topic_field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Metrics:
    """Makes messages of numbers; those that have not changed are not sent again.

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

    def packets(self, values: Mapping[str, Any]) -> list[bytes]:
        """PUBLISH packets of what has changed in this nested table of numbers."""
        packets = []
        for leaf, value in _leaves(values):
            if self._sent.get(leaf) != value:
                self._sent[leaf] = value
                head = publish_head(topic_field(self._above + leaf), len(value), retain=True)
                packets.append(head + value.encode())
        return packets


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Path and text of every number, truth values as 1 and 0; what is no number is left out."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{name}/")
        elif isinstance(value, int | float):
            yield (
                above + str(name),
                f"{float(value):.6g}" if isinstance(value, float) else str(int(value)),
            )
