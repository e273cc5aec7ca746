"""`fleetfeed serve`: the plugin inside an amqtt broker, on one event loop, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from typing import TYPE_CHECKING

from amqtt.broker import Broker

from broker.amqtt_seam import external_listener
from broker.run import collector, logs
from broker.run.reload import Reloader, ServerTarget
from broker.run.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.config import Config
    from broker.config_layers import Resolved
    from broker.plugin import FeedPlugin


def run(config: Config, read: Callable[[], Resolved]) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code.

    Args:
        config: The settings.
        read: Looks at them again, on SIGHUP.

    Raises:
        StoreError: The store cannot be used.
        OSError: The address cannot be bound.
    """
    _allow_files()
    with asyncio.Runner(loop_factory=_loop_factory(config)) as runner:
        return runner.run(_serve(config, read))


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


async def _serve(config: Config, read: Callable[[], Resolved]) -> int:
    logs.quiet_libraries()
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
    server = plugin.server
    assert server is not None
    supervisor = Supervisor(os.environ, server.store, Reloader(config, read, ServerTarget(server)))
    collector.settle()
    ports = [
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in server.addresses
    ]
    if config.tls.bind is not None:
        ports[-1] += " with TLS"
    registration = "open" if config.open_mode else "closed"
    page = f", page {server.web.url}" if server.web is not None else ""
    node = f"node {server.node.name}, " if server.node is not None else ""
    supervisor.ready()
    print(  # noqa: T201 (the one line that tells a supervisor that the server is ready)
        f"fleetfeed: listening on {' and '.join(ports)} ({node}data {config.data}, {registration} registration{page})",
        flush=True,
    )
    await stop.wait()
    supervisor.stopping()
    await server.drain(hurry)
    await broker.shutdown()
    return plugin.exit_code()


def _broker_config(config: Config) -> dict[str, object]:
    plugins = {"broker.plugin.FeedPlugin": {"embedded": config}}
    return {"listeners": external_listener(), "plugins": plugins}
