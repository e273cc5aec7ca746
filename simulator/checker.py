"""The judge: from what publishers, devices and the server say, whether every promise of the protocol was kept.

Pure and independent of the server: it knows what was published, acknowledged, received and dismissed, and derives what
that allows. It never ranks: where a window is full, what is missing may have been worse than what is there, except
that nothing that is not urgent stands in for what is.

How it proves the guarantees (the protocol, *Guarantees*):

- G1, G3: at rest, every acknowledged item that a device follows and that is not over is in its feed, or the feed is full,
  or the item is too long for the device, was dismissed there, lost its collapse contest, or is kept out as poison. If
  the item once stood in that window its absence is a silent loss (G3), otherwise it was never offered (G1).
- G2: at rest, every device shows its feed, within a time.
- G4: a position (epoch, seq) is never used for two frames, epochs never fall, an item number never names two items, what
  was dismissed stays away, and messages that are sent twice change nothing.
- G5: the server's memory does not grow with what devices did not read.
- G6: no device gets a frame of another, and a healthy one is served in time, whatever its neighbours do.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING

from devices.frames import BadFrame, Delta, Put, Snapshot, decode_frame
from devices.registry import covers
from devices.replica import Received
from simulator.facts import Content, Finding, History, Key, Publication, ServerClock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from devices.frames import FeedItem, Frame
    from simulator.facts import DeviceAtRest, Window

URGENT = 3

_GRACE = 2.0
"""Seconds after its end in which an item may still be shown: expiry is the work of a timer."""
_SHORT = 16


@dataclass(slots=True)
class _Device:
    """What a device has seen and said.

    Attributes:
        epoch: The highest of any frame.
        frames: (epoch, seq) to a digest of the frame.
        seen: Keys that it held at some time.
        dismissed: Item numbers that it dismissed.
        gone: Those of them that then were away although they would have had a place.
        profiles: What it said of itself, oldest first: filters, attributes, acknowledged.
        log: What it notes; evidence.
    """

    epoch: int = 0
    frames: dict[tuple[int, int], bytes] = field(default_factory=dict)
    seen: set[Key] = field(default_factory=set)
    dismissed: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    profiles: list[_Said] = field(default_factory=list)
    log: Collection[str] = ()

    @property
    def last_profile(self) -> int | None:
        """The place of the last profile that was acknowledged."""
        places = [place for place, said in enumerate(self.profiles) if said.acknowledged]
        return places[-1] if places else None


@dataclass(slots=True)
class _Said:
    follow: frozenset[str]
    attributes: Mapping[str, object]
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class _Live:
    """The possible contents of a key now; `certain` where there is one and it is surely not over."""

    possible: tuple[Publication, ...]
    certain: Publication | None


class Checker:
    """Collects facts, and says at rest what contradicts the protocol.

    Times are true Unix seconds. What can be judged at once becomes a finding at once; `take` hands them out.

    Args:
        clock: What the server's clock says at such a time.
    """

    def __init__(self, clock: ServerClock) -> None:
        self._clock = clock
        self._histories: dict[Key, History] = {}
        self._contents: dict[str | bytes, Content] = {}
        self._devices: defaultdict[str, _Device] = defaultdict(_Device)
        self._names: dict[int, Key] = {}
        self._findings: list[Finding] = []

    def take(self) -> list[Finding]:
        """The findings since the last call."""
        found, self._findings = self._findings, []
        return found

    def report(self, finding: Finding) -> None:
        """Something that its witness could judge alone."""
        self._findings.append(finding)

    # ---- Publishers

    def sent(self, content: Content, at: float, sender: str = "") -> Publication:
        """A content is sent for the first time; the caller keeps the answer for `acknowledged`."""
        publication = Publication(content, at, sender=sender)
        self._histories.setdefault(content.key, History()).publications.append(publication)
        if not content.retract:
            self._contents[content.payload] = content
            if content.brief is not None:
                self._contents[content.brief] = content
        return publication

    def acknowledged(self, publication: Publication, at: float) -> None:
        """PUBACK or PUBREC has come, the first for this content."""
        if publication.acknowledged is None:
            publication.acknowledged = at

    def current(self, now: float, margin: float) -> list[Content]:
        """Contents that surely are the present ones of their keys, and for `margin` seconds more.

        To publish one of them again must change nothing.
        """
        return [
            certain.content
            for history in self._histories.values()
            if (certain := history.certain) is not None
            and certain.surely_lives(self._clock, now, margin)
        ]

    def may_end(self, n: int, now: float, margin: float) -> bool:
        """Whether an item may end within `margin` seconds."""
        key = self._names.get(n)
        certain = None if key is None else self._histories[key].certain
        return certain is None or not certain.surely_lives(self._clock, now, margin)

    # ---- Devices

    def watch(self, device: str, log: Collection[str]) -> None:
        """What a device notes of itself, now and later, is evidence of what it finds."""
        self._devices[device].log = log

    def frame(
        self,
        device: str,
        topic: str,
        data: bytes,
        received: Received | None,
        *,
        late: bool = False,
    ) -> None:
        """A device received a PUBLISH.

        Args:
            device: Its id.
            topic: Of the PUBLISH.
            data: Its payload.
            received: What the device's replica made of it; None if it was not asked.
            late: It came on a connection that the device has already replaced by another, or it repeats what a
                resumed session did not acknowledge: its epoch may be over.
        """
        known = self._devices[device]
        if topic != f"f/{device}":
            self._find("G6", f"{device} received a publish on {topic}", data.hex())
            return
        try:
            frame = decode_frame(data)
        except BadFrame as error:
            self._find("wire", f"{device} received what is no frame: {error}", data.hex())
            return
        if frame is None:
            self._find("wire", f"{device} received a frame of no known type", data.hex())
            return
        if received is Received.IMPOSSIBLE:
            self._find("wire", f"{device} received an impossible op", str(frame), *known.log)
        self._position(device, known, frame, data, late=late)
        for item in items_of(frame):
            key = self._named(device, item.n, item.payload)
            if key is not None:
                known.seen.add(key)

    def _position(
        self, device: str, known: _Device, frame: Frame, data: bytes, *, late: bool
    ) -> None:
        place = frame.epoch, frame.seq
        digest = blake2b(data, digest_size=16).digest()
        if known.frames.setdefault(place, digest) != digest:
            sentence = f"{device} received two frames as {place[0]}.{place[1]}"
            self._find("G4", sentence, str(frame), *known.log)
        if frame.epoch < known.epoch and not late:
            sentence = f"{device} went from epoch {known.epoch} back"
            self._find("G4", sentence, str(frame), *known.log)
        known.epoch = max(known.epoch, frame.epoch)

    def _named(self, who: str, n: int, payload: str | bytes) -> Key | None:
        """The key of an item number; the text tells."""
        content = self._contents.get(payload)
        if content is None:
            self._find("feed", f"{who} shows item {n}, which nobody published", repr(payload))
            return None
        if self._names.setdefault(n, content.key) != content.key:
            self._find("G4", f"item number {n} names {self._names[n]} and {content.key}", who)
        return content.key

    def dismissed(self, device: str, n: int) -> None:
        """A device has sent that an item was dismissed."""
        self._devices[device].dismissed.add(n)

    def profile(
        self, device: str, follow: Sequence[str], attributes: Mapping[str, object]
    ) -> Callable[[], None]:
        """A device says all that it follows and is; to be called when that is acknowledged."""
        said = _Said(frozenset(follow), dict(attributes))
        self._devices[device].profiles.append(said)

        def acknowledged() -> None:
            said.acknowledged = True

        return acknowledged

    # ---- At rest

    @staticmethod
    def diverged(devices: Sequence[DeviceAtRest]) -> list[Finding]:
        """G2: devices that do not show their feed."""
        return [
            Finding(
                "G2",
                f"{device.device} does not show its feed",
                (
                    f"shows {_short(device.shown)}",
                    f"feed  {_short(device.feed or ())}",
                    *device.evidence,
                ),
            )
            for device in devices
            if device.feed is not None and device.feed != device.shown
        ]

    def judge(
        self, devices: Sequence[DeviceAtRest], now: float, barred: AbstractSet[tuple[str, int]]
    ) -> list[Finding]:
        """What is wrong with these feeds now, as to G1, G3, G4 and what a feed may show.

        Changes nothing, so that it may be asked again when the server has had more time.

        Args:
            devices: All that are to be looked at.
            now: When the server said what the feeds are.
            barred: Device and number of every item that the server says it keeps out: dismissed, or poison.
        """
        live = self._live(now)
        found = []
        for device in devices:
            if device.feed is None:
                sentence = f"the server has no feed for {device.device}"
                found.append(Finding("G2", sentence, device.evidence))
                continue
            found += self._wrongly_shown(device, device.feed, live)
            found += self._profile_kept(device)
            kept_out = {n for name, n in barred if name == device.device}
            found += self._missing(device, device.feed, live, now, kept_out)
        return found

    def poisoned(self, barred: AbstractSet[tuple[str, int]]) -> int:
        """How many of the items that the server keeps out were not dismissed by their device."""
        return sum(n not in self._devices[device].dismissed for device, n in barred)

    def settle(self, devices: Sequence[DeviceAtRest], now: float) -> None:
        """Remembers what these feeds prove: what has stood there, and which dismissals took effect."""
        live = self._live(now)
        for device in devices:
            known = self._devices[device.device]
            shown = {n for n, _ in device.feed or ()}
            known.seen |= {self._names[n] for n in shown if n in self._names}
            present = {
                n
                for n in known.dismissed - shown
                if (key := self._names.get(n)) in live
                and live[key].certain is not None
                and self._eligible(device, live[key].certain)
            }
            if len(shown) < device.k:
                known.gone |= present
            del known.profiles[: known.last_profile or 0]

    def _live(self, now: float) -> dict[Key, _Live]:
        clock, present = self._clock, self._clock.span(now)
        live = {}
        for key, history in self._histories.items():
            possible = tuple(
                each
                for each in history.possible
                if not each.content.retract
                and each.expires(clock, now).high + _GRACE >= present.low
            )
            certain = history.certain
            if certain is not None and not certain.surely_lives(clock, now):
                certain = None
            if possible:
                live[key] = _Live(possible, certain)
        return live

    def _wrongly_shown(
        self, device: DeviceAtRest, feed: Window, live: Mapping[Key, _Live]
    ) -> Iterator[Finding]:
        name = device.device
        gone = self._devices[name].gone
        contests: dict[str, Key] = {}
        if len(feed) > device.k:
            yield Finding("feed", f"{name} shows {len(feed)} items, k is {device.k}")
        for n, payload in feed:
            key = self._named(f"the feed of {name}", n, payload)
            if key is None:
                continue
            content = self._contents[payload]
            present = [one.content for one in live[key].possible] if key in live else []
            if content not in present:
                yield Finding(
                    "G1",
                    f"{name} shows item {n}, {key}, which is over, retracted or superseded",
                    (
                        f"shown: {content}",
                        *(f"possible: {one}" for one in present),
                        *device.evidence,
                    ),
                )
            elif content.shown_in(device.capacity) != payload:
                yield Finding(
                    "feed",
                    f"{name} shows the wrong form of item {n}",
                    (f"capacity {device.capacity}", str(content)),
                )
            elif not self._reaches(device, content):
                yield Finding(
                    "feed",
                    f"{name} shows item {n}, {key}, which is not for it",
                    (f"follows {device.follow}, is {dict(device.attributes)}", str(content)),
                )
            if n in gone:
                yield Finding("G4", f"{name} shows item {n}, {key}, again after a dismissal")
            if content.collapse and contests.setdefault(content.collapse, key) != key:
                yield Finding(
                    "feed",
                    f"{name} shows two items of the collapse key {content.collapse}",
                    (str(contests[content.collapse]), str(key)),
                )

    def _missing(
        self,
        device: DeviceAtRest,
        feed: Window,
        live: Mapping[Key, _Live],
        now: float,
        kept_out: AbstractSet[int],
    ) -> Iterator[Finding]:
        """Items that should stand in a feed."""
        known = self._devices[device.device]
        held = {key for n, _ in feed if (key := self._names.get(n)) is not None}
        # None stands for numbers that no device was ever told.
        away = {self._names.get(n) for n in known.dismissed | kept_out}
        told = set(self._names.values())
        full = len(feed) >= device.k
        lowest = min((self._contents[text].priority for _, text in feed if text in self._contents),
                     default=URGENT)  # fmt: skip
        for key, state in live.items():
            certain = state.certain
            if certain is None or key in held or key in away:
                continue
            if None in away and key not in told:
                continue
            urgent = certain.content.priority == URGENT > lowest
            if full and not urgent:
                continue
            if not self._eligible(device, certain) or self._outdone(device, certain, live, now):
                continue
            what = "lost" if key in known.seen else "was never offered"
            who = f"follows {device.follow}, is {dict(device.attributes)}"
            window = f"feed of {len(feed)} items, k {device.k}, {who}"
            evidence = (str(certain), window, *device.evidence)
            promise = "G3" if key in known.seen else "G1"
            sentence = f"{device.device} {what}: {key}, acknowledged and not over"
            yield Finding(promise, sentence, evidence)

    def _eligible(self, device: DeviceAtRest, publication: Publication | None) -> bool:
        if publication is None:
            return False
        content = publication.content
        fits = content.shown_in(device.capacity) is not None
        return fits and self._reaches(device, content)

    @staticmethod
    def _reaches(device: DeviceAtRest, content: Content) -> bool:
        followed = covers(device.follow, content.key.channel)
        return followed and content.concerns(device.attributes)

    def _outdone(
        self, device: DeviceAtRest, one: Publication, live: Mapping[Key, _Live], now: float
    ) -> bool:
        """Whether a newer item of the same collapse key may have won, shown or not."""
        if one.content.collapse is None:
            return False
        since = self._accepted_low(one, now)
        return any(
            rival.content.collapse == one.content.collapse
            and rival is not one
            and self._reaches(device, rival.content)
            and self._accepted_high(rival, now) >= since
            for state in live.values()
            for rival in state.possible
        )

    def _accepted_low(self, publication: Publication, now: float) -> float:
        return self._clock.span(publication.sent, publication.acknowledged or now).low

    def _accepted_high(self, publication: Publication, now: float) -> float:
        return self._clock.span(publication.sent, publication.acknowledged or now).high

    def _profile_kept(self, device: DeviceAtRest) -> Iterator[Finding]:
        said = self._devices[device.device].profiles
        last = self._devices[device.device].last_profile
        if last is None:
            return
        follow = frozenset(device.follow)
        for one in said[last:]:
            kept = all(
                device.attributes.get(name) == value for name, value in one.attributes.items()
            )
            if one.follow == follow and kept:
                return
        yield Finding(
            "G1",
            f"the server forgot the acknowledged profile of {device.device}",
            (
                f"said: {said[last]}",
                f"has: {device.follow}, {dict(device.attributes)}",
                *device.evidence,
            ),
        )

    def _find(self, promise: str, sentence: str, *evidence: str) -> None:
        self.report(Finding(promise, sentence, evidence))


def items_of(frame: Frame) -> list[FeedItem]:
    """The items that a frame brings."""
    if isinstance(frame, Snapshot):
        return list(frame.items)
    assert isinstance(frame, Delta)
    return [op.item for op in frame.ops if isinstance(op, Put)]


def unchanged(
    before: Sequence[DeviceAtRest], after: Sequence[DeviceAtRest], ends: Callable[[int], bool]
) -> list[Finding]:
    """G4: feeds that differ although between the two moments nothing but duplicates were sent.

    Args:
        before: The feeds at the first moment.
        after: The same devices later.
        ends: Whether an item may have ended in between.
    """
    found = []
    for one, other in zip(before, after, strict=True):
        was = [entry for entry in one.feed or () if not ends(entry[0])]
        now = [entry for entry in other.feed or () if not ends(entry[0])]
        ended = len(was) < len(one.feed or ())
        # What ended makes room for others. They may come in anywhere, but what stays keeps its order.
        stays = [entry for entry in now if entry in was] if ended else now
        if stays != was:
            evidence = (f"before: {_short(was)}", f"after:  {_short(now)}")
            found.append(Finding("G4", f"duplicates changed the feed of {one.device}", evidence))
    return found


def _short(window: Sequence[tuple[int, str | bytes]]) -> str:
    return " ".join(f"{n}={payload[:_SHORT]!r}" for n, payload in window)
