"""The people of a run."""

from __future__ import annotations

from devices.frames import Event, FeedItem
from simulator.fleet import DeviceSpec
from simulator.scenario.crowd import crowd


class Screen:
    """A device that somebody looks at."""

    def __init__(self, name: str, window: tuple[FeedItem, ...]) -> None:
        self.spec = DeviceSpec(name)
        self.window = window
        self.lit = True
        self.heard: list[Event] = []

    def say_feedback(self, events: list[Event], at: float) -> None:
        del at
        self.heard += events


def test_where_nobody_stands_before_a_device_there_is_no_crowd() -> None:
    assert crowd([DeviceSpec("a"), DeviceSpec("b")], seed=1) is None


def test_people_look_at_what_was_published_until_they_leave() -> None:
    specs = [DeviceSpec(f"d{place}", person=place) for place in range(200)]
    people = crowd(specs, seed=1)
    assert people is not None
    people.publish(0, "hello", at=0.0)
    screens = {
        place: Screen(spec.device, (FeedItem(1, 0, 1, "hello"),))
        for place, spec in enumerate(specs)
    }
    for hour in range(1, 5):
        people.tick(hour * 3_600.0, 3_600.0, screens)
    heard = sum(len(screen.heard) for screen in screens.values())
    assert heard > 50
    people.leave()
    people.tick(24 * 3_600.0, 3_600.0, screens)
    assert sum(len(screen.heard) for screen in screens.values()) == heard
