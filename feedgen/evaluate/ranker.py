"""What an evaluation asks of a ranker: any object that predicts and learns.

Newest first and popularity implement this (`baselines`), so does the learned ranking, so may any
other model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from feedgen.evaluate.events import Event

Floats: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.int8]
"""0 or 1 per event."""


class Ranker(Protocol):
    """Something that says how probable it is that a shown item is opened."""

    def predict(self, events: Sequence[Event]) -> Floats:
        """Return a probability [events] for each event; never learns from them."""

    def learn(self, events: Sequence[Event], labels: Labels) -> None:
        """Learn what came of events; `labels` [events] are 0 or 1."""


@runtime_checkable
class Witness(Protocol):
    """A ranker that wants to know what is shown when it is shown, before there are labels."""

    def witness(self, events: Sequence[Event]) -> None:
        """Note events that were just predicted; their labels come later, to `learn`."""


@runtime_checkable
class TermRanker(Protocol):
    """A ranker whose prediction has a part that is the item's own, the same for every device.

    A feed that gives an item its key when it is published has that part as of then.
    """

    def predict_with_terms(self, events: Sequence[Event]) -> tuple[Floats, Floats]:
        """Return (rest [events], term [events]), logits: their sum is the whole prediction."""

    def probability(self, logits: Floats) -> Floats:
        """Return the probabilities [events] that such sums stand for."""
