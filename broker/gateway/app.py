"""`fleetfeed gateway`: on one event loop, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import TYPE_CHECKING

from broker.config import is_loopback
from broker.gateway.gateway import Gateway
from broker.run.reload import LogTarget, Reloader
from broker.run.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.config import Config
    from broker.config_layers import Resolved
    from broker.gateway.address import BrokerAddress

_GC_THRESHOLD = 20_000


def run(config: Config, address: BrokerAddress, read: Callable[[], Resolved]) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code.

    Args:
        config: The settings.
        address: Where the broker is.
        read: Looks at the settings again, on SIGHUP; only those of the log can change.

    Raises:
        StoreError: The store cannot be used, or what was pending could not be written.
        UplinkRefused: The broker refuses.
        OSError: The file of authorities cannot be read.
    """
    reloader = Reloader(config, read, LogTarget())
    if config.open is None:
        config = config.model_copy(update={"open": is_loopback(address.host)})
    with asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
        return runner.run(_serve(config, address, reloader))


def _loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop]:
    if config.loop == "asyncio":
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 (not there on every platform)

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(config: Config, address: BrokerAddress, reloader: Reloader) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = Gateway(config, address)
    starting = loop.create_task(gateway.start())
    stopping = loop.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():  # the broker is not there, and nobody waits for it any more
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return 0
    starting.result()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 20)
    registration = "open" if config.open_mode else "closed"
    supervisor = Supervisor(os.environ, gateway.store, reloader)
    supervisor.ready()
    print(  # noqa: T201 (the one line that tells a supervisor that the gateway is ready)
        f"fleetfeed: gateway at {address} (data {config.data}, {registration} registration)",
        flush=True,
    )
    await stopping
    supervisor.stopping()
    await gateway.stop()
    return 0
