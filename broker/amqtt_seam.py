"""The one file that knows amqtt's inside.

Everything else uses amqtt's public interfaces: plugins, `BrokerContext`, adapters and external
listeners. What is not public, and why it is needed, stands here; `tests/broker/test_amqtt_seam.py`
pins it to the release named in `pyproject.toml`.

`BrokerContext._broker_instance`: a plugin of a stock `amqtt -c` is given the context alone, but
`Broker.external_connected`, which is public, is a method of the broker.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqtt.broker import Broker, BrokerContext
    from amqtt.session import Session

    from broker.lane.handover import Foreign

LISTENER = "default"
"""The listener under whose name handed-on connections are served; amqtt requires this one."""


class Amqtt:
    """What the lane needs of the amqtt broker around it (see `lane.listener.Foreigners`).

    Args:
        context: The plugin's context.
    """

    def __init__(self, context: BrokerContext) -> None:
        self._context = context
        self._broker: Broker = context._broker_instance  # noqa: SLF001 (see the module's docstring)
        self._admitted: set[str] = set()

    def has_session(self, client_id: str) -> bool:
        """Whether amqtt keeps a persistent session for this client."""
        session = self._context.get_session(client_id)
        return session is not None and not session.clean_session

    def is_admitted(self, session: Session) -> bool:
        """Whether the lane has authenticated the client of this session."""
        # Not by its id, under which anybody may come by another listener of amqtt's; nor by its
        # address, which stays that of the first connection when a session is resumed.
        return session.password in self._admitted

    async def serve(self, foreign: Foreign) -> None:
        """Serves a handed-on connection, of a client that the lane has authenticated, until it ends."""
        self._admitted.add(foreign.token)
        try:
            await self._broker.external_connected(foreign.reader, foreign.writer, LISTENER)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client left in the middle of a packet
        finally:
            self._admitted.discard(foreign.token)


def external_listener() -> dict[str, object]:
    """The configuration of a broker that opens no port of its own."""
    return {LISTENER: {"type": "external"}}
