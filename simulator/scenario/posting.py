"""Publishers at work: each item when it is due, again after a lost connection, until it is acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from simulator.scenario.offers import Offer
from simulator.tally import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from simulator.facts import Content
    from simulator.faults.publishers import FaultyPublisher, Item
    from simulator.scenario.timeline import Pace

GIVE_UP = 60.0
"""Seconds without a connection, or without room in flight, after which a publisher says nothing more."""

_LOOK_AGAIN = 0.02
_RETRY = 0.25
"""Seconds between two attempts to connect."""
_KEPT = 500
"""Items that a publisher can say again at the end."""
_BATCH = 50
"""Items that are sent before others have their turn."""


class Posting:
    """One publisher and what it has to say.

    Args:
        publisher: Its connections, and what is not acknowledged.
        offers: What it says, in the order of nominal time.
        pace: When that is due.
        on_sent: Called with each offer as it is sent.
        late: Seconds after which what could not be sent is left out; None: never.

    Attributes:
        sent: Items sent.
        left_out: Items that were not, as they were late.
        behind: The longest that an item had to wait for a connection, or because the server took no more, seconds.
        last: When the last one was sent (`time.perf_counter`).
        gave_up: Whether the server took nothing for so long that the rest was never said.
        items: The last ones sent, by the identity of their content, which the judge keeps.
    """

    def __init__(
        self,
        publisher: FaultyPublisher,
        offers: Iterator[Offer],
        pace: Pace,
        on_sent: Callable[[Offer], None],
        late: float | None = None,
    ) -> None:
        self.publisher = publisher
        self.sent = self.left_out = 0
        self.behind = 0.0
        self.last = 0.0
        self.gave_up = False
        self.items: OrderedDict[int, Item] = OrderedDict()
        self._offers = offers
        self._pace = pace
        self._on_sent = on_sent
        self._late = late

    async def run(self, began: float, seconds: float) -> None:
        """Says everything that is due until `seconds` after `began` (monotonic); what is then late is still said."""
        batch = 0
        for offer in self._offers:
            due = self._pace.due(offer.nominal)
            if due >= seconds:
                return
            wait = began + due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            elif (batch := batch + 1) % _BATCH == 0:
                await asyncio.sleep(0)
            asked = time.monotonic()
            if not await self.room():
                return
            now = time.monotonic()
            self.behind = max(self.behind, now - asked)
            if self._late is not None and now - began - due > self._late:
                self.left_out += 1
            else:
                self.say(offer)

    async def room(self) -> bool:
        """Waits until something can be sent, for `GIVE_UP` seconds at most; whether it can."""
        until = time.monotonic() + GIVE_UP
        while not self.publisher.ready:
            if time.monotonic() > until:
                self.gave_up = True
                return False
            await asyncio.sleep(_LOOK_AGAIN)
        return True

    def say(self, offer: Offer) -> None:
        """Sends an offer, or nothing if there is no connection or no room."""
        if self.publisher.ready:
            self._on_sent(offer)  # before: the frame may be there before we are
            self.publisher.publish(offer.item, qos=1)
            self.sent += 1
            self.items[id(offer.item.content)] = offer.item
            if len(self.items) > _KEPT:
                self.items.popitem(last=False)
            self.last = time.perf_counter()


class Desk:
    """All publishers of a run, kept connected.

    Args:
        postings: Those with something of their own to say.
        extra: Who says what faults want said.

    Attributes:
        acknowledgements: Seconds until PUBACK.
    """

    def __init__(self, postings: Sequence[Posting], extra: Posting) -> None:
        self.acknowledgements = Histogram()
        self._postings = postings
        self._extra = extra
        self._echoed = 0
        self._everyone = [*postings, extra]
        for one in self._everyone:
            one.publisher.on_acknowledged = self.acknowledgements.add

    @property
    def sent(self) -> int:
        """Items sent."""
        return sum(one.sent for one in self._everyone)

    @property
    def left_out(self) -> int:
        """Items that were not sent, as the server took no more for so long that they were late."""
        return sum(one.left_out for one in self._everyone)

    @property
    def acknowledged(self) -> int:
        """Items that the server acknowledged."""
        return sum(one.publisher.acknowledged for one in self._everyone)

    @property
    def repeated(self) -> int:
        """Packets that were sent again after a lost connection."""
        return sum(one.publisher.repeated for one in self._everyone) - self._echoed

    @property
    def in_flight(self) -> int:
        """Items without acknowledgement."""
        return sum(one.publisher.in_flight for one in self._everyone)

    @property
    def behind(self) -> float:
        """The longest that an item had to wait because the server took no more, seconds."""
        return max(one.behind for one in self._everyone)

    @property
    def last(self) -> float:
        """When the last item was sent (`time.perf_counter`)."""
        return max(one.last for one in self._everyone)

    @property
    def gave_up(self) -> bool:
        """Whether somebody could not say all that was due."""
        return any(one.gave_up for one in self._everyone)

    async def connect(self) -> bool:
        """Makes the first connection of all; whether the server accepted them."""
        return all([await one.publisher.connect() for one in self._everyone])

    async def stay(self) -> None:
        """Keeps everybody connected until it is cancelled."""
        while True:
            for one in self._everyone:
                if not one.publisher.connected:
                    await one.publisher.connect()
            await asyncio.sleep(_RETRY)

    async def run(self, began: float, seconds: float) -> None:
        """All that is due until `seconds` after `began` (monotonic)."""
        async with asyncio.TaskGroup() as tasks:
            for one in self._postings:
                tasks.create_task(one.run(began, seconds))

    async def say(self, items: Sequence[Item]) -> None:
        """What a fault wants said, once there is room for it."""
        for item in items:
            if not await self._extra.room():
                return
            self._extra.say(Offer(0.0, item))

    async def acknowledge(self, within: float) -> int:
        """Waits until nothing is in flight; how many still are after `within` seconds."""
        until = time.monotonic() + within
        while self.in_flight and time.monotonic() < until:  # noqa: ASYNC110 - as above
            await asyncio.sleep(_LOOK_AGAIN)
        return self.in_flight

    def close(self) -> None:
        """Ends all connections."""
        for one in self._everyone:
            one.publisher.drop()

    def item(self, content: Content) -> Item | None:
        """The item that had this content, if it was one of the last."""
        found = (one.items.get(id(content)) for one in self._everyone)
        return next((item for item in found if item is not None), None)

    def repeat(self, items: Sequence[Item]) -> None:
        """Sends items that were acknowledged once more, as they were; nothing may change."""
        for item in items:
            self._extra.publisher.say_again(item)
            self._echoed += 1
