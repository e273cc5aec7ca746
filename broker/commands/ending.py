"""What runs for a while and is asked to end has begun things that must end with it: servers, clients, files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal


def end_at(*signals: signal.Signals) -> None:
    """Cancels the running task at the first of these signals.

    Further ones change nothing, as it is ending already: cancelled again, it would leave behind what it was about
    to end. Supervisors and `timeout` do send them twice, to the process and to its group.
    """
    task = asyncio.current_task()
    assert task is not None
    asked = False

    def end() -> None:
        nonlocal asked
        if not asked:
            asked = True
            task.cancel()

    for each in signals:
        asyncio.get_running_loop().add_signal_handler(each, end)
