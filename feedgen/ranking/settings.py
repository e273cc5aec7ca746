"""What the learned ranking may be told, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from feedgen.ranking import balance, ladder, monitor
from feedgen.ranking.diversity import DEFAULTS, Repeat
from feedgen.ranking.labelled import Settings as LabelSettings
from feedgen.ranking.ladder import Rung
from feedgen.ranking.model import ModelSettings
from feedgen.ranking.value import Settings as ValueSettings


@dataclass(frozen=True, slots=True)
class Worth:
    """What outcomes are worth, in openings.

    Attributes:
        open: of an opening.
        dismiss: what a dismissal costs.
        dwell: of being looked at for `dwell_seconds` or longer.
        dwell_seconds: see `dwell`.
    """

    open: float = 1.0
    dismiss: float = 1.0
    dwell: float = 0.25
    dwell_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class RankingSettings:
    """The learned ranking.

    Attributes:
        value: key arithmetic, and the popularity that is fallen back to.
        worth: of outcomes.
        bound: the value of an item counts as at most so many times that of an average one, and at
            least as one over it.
        explore: how much of its uncertainty is sampled; 0 explores nothing. A window shows the best
            few of hundreds of draws, so a whole posterior each would show mostly luck.
        fields: attributes of devices that are features, at most eight.
        holdout: share of devices that stay on newest first for good, to compare with.
        refresh: seconds between two takings over of what was learned into what is served.
        batch: outcomes learned in one turn at most; 400 take some ten to twenty milliseconds.
        seed: of what is drawn.
        repeats: how much repetition tires within a window: channel, publisher, first two tags.
        model: of every head.
        labels: how feedback becomes outcomes.
        publishers: how exposure is balanced over publishers.
        channels: likewise over channels.
        monitor: what is watched.
        ladder: when another rung serves.
        start: the rung that serves at first: what knows nothing has to win its place.
    """

    value: ValueSettings = field(default_factory=ValueSettings)
    worth: Worth = field(default_factory=Worth)
    bound: float = 4.0
    explore: float = 0.3
    fields: tuple[str, ...] = ("class", "model", "region")
    holdout: float = 0.01
    refresh: float = 5.0
    batch: int = 2000
    seed: int = 0
    repeats: tuple[Repeat, ...] = DEFAULTS
    model: ModelSettings = field(default_factory=ModelSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    publishers: balance.Settings = field(default_factory=balance.Settings)
    channels: balance.Settings = field(
        default_factory=lambda: balance.Settings(boost=0.0, cap=0.25)
    )
    monitor: monitor.Settings = field(default_factory=monitor.Settings)
    ladder: ladder.Settings = field(default_factory=ladder.Settings)
    start: Rung = Rung.POPULARITY
