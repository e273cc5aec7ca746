"""What `fleetfeed top` does: it listens, makes rounds of what it hears, and shows them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.live import Live

from broker.commands import shell
from broker.commands.shell import Failure
from broker.commands.top_listener import Listener
from broker.commands.top_rounds import FEED, SYS, Rounds, figures, gateways
from broker.commands.top_state import Scene
from broker.commands.top_view import page, picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from broker.commands.reaching import Server

PATIENCE = 10.0
"""Seconds after which a server that has told nothing probably never will."""

_SOON = 1.0
"""Seconds within which retained messages have come."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at.

    Attributes:
        prefix: What stands before all topics of the feed.
        gateway: Of several gateways this one; None = the first.
        interval: Seconds between two pictures or lines.
    """

    prefix: str
    gateway: str | None
    interval: float


def top(server: Server, wanted: Wanted, *, once: bool, as_json: bool) -> None:
    """Show a server's figures until SIGINT or SIGTERM, or once.

    Raises:
        Failure: no server there, it refused, or it tells nothing.
    """
    # SIGTERM as Ctrl-C: the screen comes back as it was.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    watch = Watch(server, wanted)
    with contextlib.suppress(KeyboardInterrupt), watch.listener.connected():
        if as_json:
            with _until_nobody_reads():
                _print_lines(watch, wanted.interval, once=once)
        elif once or not sys.stdout.isatty():
            watch.await_figures()
            console = shell.console()
            console.print(page(watch.scene(), console.width))
        else:
            _draw(watch, wanted.interval)


@contextlib.contextmanager
def _until_nobody_reads() -> Iterator[None]:
    """`… | head` is no fault: end, and have Python not complain of what it could not write."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _draw(watch: Watch, interval: float) -> None:
    console = shell.console()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(picture(watch.scene(), *console.size), refresh=True)
            watch.wait(interval)


def _print_lines(watch: Watch, interval: float, *, once: bool) -> None:
    watch.await_figures()
    due = time.monotonic()
    shell.print_json(watch.line())
    while not once:
        due += interval
        while (left := due - time.monotonic()) > 0:
            watch.wait(left)
        shell.print_json(watch.line())


class Watch:
    """What one server has told by now.

    Args:
        server: Where to connect.
        wanted: What to look at.

    Attributes:
        listener: The connection.
    """

    def __init__(self, server: Server, wanted: Wanted) -> None:
        self.listener = Listener(server)
        self._server = server
        self._wanted = wanted
        self._rounds = Rounds()
        self._gateway = wanted.gateway or ""
        self._others: tuple[str, ...] = ()
        self._began = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Return when a round has come, after these seconds at most.

        Raises:
            Failure: the server does not let us in any more.
        """
        heard = self.listener.hear(seconds)
        if heard is not None:
            self._choose_gateway(heard.texts)
            told = figures(heard.texts, self._wanted.prefix, self._gateway)
            if told:
                self._rounds.add(told, time.monotonic(), dated=heard.dated)
        if not self._has_feed:
            # Not before: who asks our own server for it without the right to is counted there.
            self.listener.also(f"{self._wanted.prefix}feed/sys/#")
        self.listener.check()

    def await_figures(self) -> None:
        """Wait until something was told.

        Raises:
            Failure: nothing is.
        """
        for tried in range(round(PATIENCE / _SOON)):
            self.wait(_SOON)
            if len(self._rounds) or (self.listener.closed and tried):
                break
        if not len(self._rounds):
            raise Failure(f"{self._server} {self._why_nothing}")
        if not self._has_feed:
            self.wait(_SOON)  # for that of a gateway

    def scene(self) -> Scene:
        """This moment."""
        hopeless = self.listener.closed or time.monotonic() - self._began > PATIENCE
        return Scene(
            str(self._server),
            self._rounds,
            time.monotonic(),
            connected=self.listener.online,
            gateway=self._gateway,
            others=self._others,
            advice=f"{self._server} {self._why_nothing}" if hopeless else "",
        )

    def line(self) -> dict[str, Any]:
        """This moment as one JSON object."""
        scene, rounds = self.scene(), self._rounds
        rates = {name: rounds.rate(name) for name in sorted(rounds.numbers)}
        return {
            "time": round(time.time(), 3),
            "server": scene.where,
            "gateway": scene.gateway or None,
            "version": rounds.version,
            "connected": scene.connected,
            "age": None if scene.age is None else round(scene.age, 3),
            "figures": {name: rounds.numbers[name] for name in rates},
            "per_second": {n: round(rate, 3) for n, rate in rates.items() if rate is not None},
        }

    @property
    def _has_feed(self) -> bool:
        return any(name.startswith(FEED) for name in self._rounds.numbers)

    @property
    def _why_nothing(self) -> str:
        """Completes a sentence about the server."""
        if self.listener.closed:
            return (
                "does not let us read $SYS: come as an operator, with --username and --password "
                "(fleetfeed user add NAME --operator)"
            )
        return (
            "tells nothing below $SYS: its setting topics.sys_interval may be 0, or it is no broker "
            "that tells what Mosquitto does"
        )

    def _choose_gateway(self, texts: Mapping[str, str]) -> None:
        """The broker's own feed comes first, then the first gateway by name."""
        names = gateways(texts, self._wanted.prefix)
        if self._wanted.gateway is None:
            own = f"{SYS}{FEED}version" in texts
            self._gateway = "" if own or not names else names[0]
        self._others = tuple(name for name in names if name != self._gateway)
