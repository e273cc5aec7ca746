"""One connection to one Redis server, on which commands travel many at a time.

redis-py's connection with hiredis' parser, without redis-py's clients above it. Those route and retry
command by command; here whole pipelines keep their order, are repeated as they were, and end with a
WAIT, which counts only for what the same connection wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import hiredis
from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError

from feedgen.store.redis.address import named
from feedgen.store.redis.scripts import ALL

if TYPE_CHECKING:
    from feedgen.store.redis.address import Address, Server
    from feedgen.store.redis.settings import RedisSettings

Command = tuple[bytes | str | int | float, ...]

_RESP = 2
"""The protocol's older form: answers are plain lists, and nothing is pushed between them."""
_pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment] # its stub: one word
_REPLIES = (ResponseError, AuthenticationError, BusyLoadingError)
"""What redis-py makes of an answer that is an error; all else is the connection's."""


class ReplyError(Exception):
    """What Redis says instead of an answer; the first word tells what kind of error it is."""

    @classmethod
    def of(cls, error: RedisError) -> ReplyError:
        """The words of Redis again: redis-py takes the first one off those that it knows."""
        word = getattr(error, "status_code", None)
        return cls(f"{word} {error}" if word else str(error))

    @property
    def word(self) -> str:
        """NOAUTH, MOVED, READONLY and the like."""
        return str(self).partition(" ")[0]


class LinkLost(ConnectionError):  # noqa: N818 - named like what it finds
    """The connection ended; what was under way may have been done or not."""


class NoAnswer(LinkLost):
    """The connection was ended because the server was silent for too long."""


class Link:
    """Get one from `connect`. Whoever calls `run` waits for it before the next call."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self.server = server
        self._connection = connection

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended, as far as is known."""
        return not self._connection.is_connected

    async def run(self, commands: Sequence[Command], within: float) -> list[Any]:
        """Send commands in one piece; answers are in order, those that are errors as `ReplyError`.

        Raises:
            LinkLost: The connection ended, or no answer came in time and it was ended for that.
        """
        connection = self._connection
        if self.is_lost:
            raise LinkLost(f"the connection to {named(self.server)} has ended")
        if not commands:
            return []
        try:
            async with asyncio.timeout(within):
                # By hiredis, as redis-py's synchronous connection does it: its asyncio one packs in Python,
                # which is a third of what an item costs the node.
                packed = b"".join(map(_pack, commands))
                await connection.send_packed_command(packed, check_health=False)
                return [await self._reply() for _ in commands]
        except TimeoutError:
            await self.aclose()
            raise NoAnswer(f"{named(self.server)} has not answered for {within:g} s") from None
        except (OSError, RedisError) as error:
            await self.aclose()
            raise LinkLost(f"the connection to {named(self.server)} was lost: {error}") from error
        except asyncio.CancelledError:
            await self.aclose()
            raise

    async def _reply(self) -> Any:
        try:
            # Without a limit of its own: that of `run` is for all of them.
            return await self._connection.read_response(timeout=math.inf, disconnect_on_error=False)
        except _REPLIES as error:
            return ReplyError.of(error)

    async def load_scripts(self, within: float) -> None:
        """Make all scripts known to the server.

        Raises:
            ReplyError: It does not take them.
            LinkLost: The connection ended.
        """
        first_error(await self.run([("SCRIPT", "LOAD", script.text) for script in ALL], within))

    async def aclose(self) -> None:
        """End the connection; closing twice is closing once."""
        await self._connection.disconnect(nowait=True)


async def connect(server: Server, address: Address, settings: RedisSettings) -> Link:
    """Connect and authenticate.

    Raises:
        OSError: There is no way to the server, or it does not answer.
        ReplyError: It does not let us in.
    """
    connection = _connection(server, address, settings)
    link = Link(server, connection)
    try:
        async with asyncio.timeout(settings.timeout):
            await connection.connect()  # type: ignore[no-untyped-call] # of redis-py
        first_error(await link.run([("PING",)], settings.timeout))
    except TimeoutError:
        await link.aclose()
        raise NoAnswer(f"{named(server)} has not answered for {settings.timeout:g} s") from None
    except _REPLIES as error:
        await link.aclose()
        raise ReplyError.of(error) from None
    except RedisError as error:
        await link.aclose()
        # What the system said, such as "connection refused", tells more than what redis-py makes of it.
        cause = error.__context__
        raise (cause if isinstance(cause, OSError) else LinkLost(str(error))) from None
    except BaseException:
        await link.aclose()
        raise
    return link


def _connection(server: Server, address: Address, settings: RedisSettings) -> Connection:
    host, port = server
    kind: type[Connection] = Connection
    options: dict[str, Any] = {}
    if address.tls:
        kind = SSLConnection
        options["ssl_ca_certs"] = settings.ca_file and str(settings.ca_file)
    return kind(
        host=host,
        port=port,
        db=address.db,
        username=address.user or None,
        password=address.password or None,
        protocol=_RESP,
        # Each run has its own limit, and whoever runs decides what is tried again.
        socket_timeout=None,
        retry=Retry(NoBackoff(), 0),
        **options,
    )


def first_error(replies: Sequence[Any]) -> None:
    """Raise the first answer that is an error."""
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise reply


async def ask(
    server: Server, address: Address, settings: RedisSettings, *commands: Command
) -> list[Any]:
    """Connect, run commands, and hang up; as `connect` and `Link.run` raise."""
    async with contextlib.aclosing(await connect(server, address, settings)) as link:
        return await link.run(commands, settings.timeout)
