"""`fleetfeed serve`: the plugin inside an amqtt broker, on one event loop, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import signal
import warnings
from typing import TYPE_CHECKING

from amqtt.broker import Broker

from broker.amqtt_seam import external_listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.config import Config
    from broker.plugin import FeedPlugin

_GC_THRESHOLD = 20_000


def run(config: Config) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code.

    Raises:
        StoreError: The store cannot be used.
        OSError: The address cannot be bound.
    """
    _allow_files()
    with asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
        return runner.run(_serve(config))


def _allow_files() -> None:
    """Takes as many open files as the system grants: a connection needs one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _loop_factory(config: Config) -> Callable[[], asyncio.AbstractEventLoop]:
    if config.loop == "asyncio":
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 (not there on every platform)

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(config: Config) -> int:
    # amqtt writes a line per packet and connection; its warnings are enough.
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of amqtt's own $SYS plugin
        broker = Broker(_broker_config(config))
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        """The first ends the service in its own time, the second at once."""
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await broker.start()
    plugin: FeedPlugin = broker.plugins_manager.get_plugin("FeedPlugin")
    if plugin.failure is not None:
        await broker.shutdown()
        raise plugin.failure
    assert plugin.server is not None
    # What is there now stays: the collector need not walk it again, and what comes and goes with
    # connections and items has no cycles worth walking for every few hundred objects.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 20)
    ports = [
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        for host, port in plugin.server.addresses
    ]
    if config.tls.bind is not None:
        ports[-1] += " with TLS"
    registration = "open" if config.open_mode else "closed"
    node = f"node {plugin.server.node.name}, " if plugin.server.node is not None else ""
    print(  # noqa: T201 (the one line that tells a supervisor that the server is ready)
        f"fleetfeed: listening on {' and '.join(ports)} ({node}data {config.data}, {registration} registration)",
        flush=True,
    )
    await stop.wait()
    await plugin.server.drain(hurry)
    await broker.shutdown()
    return plugin.exit_code()


def _broker_config(config: Config) -> dict[str, object]:
    plugins: dict[str, object] = {"broker.plugin.FeedPlugin": {"embedded": config}}
    if config.topics.enabled and config.topics.sys_interval:
        plugins["amqtt.plugins.sys.broker.BrokerSysPlugin"] = {
            "sys_interval": config.topics.sys_interval
        }
    return {"listeners": external_listener(), "plugins": plugins}
