"""`fleetfeed gateway`: on one event loop, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from broker.config import is_loopback
from broker.gateway.gateway import Gateway
from broker.run import collector
from broker.run.reload import GatewayTarget, Reloader
from broker.run.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.config import Config
    from broker.config_layers import Resolved
    from broker.gateway.address import BrokerAddress


def run(config: Config, address: BrokerAddress, read: Callable[[], Resolved]) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code.

    Args:
        config: The settings.
        address: Where the broker is.
        read: Looks at the settings again, on SIGHUP.

    Raises:
        StoreError: The store cannot be used, or what was pending could not be written.
        UplinkRefused: The broker refuses.
        OSError: The file of authorities cannot be read.
    """
    with asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
        return runner.run(_serve(config, address, read))


def _loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop]:
    if config.loop == "asyncio":
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 (not there on every platform)

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _opened(config: Config, address: BrokerAddress) -> Config:
    """The settings, with open registration said: where it is not, the broker's address decides."""
    if config.open is not None:
        return config
    return config.model_copy(update={"open": is_loopback(address.host)})


async def _serve(config: Config, address: BrokerAddress, read: Callable[[], Resolved]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = Gateway(_opened(config, address), address)
    starting = loop.create_task(gateway.start())
    stopping = loop.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():  # the broker is not there, and nobody waits for it any more
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 0
    starting.result()
    collector.settle()
    registration = "open" if gateway.config.open_mode else "closed"
    page = f", page {gateway.web.url}" if gateway.web is not None else ""
    reloader = Reloader(config, read, GatewayTarget(gateway))
    supervisor = Supervisor(os.environ, gateway.store, reloader)
    supervisor.ready()
    print(  # noqa: T201 (the one line that tells a supervisor that the gateway is ready)
        f"fleetfeed: gateway at {address} (data {config.data}, {registration} registration{page})",
        flush=True,
    )
    await stopping
    supervisor.stopping()
    await gateway.stop()
    return 0
