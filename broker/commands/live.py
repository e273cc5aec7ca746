"""What `fleetfeed watch` does: a device client whose screen is the terminal."""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import time
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table
from rich.text import Text

from broker.commands import shell
from broker.commands.reaching import fail_to_connect, refused
from broker.commands.shell import Failure
from devices.client import FeedClient, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from broker.commands.reaching import Server
    from devices.frames import FeedItem

_PRIORITIES = ("low", "", "high", "urgent")
_STYLES = ("dim", "", "bold", "bold red")
_TICK = 1.0
"""Seconds between two pictures without news: lifetimes run down."""


def watch(server: Server, *, as_json: bool, **client: Any) -> None:
    """Show a device's window until SIGINT or SIGTERM: live on a terminal, or a JSON line per change.

    Args:
        server: where to connect.
        as_json: print JSON lines.
        client: the other arguments of `FeedClient`.

    Raises:
        Failure: no server there, or it refused.
    """
    _reach(server)
    errors: queue.SimpleQueue[Exception] = queue.SimpleQueue()
    feed = FeedClient(
        **client,
        host=server.host,
        port=server.port,
        username=server.username,
        password=server.password,
        tls=server.tls,
        on_error=errors.put,
    )
    # SIGTERM as Ctrl-C: the cursor comes back and the server hears a bye.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), feed:
        if as_json:
            _follow(feed, server, errors, lambda: _print_line(feed), always=False)
        else:
            with Live(console=shell.console(), auto_refresh=False) as live:
                _follow(
                    feed,
                    server,
                    errors,
                    lambda: live.update(_now(feed), refresh=True),
                    always=True,
                )


def _reach(server: Server) -> None:
    """Try once: the client itself would try for ever, as a device should and a command should not."""
    try:
        with socket.create_connection((server.host, server.port), timeout=10) as connection:
            if server.tls is not None:
                server.tls.wrap_socket(connection, server_hostname=server.host).close()
    except (OSError, ValueError) as error:
        fail_to_connect(server, error)


def _follow(
    feed: FeedClient,
    server: Server,
    errors: queue.SimpleQueue[Exception],
    show: Callable[[], None],
    *,
    always: bool,
) -> None:
    """Show the window whenever it has changed; with `always` also when nothing has for a while."""
    while True:
        with contextlib.suppress(queue.Empty):
            _consider(errors.get_nowait(), feed, server)
        if feed.wait_for_change(_TICK) or always:
            show()


def _consider(error: Exception, feed: FeedClient, server: Server) -> None:
    """End over what the client reports, but not while a server that showed us a window restarts."""
    if isinstance(error, RefusedError):
        if error.code is not None or feed.position == (0, 0):
            raise refused(server, error.code)
        return
    raise Failure(f"the feed of {feed.device} cannot be watched: {error}")


def _print_line(feed: FeedClient) -> None:
    epoch, seq = feed.position
    window = [
        {"n": item.n, "priority": item.priority, "expires": item.expires, "payload": item.payload}
        for item in feed.window
    ]
    shell.print_json({"epoch": epoch, "seq": seq, "window": window})


def _now(feed: FeedClient) -> Table:
    return picture(feed.device, feed.position, feed.window, time.time())


def picture(
    device: str, position: tuple[int, int], window: Sequence[FeedItem], now: float
) -> Table:
    """Draw a window, best item first; what has expired and awaits its removal is struck out."""
    where = (
        "waiting for the first frame" if position[0] == 0 else "epoch {}, seq {}".format(*position)
    )
    table = Table("#", "item", "for", title=f"{device}  ·  {where}", expand=True, box=None)
    table.columns[1].ratio = 1
    for rank, item in enumerate(window, start=1):
        over = bool(item.expires) and item.expires <= now
        style = "strike dim" if over else _STYLES[item.priority]
        mark = f"{_PRIORITIES[item.priority]}: " if _PRIORITIES[item.priority] else ""
        table.add_row(
            str(rank),
            Text(f"{mark}{shell.readable(item.payload)}", style),
            "" if not item.expires else lifetime(item.expires - now),
        )
    return table


def lifetime(seconds: float) -> str:
    """Say how long an item still lives, in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
