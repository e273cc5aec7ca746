"""Futures that resolve in the order in which they were asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, eq=False)
class Turn:
    """A future, the steps that it waits for, and the first error or result of these."""

    future: asyncio.Future[Any]
    steps: int
    result: Any = None
    is_free: bool = False

    def resolve(self) -> None:
        """Give the future what has come out."""
        if self.future.done():
            return
        if isinstance(self.result, Exception):
            self.future.set_exception(self.result)
        else:
            self.future.set_result(self.result)


class Turns:
    """Futures in order, whatever is done first: the one of a step on another server waits."""

    def __init__(self) -> None:
        self._waiting: deque[Turn] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, steps: int) -> Turn:
        """A future that waits for this many steps, and for all futures before."""
        loop = asyncio.get_running_loop()
        turn = Turn(loop.create_future(), steps)
        self._waiting.append(turn)
        if not steps:
            loop.call_soon(self._settle)
        return turn

    def free(self) -> Turn:
        """A future that waits for one step, and for nobody."""
        return Turn(asyncio.get_running_loop().create_future(), 1, is_free=True)

    def done(self, turn: Turn, result: Any) -> None:
        """One step is done."""
        turn.steps -= 1
        if turn.result is None:
            turn.result = result
        if turn.is_free:
            turn.resolve()
        elif not turn.steps and turn is self._waiting[0]:
            self._settle()

    def _settle(self) -> None:
        while self._waiting and not self._waiting[0].steps:
            self._waiting.popleft().resolve()
