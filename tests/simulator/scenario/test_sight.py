"""What a run sees of its fleet."""

from __future__ import annotations

import time

from devices.frames import Delta, FeedItem, Put, encode_frame
from devices.replica import Received
from simulator.checker import Checker
from simulator.facts import Content, Finding, Key, ServerClock
from simulator.scenario.sight import Sight

ALERT = Content(Key("alerts", "1"), "run", priority=3)


def frame(text: str, seq: int = 2, n: int = 1) -> bytes:
    return encode_frame(Delta(1, seq, (Put(0, FeedItem(n, 0, 3, text)),)))


def sight(*sample: str) -> tuple[Sight, Checker]:
    checker = Checker(ServerClock())
    checker.sent(ALERT, time.time())
    found = Sight(checker, sample)
    found.there = lambda: {"a", "b"}
    return found, checker


def test_frames_of_judged_devices_alone_reach_the_judge() -> None:
    found, checker = sight("a")
    for device in ("a", "other"):
        found.frame(device, f"f/{device}", frame("nobody published this"), Received.APPLIED)
    (finding,) = checker.take()
    assert finding.sentence.startswith("a shows item 1")


def test_an_urgent_item_is_timed_once_for_each_device_that_was_there() -> None:
    found, _ = sight("a", "b", "late")
    found.published(ALERT)
    for device in ("a", "a", "late"):
        found.frame(device, f"f/{device}", frame("run"), Received.APPLIED)
    assert found.all_urgent().count == 1
    found.frame("b", "f/b", frame("run"), Received.APPLIED)
    assert found.all_urgent().count == 2


def test_an_item_that_is_not_urgent_is_not_timed() -> None:
    found, checker = sight("a")
    calm = Content(Key("news", "1"), "calm")
    checker.sent(calm, time.time())
    found.published(calm)
    found.frame("a", "f/a", frame("calm"), Received.APPLIED)
    assert found.all_urgent().count == 0


def test_what_a_device_judges_itself_and_what_it_dismisses_is_passed_on() -> None:
    found, checker = sight("a")
    found.report(Finding("wire", "too long"))
    found.dismissed("a", 4)
    found.dismissed("other", 5)
    assert [one.promise for one in checker.take()] == ["wire"]
    assert checker.poisoned({("a", 4), ("a", 9), ("other", 5)}) == 2


def test_urgent_items_are_timed_by_the_phase_in_which_they_were_published() -> None:
    found, checker = sight("a")
    for phase, text in (("calm", "run"), ("storm", "hide")):
        alert = Content(Key("alerts", text), text, priority=3)
        checker.sent(alert, time.time())
        found.phase = lambda phase=phase: phase
        found.published(alert)
    found.phase = lambda: "after"
    for place, text in enumerate(("run", "hide"), start=1):
        found.frame("a", "f/a", frame(text, place + 1, place), Received.APPLIED)
    assert {phase: times.count for phase, times in found.urgent.items()} == {"calm": 1, "storm": 1}
    assert found.all_urgent().count == 2
    assert (found.take_urgent().count, found.take_urgent().count) == (2, 0)


def test_an_item_that_was_lost_with_the_connection_is_not_timed() -> None:
    found, _ = sight("a", "b")
    found.published(ALERT)
    lost = time.perf_counter()
    found.dialled = {"a": lost, "b": 0.0}.__getitem__
    for device in ("a", "b"):
        found.frame(device, f"f/{device}", frame("run"), Received.APPLIED)
    assert found.all_urgent().count == 1
