"""How long a check waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds, and how long we look.

    Attributes:
        answer: For an acknowledgement, a hello, a subscription.
        grace: How long we look for a hello that must not come.
        quiet: The same, where its pause is what is checked.
        reconnect: For a device to come (back).
        longest: The longest that a case waits for one thing; what takes longer is not applicable.
        pauses: So many pauses between tries are enough if they look right.
        backoff: Seconds for all of them.
        hello_again: Earliest and latest time after which a hello that nobody answers is repeated: 30 s, up to half
            as much again, and some to see it; None = do not wait that long.
        noise: By how much a pause may be mismeasured.
    """

    answer: float = 5.0
    grace: float = 0.3
    quiet: float = 10.0
    reconnect: float = 60.0
    longest: float = 75.0
    pauses: int = 4
    backoff: float = 75.0
    hello_again: tuple[float, float] | None = (29.0, 62.0)
    noise: float = 0.05


FULL = Limits()
FAST = Limits(3.0, 0.15, 2.0, 30.0, 20.0, 3, 25.0, hello_again=None)
