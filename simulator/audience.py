"""People in front of a fleet: who looks when, what they open and dismiss, and what their windows are worth to them.

Joins `people`, who have true interests, with devices, which show what a server sent. An item is recognised by its text,
as the server's number means nothing to the one who published it. All people that look in a tick are asked at once, in
arrays; what they do becomes feedback of their devices when it happens: an item is opened a while after it was shown.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from devices.frames import Event, Kind
from simulator.people import Fatigue, best
from simulator.results import Truth
from simulator.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from devices.frames import FeedItem
    from simulator.draws import Floats, Ints
    from simulator.fleet.spec import DeviceSpec
    from simulator.offerings import Items, Stream
    from simulator.people import People

_PLACES = 2_048
"""Items that people know of at most; the oldest is forgotten for the newest."""
_UNDER_WAY = 100_000
"""Things that people are about to do, at most."""
_ASKED = 200
"""People whose windows a sample judges, at most."""
_CATCH_UP = 5
"""Steps in which people look that one tick makes up for; with more, the process is too busy to be a model of people."""


class Viewer(Protocol):
    """A device that somebody looks at."""

    @property
    def spec(self) -> DeviceSpec:
        """Its filters and the length of its window."""

    @property
    def window(self) -> Sequence[FeedItem]:
        """What it shows, best first."""

    @property
    def lit(self) -> bool:
        """Whether there is anything to see."""

    def say_feedback(self, events: Sequence[Event], at: float) -> None:
        """Somebody did something, at a time in simulated seconds since the start."""


class _Act(NamedTuple):
    """What somebody is about to do."""

    at: float
    order: int
    person: int
    event: Event


class _Seen(NamedTuple):
    """What some people have before their eyes, as columns of one length.

    Attributes:
        who: People.
        place: Of the item on the shelf.
        rank: In the window.
        n: The server's number of the item.
    """

    who: Ints
    place: Ints
    rank: Ints
    n: Ints


class Audience:
    """People, one for each device that has one.

    Args:
        people: Who they are.
        stream: What the numbers of items mean.
        start: Unix seconds, on the clock of the people, of the start of the fleet.
        places: Items that are known at most; the memory is two bits of state times people times places.

    Attributes:
        lost: Acts and items that found no room.
    """

    def __init__(
        self, people: People, stream: Stream, *, start: float, places: int = _PLACES
    ) -> None:
        self.lost = 0
        self._people = people
        self._stream = stream
        self._start = start
        self._fatigue = Fatigue(people)
        self._shelf = Shelf(places)
        self._shown = np.zeros((people.size, places), bool)
        self._done = np.zeros((people.size, places), bool)  # opened or dismissed
        self._acts: list[_Act] = []
        self._order = count()
        self._ticked = 0.0
        self._counts = dict.fromkeys(Kind, 0)
        self._samples: list[tuple[float, float, float, float]] = []

    def publish(
        self,
        number: int,
        *texts: str | bytes,
        at: float,
        channel: str = "",
        ttl: float = 86_400.0,
    ) -> None:
        """An item of the market goes out.

        Args:
            number: Of the item in the stream.
            texts: Payload and brief; a text names one item only.
            at: When, simulated seconds since the start.
            channel: Where.
            ttl: Simulated seconds until it is over.
        """
        item = self._stream.items(np.array([number]))
        place = self._shelf.put(item, texts, channel, self._start + at, ttl)
        self._shown[:, place] = self._done[:, place] = False

    def tick(self, elapsed: float, step: float, viewers: Mapping[int, Viewer]) -> None:
        """People look, and do what they were about to do.

        Args:
            elapsed: Simulated seconds since the start.
            step: Simulated seconds in which a person looks once at most; always the same.
            viewers: Devices by person.
        """
        for _ in range(_CATCH_UP):
            if self._ticked + step > elapsed:
                break
            self._ticked += step
            looking = self._people.looking(self._start + self._ticked, step).tolist()
            self._look([who for who in looking if who in viewers], self._ticked, viewers)
        else:
            self._ticked = max(self._ticked, elapsed - step)
        self._act(elapsed, viewers)

    def sample(self, at: float, elapsed: float, viewers: Mapping[int, Viewer]) -> None:
        """Judges the windows of some people.

        Args:
            at: What the sample is to be noted under.
            elapsed: Simulated seconds since the start.
            viewers: Devices by person.
        """
        # The same people every time: a sample then differs from the last one by what happened.
        chosen = sorted(viewers)[:: max(len(viewers) // _ASKED, 1)]
        chosen = [person for person in chosen if viewers[person].lit]
        if chosen:
            self._samples.append((at, *self._worth(chosen, self._start + elapsed, viewers)))

    def truth(self) -> Truth:
        """What was sampled and counted so far."""
        at, shown, ideal, newest = zip(*self._samples, strict=True) if self._samples else ((),) * 4
        return Truth(
            at=at,
            shown=shown,
            best=ideal,
            newest=newest,
            shows=self._counts[Kind.SHOWN],
            opens=self._counts[Kind.OPENED],
            dismissals=self._counts[Kind.DISMISSED],
        )

    # ---- Looking

    def _look(self, people: Sequence[int], elapsed: float, viewers: Mapping[int, Viewer]) -> None:
        seen = self._seen(people, viewers)
        if not len(seen.who):
            return
        now = self._start + elapsed
        items = self._shelf.items(seen.place)
        tired = self._fatigue.level(seen.who, items, now)
        done = self._people.respond(seen.who, items, now, seen.rank, tired)
        fresh = done.shown & ~self._shown[seen.who, seen.place]
        self._fatigue.exposed(seen.who[done.shown], items.take(done.shown), now)
        self._shown[seen.who[done.shown], seen.place[done.shown]] = True
        acting = (done.opened | done.dismissed) & ~self._done[seen.who, seen.place]
        self._done[seen.who[acting], seen.place[acting]] = True
        for one in np.flatnonzero(fresh):
            self._will(elapsed, seen, one, Kind.SHOWN, int(seen.rank[one]))
        for one in np.flatnonzero(acting):
            then = elapsed + float(done.delay[one])
            if done.opened[one]:
                dwell = float(done.dwell[one])
                self._will(then, seen, one, Kind.OPENED)
                self._will(then + dwell, seen, one, Kind.DWELL, round(dwell))
            else:
                self._will(then, seen, one, Kind.DISMISSED)

    def _seen(self, people: Sequence[int], viewers: Mapping[int, Viewer]) -> _Seen:
        rows = [
            (who, place, rank, item.n)
            for who in people
            if viewers[who].lit
            for rank, item in enumerate(viewers[who].window)
            if (place := self._shelf.place(item.payload)) is not None
        ]
        return _Seen(*np.array(rows, np.int64).reshape(-1, 4).T)

    def _will(
        self, at: float, seen: _Seen, one: np.int64, kind: Kind, value: int | None = None
    ) -> None:
        if len(self._acts) >= _UNDER_WAY:
            self.lost += 1
            return
        event = Event(int(seen.n[one]), kind, value)
        heappush(self._acts, _Act(at, next(self._order), int(seen.who[one]), event))

    def _act(self, elapsed: float, viewers: Mapping[int, Viewer]) -> None:
        due: dict[int, list[_Act]] = {}
        while self._acts and self._acts[0].at <= elapsed:
            act = heappop(self._acts)
            due.setdefault(act.person, []).append(act)
        for person, acts in due.items():
            if person not in viewers:
                continue
            for act in acts:
                self._counts[act.event.kind] += 1
            viewers[person].say_feedback([act.event for act in acts], acts[0].at)

    # ---- Worth

    def _worth(
        self, people: Sequence[int], now: float, viewers: Mapping[int, Viewer]
    ) -> tuple[float, float, float]:
        """Openings per window to be expected if all looked now: as shown, at best, newest first.

        Of what somebody has not opened or dismissed yet; nobody does that twice.
        """
        who = np.array(people)
        seen = self._seen(people, viewers)
        seen = _Seen(*(column[~self._done[seen.who, seen.place]] for column in seen))
        shown = self._chance(seen.who, self._shelf.items(seen.place), now)
        reached = self._reached(seen.who, seen.rank) * shown
        live = self._shelf.live(now)
        items = self._shelf.items(live)
        specs = [viewers[person].spec for person in people]
        allowed = self._followed(specs, live) & ~self._done[who[:, None], live]
        chance = np.where(allowed, self._chance(who[:, None], items, now), 0.0)
        news = np.where(allowed, items.published, -np.inf)
        lengths = np.array([spec.k for spec in specs])
        return (
            float(reached.sum()) / len(people),
            self._mean(who, lengths, chance, best(chance, lengths.max())),
            self._mean(who, lengths, chance, best(news, lengths.max())),
        )

    def _chance(self, who: Ints, items: Items, now: float) -> Floats:
        """Of an item that is looked at for certain; shapes broadcast as in `people`."""
        return self._people.probability(who, items, now, tired=self._fatigue.level(who, items, now))

    def _reached(self, who: Ints, rank: Ints) -> Floats:
        """The chance that somebody who looks at the feed looks at a rank."""
        return self._people.on_screen(who, rank) * self._people.examination(rank)

    def _mean(self, who: Ints, lengths: Ints, chance: Floats, places: Ints) -> float:
        """Openings per window, of windows with these items ([people, k]) and these lengths ([people])."""
        rank = np.arange(places.shape[1])
        within = rank < lengths[:, None]
        opened = np.take_along_axis(chance, places, axis=1) * self._reached(who[:, None], rank)
        return float(np.where(within, opened, 0.0).sum()) / len(who)

    def _followed(self, specs: Sequence[DeviceSpec], places: Ints) -> NDArray[np.bool_]:
        """Which items each may get, bool [people, items]."""
        rows = {spec.follow: self._shelf.followed(spec.follow, places) for spec in specs}
        return np.array([rows[spec.follow] for spec in specs])
