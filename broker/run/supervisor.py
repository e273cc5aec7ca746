"""Joins a running server with whoever supervises it: the service manager, and the operator's SIGHUP."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

from broker.run import hang_up
from broker.run import notify as words
from broker.run.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.run.reload import Reloader
    from feedgen.store.base import Store

logger = logging.getLogger(__name__)


class Supervisor:
    """Tells the service manager how it stands, and reloads when it is asked to.

    Args:
        environ: Of the process: whom to tell, and how often.
        store: An open store, which must answer.
        reloader: What SIGHUP calls for.
    """

    def __init__(self, environ: Mapping[str, str], store: Store, reloader: Reloader) -> None:
        self._notify = words.from_environment(environ)
        self._reloader = reloader
        self._loop = asyncio.get_running_loop()
        seconds = words.watchdog_seconds(environ)
        self._watchdog = None if seconds is None else Watchdog(self._notify, store, seconds)

    def ready(self) -> None:
        """It serves: from now on it is watched, and can be reloaded."""
        self._loop.add_signal_handler(signal.SIGHUP, self.hang_up)
        self._notify(words.READY, "STATUS=Serving")
        if self._watchdog is not None:
            self._watchdog.start()
        if hang_up.came():
            self.hang_up()

    def stopping(self) -> None:
        """It ends. Further wishes to reload come too late."""
        if self._watchdog is not None:
            self._watchdog.stop()
        self._notify(words.STOPPING, "STATUS=Stopping")

    def hang_up(self) -> None:
        """On SIGHUP: look at the configuration again."""
        self._notify(*words.reloading(), "STATUS=Reloading")
        try:
            refused = self._reloader.reload().problems
        except Exception:
            # A defect of ours; what serves must not end over it.
            logger.exception("the configuration could not be reloaded")
            refused = ("see the log",)
        status = f"Serving; not reloaded: {refused[0]}" if refused else "Serving"
        self._notify(words.READY, f"STATUS={status}")
