"""Commands that are asked to end."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from broker.commands.ending import end_at


async def test_who_is_asked_to_end_again_while_ending_still_ends_in_order() -> None:
    ended = []

    async def running() -> None:
        end_at(signal.SIGTERM)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            ended.append("began")
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(10):
                await asyncio.sleep(0)
            await asyncio.to_thread(ended.append, "did")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(running())
    assert ended == ["began", "did"]
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
