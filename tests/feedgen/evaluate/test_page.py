from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from feedgen.evaluate.baselines import Newest, Popularity
from feedgen.evaluate.page import page
from feedgen.evaluate.progressive import run
from feedgen.evaluate.report import report

BASELINES = ("popularity", "newest")


def drawn(labelled, *, resamples=20, **how):
    rankers = {"learned": Popularity(), "popularity": Popularity(), "newest": Newest()}
    found = run(labelled, rankers)
    return page(found, report(found, resamples=resamples), BASELINES, resamples=resamples, **how)


def pictures(html):
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def test_the_page_has_numbers_verdict_and_four_pictures(world):
    html = drawn(world(2500), source="kiosks <west>.jsonl")
    assert "Ranking evaluation: kiosks &lt;west&gt;.jsonl" in html
    assert "2,000 events of 40 devices" in html
    assert '<p class="verdict">No metric sets learned apart from ' in html
    assert "% of the lists stretch over several batches" in html
    assert len(pictures(html)) == 4
    texts = " ".join(text for svg in pictures(html) for text in svg.itertext())
    for word in ("predicted probability", "learned", "popularity", "newest", "class tram", "AUC"):
        assert word in texts, word


def test_the_page_needs_nothing_from_elsewhere_and_is_the_same_each_time(world):
    html = drawn(world(600))
    assert html == drawn(world(600))
    loaded = re.findall(r"""(?:src|href)=["'](?!#)([^"']*)|url\((?!["']?#)|@import""", html)
    assert loaded == []
    assert "<script" not in html


def test_every_colour_of_the_pictures_follows_the_readers_theme(world):
    html = drawn(world(600))
    svg = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    bare = set(re.findall(r"(?<!, )#[0-9a-f]{6}\b", svg))
    assert bare <= {"#000000"}, bare
    for variable in set(re.findall(r"var\((--[a-z0-9-]+)", html)):
        assert html.count(f"{variable}:") >= 2, variable  # in light and dark


def test_names_from_a_log_are_text_and_neither_markup_nor_formulas(world):
    labelled = world(1500)
    for event, _ in labelled:
        event["device_fields"] = {"class": "<b>$\\frac{1}$\x00 " + "long" * 30}
    texts = [text for svg in pictures(drawn(labelled)) for text in svg.itertext()]
    (name,) = {text for text in texts if "frac" in text}
    assert name.startswith("class <b>$\\frac{1}$? long")
    assert len(name) <= 40


def test_a_page_of_a_log_that_says_almost_nothing_is_still_a_page(world):
    assert len(pictures(drawn(world(3), resamples=0))) == 4
    assert "No cohort is large enough" in drawn(world(40, rates=0.0))


def test_elements_are_closed_in_order(world):
    class Checker(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            assert isinstance(attrs, list)
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(drawn(world(600)))
    checker.close()
    assert checker.open == []


def test_nothing_is_drawn_with_until_something_is_drawn():
    code = "import feedgen.evaluate.page, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
