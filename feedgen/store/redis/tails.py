"""What other nodes do, as it comes: the ends of the streams, followed by blocking reads.

A stream of item numbers says which records to read; what is read may be newer than the entry, and then
the later entry is passed over. Entries of a stream are counted: where the count has a hole, the stream
was cut before this node had read it, or Redis has lost data, and the partition is read anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Protocol

from feedgen.store.redis import scripts
from feedgen.store.redis.faults import explain
from feedgen.store.redis.items import token, unpack_value
from feedgen.store.redis.link import Command, Link, ReplyError, connect, first_error
from feedgen.store.redis.words import hear

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from feedgen.items import Record
    from feedgen.store.redis.address import Server
    from feedgen.store.redis.keys import ItemKeys
    from feedgen.store.redis.session import Session

    Entry = tuple[bytes, list[bytes]]

BLOCK = 1000
"""Milliseconds that a read waits for news."""
COUNT = 256
"""Entries of a stream, and records, that are read at a time."""
FIRST_RETRY = 0.05
LAST_RETRY = 2.0

_log = logging.getLogger(__name__)


class Stream(Protocol):
    """A stream, and how far it was read."""

    key: str
    position: bytes

    async def begin(self, link: Link) -> None:
        """Look on a new connection whether it can go on."""

    async def take(self, link: Link, entries: Sequence[Entry]) -> None:
        """Take entries in; sets `position`."""


class ItemStream:
    """The numbers of new items of one partition."""

    def __init__(self, session: Session, keys: ItemKeys, seen: Callable[[int], None]) -> None:
        self.key = keys.stream
        self.slot = keys.slot
        self.position = b"0-0"
        self._session = session
        self._keys = keys
        self._seen = seen
        self._count = -1
        # Tokens of records that were read before their entry came, by number.
        self._ahead: dict[bytes, bytes] = {}

    async def load(self, link: Link) -> AsyncIterator[list[Record]]:
        """Go to the end, and read all live records; nothing is missed between."""
        position, count = await self._end(link)
        (numbers,) = await self._run(link, ("ZRANGE", self._keys.live, 0, -1))
        for start in range(0, len(numbers), COUNT):
            values = await self._values(link, numbers[start : start + COUNT])
            now = self._session.clock()
            yield [record for _, _, record in values if record.expires > now]
        # Only now: should the connection end meanwhile, it has to begin again.
        self.position, self._count = position, count
        self._ahead.clear()

    async def begin(self, link: Link) -> None:
        """Read all anew if the stream ends before where it was."""
        position, count = await self._end(link)
        if count < self._count or _order(position) < _order(self.position):
            await self._reload(link)

    async def take(self, link: Link, entries: Sequence[Entry]) -> None:
        """Read the records that other nodes have put, and tell of them."""
        wanted: dict[bytes, bytes] = {}
        told = set()
        run = self._session.run.encode()
        for number, (_, fields) in enumerate(entries, start=self._count + 1):
            count, n, name, by = fields[1::2]
            if int(count) != number:
                await self._reload(link)
                return
            if self._ahead.get(n) == name:
                told.add(n)
            elif by != run:
                wanted.pop(n, None)  # so that the order is that of the last entries
                wanted[n] = name
        # Of those that this node has put another of since it knows already.
        values = await self._values(link, list(wanted)) if wanted else []
        news = [(n, record) for n, by, record in values if by != run]
        # Only now: should the connection have ended meanwhile, the entries would be read again.
        self.position, self._count = entries[-1][0], self._count + len(entries)
        for n in told:
            del self._ahead[n]
        for n, record in news:
            if (now := token(record).encode()) != wanted[n]:
                self._ahead[n] = now
        self._tell([record for _, record in news])

    async def _reload(self, link: Link) -> None:
        async for records in self.load(link):
            self._tell(records)

    def _tell(self, records: list[Record]) -> None:
        if records:
            self._seen(max(record.n for record in records))
            self._session.tell(lambda changes: changes.accepted(records))

    async def _end(self, link: Link) -> tuple[bytes, int]:
        command = scripts.TAIL_POSITION.call([self._keys.stream, self._keys.count])
        ((position, count),) = await self._run(link, command)
        return position, count

    async def _values(
        self, link: Link, numbers: Sequence[bytes]
    ) -> list[tuple[bytes, bytes, Record]]:
        """Number, writer and record of those that are still there."""
        keys = [self._keys.record(n.decode()) for n in numbers]
        (values,) = await self._run(link, ("MGET", *keys))
        found = []
        for n, value in zip(numbers, values, strict=True):
            if value is None:
                continue
            try:
                found.append((n, *unpack_value(value)))
            except ValueError as error:
                _log.warning("Item %d of the store is passed over: %s.", int(n), error)
        return found

    async def _run(self, link: Link, command: Command) -> list[Any]:
        replies = await link.run([command], self._session.settings.timeout)
        first_error(replies)
        return replies


class WordStream:
    """What is said to all nodes."""

    def __init__(self, session: Session, key: str, count_key: str) -> None:
        self.key = key
        self.position = b"0-0"
        self._session = session
        self._count_key = count_key
        self._count = -1

    async def begin(self, link: Link) -> None:
        """Go to the end at first; later, tell if words were missed."""
        command = scripts.TAIL_POSITION.call([self.key, self._count_key])
        replies = await link.run([command], self._session.settings.timeout)
        first_error(replies)
        position, count = replies[0]
        if self._count < 0:
            self.position, self._count = position, count
        elif count < self._count or _order(position) < _order(self.position):
            self.position, self._count = position, count
            self._missed()

    async def take(self, _: Link, entries: Sequence[Entry]) -> None:
        """Hand on what others said."""
        for position, fields in entries:
            count, body = fields[1::2]
            if int(count) != self._count + 1:
                self._missed()
            self.position, self._count = position, int(count)
            hear(body, self._session)

    def _missed(self) -> None:
        self._session.tell(lambda changes: changes.missed())


class Inbox:
    """What is said to this node alone; what was read is removed, for what waits is kept."""

    def __init__(self, session: Session, key: str) -> None:
        self.key = key
        self.position = b"0-0"
        self._session = session

    async def begin(self, _: Link) -> None:
        """Go on where it was."""

    async def take(self, link: Link, entries: Sequence[Entry]) -> None:
        """Hand on what was said, in order."""
        posted: list[bytes] = []
        for position, (_, body) in entries:
            self.position = position
            posted += hear(body, self._session)
        if posted:
            self._session.tell(lambda changes: changes.posted(posted))
        ids = [position for position, _ in entries]
        first_error(await link.run([("XDEL", self.key, *ids)], self._session.settings.timeout))


class Tail:
    """Streams of one hash slot, or of one server where that has all, on one connection."""

    def __init__(self, session: Session, slot: int, streams: Sequence[Stream]) -> None:
        self._session = session
        self._slot = slot
        self._streams = {stream.key.encode(): stream for stream in streams}

    async def follow(self) -> None:
        """Read until cancelled; connects again and again."""
        link: Link | None = None
        attempts = 0
        try:
            while True:
                try:
                    if link is None:
                        link = await self._begin()
                    await self._read(link)
                    attempts = 0
                    if link.server != self._session.topology.server_of(self._slot):
                        await link.aclose()  # there is another master since
                        link = None
                except Exception as error:  # noqa: BLE001 - whatever it is, this must go on
                    if not isinstance(error, (OSError, ReplyError)):
                        _log.exception("What the store says cannot be read.")
                    server = link.server if link is not None else None
                    if link is not None:
                        await link.aclose()
                        link = None
                    await self._retry(error, server, attempts)
                    attempts += 1
        finally:
            if link is not None:
                await link.aclose()

    async def _begin(self) -> Link:
        session = self._session
        server = session.topology.server_of(self._slot)
        link = await connect(server, session.address, session.settings)
        try:
            await link.load_scripts(session.settings.timeout)
            for stream in self._streams.values():
                await stream.begin(link)
        except BaseException:
            await link.aclose()
            raise
        return link

    async def _read(self, link: Link) -> None:
        positions = [stream.position for stream in self._streams.values()]
        options: Command = ("XREAD", "COUNT", COUNT, "BLOCK", BLOCK, "STREAMS")
        command = (*options, *self._streams, *positions)
        replies = await link.run([command], BLOCK / 1000 + self._session.settings.timeout)
        first_error(replies)
        for key, entries in replies[0] or ():
            await self._streams[key].take(link, entries)

    async def _retry(self, error: Exception, server: Server | None, attempts: int) -> None:
        session = self._session
        _log.debug("%s", explain(error, server or session.topology.server_of(self._slot)))
        delay = min(LAST_RETRY, FIRST_RETRY * 2 ** min(attempts, 16))
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        try:
            await session.topology.refresh(FIRST_RETRY)
        except (OSError, ReplyError) as another:
            _log.debug("The masters of the store cannot be found: %s", another)


async def load(session: Session, items: Sequence[ItemStream], words: WordStream) -> list[Record]:
    """Go to the ends of the streams, and read every record.

    Raises:
        OSError: A server cannot be reached.
        ReplyError: A server refuses.
    """
    records: list[Record] = []
    links: dict[Server, Link] = {}
    try:
        await words.begin(await _link(session, session.keys.slot, links))
        for stream in items:
            link = await _link(session, stream.slot, links)
            async for some in stream.load(link):
                records += some
    finally:
        for link in links.values():
            await link.aclose()
    return sorted(records, key=lambda record: record.n)


def tails(session: Session, items: Sequence[ItemStream], others: Sequence[Stream]) -> list[Tail]:
    """As few connections as the servers allow: a blocking read in a cluster is of one hash slot."""
    slot = session.keys.slot
    if not session.topology.is_spread:
        return [Tail(session, slot, [*items, *others])]
    return [Tail(session, stream.slot, [stream]) for stream in items] + [
        Tail(session, slot, others)
    ]


async def _link(session: Session, slot: int, links: dict[Server, Link]) -> Link:
    server = session.topology.server_of(slot)
    if server not in links:
        links[server] = await connect(server, session.address, session.settings)
        await links[server].load_scripts(session.settings.timeout)
    return links[server]


def _order(position: bytes) -> tuple[int, int]:
    """An entry's id, to be compared."""
    milliseconds, _, serial = position.partition(b"-")
    return int(milliseconds), int(serial)
