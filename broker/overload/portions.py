"""How much is done at a time, found out by the time that it takes.

What takes long makes everything else late: urgent items wait for its end. What a row costs is not known
beforehand, and differs a hundredfold: to refuse an item takes a fraction of a microsecond, to score it ten,
a frame of its own fifty. So a portion that took too long makes the next ones smaller at once, in proportion;
one that took little although there was more to do doubles them. A fixed bound for the dearest case was
rejected: it would cut the common one, one item for all devices, into crumbs.
"""

from __future__ import annotations

AIM = 0.008
"""Seconds that a portion should take; half as long, and up to twice as long, is well, too. To cut what takes a
little longer would leave a second portion with little in it, which costs nearly as much as a whole one."""


class Portion:
    """The size of the next portion.

    Args:
        least: Rows; below, what a portion costs besides its rows would weigh more than they do.
        most: Rows that are never exceeded, and where it begins.

    Attributes:
        rows: That the next portion may have.
    """

    __slots__ = ("_least", "_most", "rows")

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most
        self.rows = most

    def took(self, seconds: float, *, more: bool) -> None:
        """One portion is done.

        Args:
            seconds: That it took, of this thread's own time: what neighbours on the machine take away is
                no reason for smaller portions.
            more: Whether it left anything to do. One that had little to do says nothing of large ones.
        """
        if seconds > 2 * AIM:
            self.rows = max(int(self.rows * AIM / seconds), self._least)
        elif more and seconds < AIM / 2:
            self.rows = min(self.rows * 2, self._most)
