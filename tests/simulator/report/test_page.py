from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from functools import cache

import pytest

from simulator.report import page
from simulator.report.distributions import Row, latency
from simulator.report.theme import _DARK, _LIGHT
from simulator.report.timeline import _lanes, thinned
from simulator.results import Broken, Check, ClassResult, Distribution, Result, Series, Span
from tests.simulator.report.believable import a_class, a_failed_run, a_run, distribution
from tests.simulator.report.pages import sound


@cache
def whole():
    """The page of a run with everything."""
    return sound(page(a_run()))


EMPTY = Result("nothing", "", 1, 0.0, 0.0, 0, "", "")


def test_the_verdict_comes_first_then_what_happened_then_what_came_of_it():
    found = whole()
    order = (
        "Passed: all 7 checks held.",
        "448 of 448 acknowledged items",
        "What happened",
        "From publisher to window",
        "Convergence, wake-up, freshness",
        "Over the air, a device and day",
        "Items and drops",
        "People",
        "What devices counted",
        "To know with it",
        "How to repeat it",
    )
    places = [found.said.index(each) for each in order]
    assert places == sorted(places)


def test_the_pictures_name_classes_phases_faults_and_units():
    found = whole()
    assert len(found.pictures) == 6
    for word in (
        "tram displays", "kiosks", "ramp", "spike", "outage of two thirds", "kill the server",
        "devices connected", "items published per second", "memory of the server", "40 MB", "100 ms", "99.9 %",
        "time in the run, minutes:seconds", "oversize", "as shown", "best possible", "newest first", "0:30",
    ):  # fmt: skip
        assert word in found.drawn, word


def test_figures_and_titles_are_whole():
    found = whole()
    assert "?" not in found.drawn
    assert "?" not in found.said
    assert "processor cores that the server keeps busy" in found.drawn
    assert "2 000 devices in 68.4 s, with 3 faults" in found.said


def test_people_are_compared_with_the_best_and_with_newest_first():
    truth = a_run().truth
    shown, newest = (100 * sum(each) / sum(truth.best) for each in (truth.shown, truth.newest))
    assert f"Windows gave people {shown:.1f} % of what" in whole().said
    assert f"newest first, {newest:.1f} %" in whole().said


def test_who_cannot_see_a_picture_is_told_what_it_shows():
    run = a_run()
    quantile = run.classes[0].latency.quantile(0.99)
    labels = [attributes["aria-label"] for tag, attributes in whole().tags if tag == "svg"]
    assert any(
        f"tram displays: half 51 ms, 99 % {quantile * 1000:.0f} ms" in each for each in labels
    )
    assert any("outage of two thirds at 0:30" in each for each in labels)


def test_the_same_result_gives_the_same_page():
    assert page(a_run()) == whole().html


def test_a_failed_run_says_what_failed_and_shows_the_evidence():
    found = sound(page(a_failed_run()))
    assert "Failed: G2 and p99_latency." in found.said
    assert "G6 could not be looked at." in found.said
    assert "31.700 delta (3, 9) base 7" in found.said
    assert 'class="verdict bad"' in found.html
    assert found.html.count("✗ broken") == 2
    assert found.html.count("? not seen") == 1


def test_what_broke_is_named_also_if_no_line_of_the_verdict_says_so():
    run = replace(EMPTY, broken=(Broken("wire", "a frame of 300 bytes for a budget of 256"),))
    assert "Failed: wire." in sound(page(run)).said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checks": (Check("G1", "", True), Check("G5", "", None))}, "Passed as far as anybody could look: 1 of 2"),
        ({"checks": ()}, "Nothing was checked."),
        ({"complete": False}, "Stopped before its end: nothing is proved."),
    ],
)  # fmt: skip
def test_a_run_that_proves_little_is_neither_good_nor_bad(change, said):
    found = sound(page(replace(EMPTY, **{"checks": (Check("G1", "", True),)} | change)))
    assert said in found.said
    assert 'class="verdict unsure"' in found.html


def test_an_empty_run_is_a_page_without_pictures():
    found = sound(page(EMPTY))
    assert found.pictures == []
    assert found.headings(2) == ["How to repeat it"]


def test_without_people_or_energy_nothing_is_said_of_them():
    found = sound(page(a_run(classes=1, people=False, energy=False)))
    assert "People" not in found.headings(2)
    assert "battery is" not in found.said
    assert "on a battery" not in found.drawn


def test_twelve_classes_have_a_panel_each():
    run = a_run(classes=12)
    found = sound(page(run))
    for each in run.classes:
        assert found.drawn.count(each.name) >= 3, each.name


def test_more_classes_than_fit_are_in_the_tables_and_the_page_says_so():
    run = a_run(classes=1)
    few = distribution([0.1, 0.2])
    many = tuple(ClassResult(f"class {i}", 9, "wifi", latency=few) for i in range(30))
    found = sound(page(replace(run, classes=many)))
    assert "6 classes more stand in the table alone." in found.said
    assert "class 29" in found.said
    assert "class 29" not in found.drawn


def test_what_strangers_named_is_text_and_neither_markup_nor_a_formula():
    name = "<script>alert(1)</script>$\\frac{1}$\x00\n" + "long" * 30
    rng = __import__("numpy").random.default_rng(1)
    run = replace(
        a_run(classes=1),
        scenario=name,
        classes=(replace(a_class(rng, name, name, 40), counts={name: 3}),),
        phases=(Span(name, 0, 30),),
        faults=(Span(name, 10, 20),),
        checks=(Check(name, name, None),),
        broken=(Broken(name, name, (name,)),),
        drops={name: 4},
        items={name: 1},
        notes=(name,),
        command=name,
        series=(Series(name, (1.0,) * 61),),
    )
    html = page(run)
    found = sound(html)
    assert "<script" not in html
    assert "\\frac{1}$" in found.drawn


def test_evidence_beyond_what_a_page_holds_is_counted():
    many = tuple(Broken("G3", f"item {i} vanished", ("line",) * 100) for i in range(70))
    found = sound(page(replace(EMPTY, broken=many)))
    assert "… and 30 more, which the JSON has." in found.said
    assert "… and 40 lines more, which the JSON has." in found.said
    assert found.said.count("vanished") == 40


def test_what_was_not_known_for_a_while_leaves_a_gap():
    nan = float("nan")
    at = tuple(float(t) for t in range(10))
    cpu = (0.1, 0.2, nan, nan, nan, 0.3, 0.2, 0.2, 0.1, 0.1)
    html = page(
        replace(
            EMPTY,
            at=at,
            seconds=10,
            series=(Series("server CPU", cpu), Series("server memory", (nan,) * 10)),
        )
    )
    found = sound(html)
    assert "processor cores" in found.drawn
    assert "memory of the server" not in found.drawn
    assert "nan" not in found.drawn.lower()


def test_sleeping_and_dark_devices_stand_beside_those_that_are_connected():
    at = (0.0, 1.0, 2.0)
    series = (
        Series("connected", (1, 2, 3)),
        Series("asleep", (2, 1, 0)),
        Series("dark", (0, 0, 1)),
        Series("age of the oldest", (1, 2, 3)),
    )
    found = sound(page(replace(EMPTY, at=at, seconds=2, series=series)))
    for word in ("connected", "asleep", "dark", "age of the oldest"):
        assert word in found.drawn


@pytest.mark.parametrize(
    "found",
    [
        Distribution((1e-6,), (5,), 5, 0.0, 0.0),
        Distribution((), (), 3, 9.0, 5.0),
        Distribution((2.0,), (1,), 1, 2.0, 2.0),
        Distribution((1.0, float("inf")), (1, 1), 2, 50.0, 49.0),
        distribution([0.001, 86_400.0 * 9]),
    ],
    ids=["all at once", "no buckets", "one value", "open end", "nine decades"],
)
def test_distributions_at_the_edge_of_sense_are_drawn(found):
    some = ClassResult("c", 3, "wifi", found, found, found, found, down=1, device_seconds=1.0)
    page_ = sound(page(replace(EMPTY, classes=(some, ClassResult("idle", 0, "")))))
    assert len(page_.pictures) == 3
    assert "nan" not in page_.drawn.lower()


def test_what_was_right_at_once_is_said_to_take_no_time():
    found = distribution([0.0, 0.0, 0.0])
    some = ClassResult("trams", 3, "wifi", convergence=found)
    drawn = sound(page(replace(EMPTY, classes=(some,)))).drawn.split("  ")
    assert [each.strip() for each in drawn].count("0 s") == 2


def test_a_quantile_that_too_few_values_know_has_no_point():
    few, many = (distribution([4.7] * n + [0.1] * (9 * n)) for n in (5, 50))
    drawn = [latency("seldom, then often slow", [Row("c", (found,))]) for found in (few, many)]
    assert ["4.7 s" in each for each in drawn] == [False, True]


def test_of_a_long_line_every_peak_and_every_gap_is_kept():
    nan = math.nan
    at = [float(t) for t in range(10_000)]
    values = [1.0] * 10_000
    values[4321], values[8765] = 50.0, -3.0
    values[2000:2600] = [nan] * 600
    fewer, kept = thinned(at, values)
    assert len(fewer) <= 802
    assert kept[fewer.index(4321.0)] == 50.0
    assert kept[fewer.index(8765.0)] == -3.0
    assert any(math.isnan(value) for value in kept)
    assert fewer == sorted(fewer)
    assert thinned(at[:700], values[:700]) == (at[:700], values[:700])


def test_names_of_faults_do_not_lie_on_each_other():
    together = [Span("kill the server", 10, 10.5), Span("outage", 11, 12), Span("hole", 50, 52)]
    assert _lanes(together, 60) == [0, 1, 0]
    # Of too many at once the rows end; the list beside the picture has them all.
    assert max(_lanes([Span("storm", 5, 6)] * 50, 60)) == 5


def test_a_page_takes_less_than_five_seconds_of_processor_time_from_a_standing_start():
    # A day of samples, every second, in 24 classes: more than a run ever has.
    code = (
        "from tests.simulator.report.believable import *\n"
        "from simulator.report import page\n"
        "import time\n"
        "base = a_run(classes=12, seconds=86_400.0)\n"
        "begin = time.process_time()\n"
        "html = page(base)\n"
        "print(time.process_time() - begin, len(html))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, size = out.stdout.split()
    assert float(seconds) < 5
    assert int(size) < 3_000_000


def test_matplotlib_is_not_imported_before_something_is_drawn():
    code = "import sys, simulator.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [_LIGHT, _DARK], ids=["light", "dark"])
def test_text_stands_out_from_its_ground_as_wcag_asks(theme):
    for name, colour in theme.items():
        if name in ("--faint", "--ground", "--card"):
            continue
        for ground in ("--ground", "--card"):
            bright, dim = sorted((luminance(colour), luminance(theme[ground])), reverse=True)
            assert (bright + 0.05) / (dim + 0.05) >= 4.5, (name, ground)


def test_both_themes_define_the_same_colours():
    assert _LIGHT.keys() == _DARK.keys()
