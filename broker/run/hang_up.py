"""SIGHUP that comes before anybody can carry it out.

Its default is to end the process, and a start may take long: a store is read, a broker is waited for. So
whoever starts a server that will reload says so first; the signal is remembered, and carried out as soon
as the server is ready.
"""

from __future__ import annotations

import signal

_came = False


def remember() -> None:
    """From now on SIGHUP does not end this process; call it in the main thread, as early as possible."""
    global _came  # noqa: PLW0603 - what a signal does belongs to the process
    _came = False
    signal.signal(signal.SIGHUP, _note)


def came() -> bool:
    """Whether one has come since."""
    return _came


def _note(*_: object) -> None:
    global _came  # noqa: PLW0603 - as above
    _came = True
