"""What a server gave up, as the page tells it."""

from __future__ import annotations

import re
from dataclasses import replace

from simulator.report import overload, page
from simulator.report.timeline import timeline
from simulator.results import Series, Span, Stage
from tests.simulator.report.believable import a_run, distribution
from tests.simulator.report.pages import sound

SPIKE = Span("spike of all, 10 times", 20.0, 26.0)
STAGES = (
    Stage("calm", distribution([0.04] * 98 + [0.08] * 2)),
    Stage("spike", distribution([0.2] * 99)),
)


def loaded(levels=None, held=0.0):
    """A run in which a server said what it gave up, from 20 to 30 s if nothing else is said, when there was a spike."""
    run = a_run(people=False, energy=False)
    levels = levels or [4.0 if 20 <= at < 28 else 1.0 if 28 <= at < 30 else 0.0 for at in run.at]
    said = {
        "overload level": levels,
        "loop lag": [level / 50 for level in levels],
        "oldest item": [level / 9 for level in levels],
        "items held": [held if level >= 4 else 0.0 for level in levels],
        "clients held": [0.0] * len(levels),
        "publishers held": [0.0] * len(levels),
    }
    more = (Series(name, tuple(values)) for name, values in said.items())
    return replace(run, series=(*run.series, *more), faults=(SPIKE,), stages=STAGES)


def told(run):
    """What the section says, without markup and pictures."""
    plain = re.sub(r"<svg.*?</svg>", "", overload.section(run), flags=re.DOTALL)
    plain = re.sub(r"<[^>]*>", " ", plain).replace("\N{NARROW NO-BREAK SPACE}", " ")
    return " ".join(plain.split())


def facts(run):
    return {fact.name: (fact.value, fact.more) for fact in overload.facts(run)}


def test_a_page_has_what_a_server_gave_up_drawn_and_in_words():
    found = sound(page(loaded(held=1_200.0)))
    assert "Under load" in found.headings(2)
    assert "overload, at most holding level 4; normal again 4 s after the last fault" in found.said
    for word in (
        "level of overload", "coalescing", "choking", "how late the server is", "what the server holds", "urgent items",
    ):  # fmt: skip
        assert word in found.drawn, word
    assert "clients" not in found.drawn  # none ever waited


def test_levels_are_told_one_after_the_other_with_what_they_gave_up():
    text = told(loaded(held=1_200.0))
    assert "gave something up for 10 s of 68.4 s, to level 4 of 5; normal again 4 s after" in text
    assert re.search(r"4 holding immediacy of items .* acknowledged 0:20 8 s 1 200 items", text)
    assert re.search(r"1 coalescing .* 0:28 2 s - 0 normal nothing 0:30", text)
    assert "1 item " in told(loaded(held=1.0)) + " "


def test_urgent_items_are_told_by_the_phase_in_which_they_were_published():
    run = loaded()
    assert "within 200 ms in the slowest phase, spike" in told(run)
    rows = r"published in arrivals p50 p90 p99 most calm 100 4\d ms 4\d ms 8\d ms 80 ms spike 99 2\d\d ms"
    assert re.search(rows, told(run))
    assert facts(run)["urgent items, 99 %"] == ("200 ms", "at worst, in 'spike'")


def test_what_was_never_held_has_no_chart():
    assert "what the server holds" not in timeline("", (loaded(),))


def test_of_a_run_without_any_of_it_nothing_is_told():
    run = a_run(people=False, energy=False)
    assert overload.section(run) == ""
    assert facts(run) == {}


def test_a_server_that_gave_up_nothing_is_told_so():
    run = loaded([0.0] * len(loaded().at))
    assert told(run).endswith("The level of overload was 0 all the time, as the server said.")
    assert facts(run)["overload, at most"] == ("normal", "level 0")


def test_who_waited_at_level_0_is_told_and_named_in_the_chart():
    run = loaded([0.0] * len(loaded().at))
    waits = tuple(40.0 if 26 <= at < 30 else 0.0 for at in run.at)
    series = [
        replace(each, values=waits) if each.name == "clients held" else each for each in run.series
    ]
    run = replace(run, series=tuple(series))
    assert told(run).endswith("Waiting, at most: 40 clients.")
    assert re.search(r">\s*clients\s*<", timeline("", (run,)))


def test_a_server_that_did_not_recover_is_told_so():
    assert "to level 3 of 5; not normal again" in told(loaded([3.0] * len(loaded().at)))


def test_a_level_of_a_later_version_is_the_highest_that_is_known():
    run = loaded([9.0] * len(loaded().at))
    assert facts(run)["overload, at most"][0] == "choking"
    assert "reading from the publishers that send most" in told(run)


def test_of_many_changes_of_level_it_says_how_many_more_there_are():
    changes = [float(place % 2) for place in range(len(loaded().at))]
    assert f"… and {len(changes) - 1 - 30} changes more" in told(loaded(changes))
