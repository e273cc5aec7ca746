"""Work that goes on beside other work, and the faults of several at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator


@contextlib.asynccontextmanager
async def background(*works: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """What goes on until this ends; what fails there ends this."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(work) for work in works]
        try:
            yield
        finally:
            for task in running:
                task.cancel()


def leaves(group: BaseExceptionGroup[BaseException] | None) -> Iterator[BaseException]:
    """The single faults in a group of groups."""
    for one in group.exceptions if group is not None else ():
        if isinstance(one, BaseExceptionGroup):
            yield from leaves(one)
        else:
            yield one
