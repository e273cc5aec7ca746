"""Sends the `$SYS` tree at regular times: what has changed since the time before, as Mosquitto does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker.figures import tree
from broker.lane.outbox import Message

if TYPE_CHECKING:
    from broker.figures.reading import Figures
    from broker.lane.exchange import Exchange


class SysPublisher:
    """Keeps the `$SYS` topics of one server as they are.

    Args:
        figures: What to tell.
        exchange: Whom to tell it.
        interval: Seconds between two rounds.
    """

    def __init__(self, figures: Figures, exchange: Exchange, interval: float) -> None:
        self._figures = figures
        self._exchange = exchange
        self._interval = interval
        self._sent: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Sends everything, and from then on what changes; needs a running loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._interval, self.start)
        for topic, text in tree.topics(self._figures.read()):
            if self._sent.get(topic) != text:
                self._sent[topic] = text
                self._exchange.announce(Message(topic, text.encode()))

    def tell_every(self, interval: float) -> None:
        """Goes on with another interval, and a round at once."""
        self._interval = interval
        self.stop()
        self.start()

    def stop(self) -> None:
        """Ends."""
        if self._timer is not None:
            self._timer.cancel()
