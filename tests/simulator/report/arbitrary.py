"""Any result that can be written and read back, believable or not."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from simulator.results import (
    Broken,
    Check,
    ClassResult,
    Distribution,
    Result,
    Series,
    Span,
    Stage,
    Truth,
)

TEXT = st.text(max_size=12)
COUNT = st.integers(0, 10**15)
NUMBER = st.floats(0, 1e15)
COUNTS = st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=6), COUNT, max_size=4)


def tuples(each, most=3):
    return st.lists(each, max_size=most).map(tuple)


@st.composite
def distributions(draw):
    bounds = tuple(sorted(draw(st.sets(st.floats(1e-6, 1e9), max_size=4))))
    counts = tuple(draw(st.lists(st.integers(1, 99), min_size=len(bounds), max_size=len(bounds))))
    beyond = draw(st.integers(0, 3))
    return Distribution(bounds, counts, sum(counts) + beyond, draw(NUMBER), draw(NUMBER))


@st.composite
def truths(draw):
    at = draw(tuples(NUMBER))
    each = st.lists(NUMBER, min_size=len(at), max_size=len(at)).map(tuple)
    return Truth(at, draw(each), draw(each), draw(each), draw(COUNT), draw(COUNT), draw(COUNT))


@st.composite
def results(draw):
    at = draw(tuples(NUMBER))
    values = st.lists(NUMBER, min_size=len(at), max_size=len(at)).map(tuple)
    classes = st.builds(
        ClassResult,
        name=TEXT,
        devices=COUNT,
        link=TEXT,
        latency=distributions(),
        wake_up=distributions(),
        down=COUNT,
        joules=NUMBER,
        counts=COUNTS,
    )
    checks = st.builds(Check, TEXT, TEXT, st.none() | st.booleans())
    return Result(
        scenario=draw(TEXT),
        about=draw(TEXT),
        seed=draw(st.integers()),
        started=draw(st.floats(0, 2.5e11)),
        seconds=draw(NUMBER),
        devices=draw(COUNT),
        server=draw(TEXT),
        version=draw(TEXT),
        phases=draw(tuples(st.builds(Span, TEXT, NUMBER, NUMBER))),
        classes=draw(tuples(classes, 2)),
        at=at,
        series=draw(tuples(st.builds(Series, TEXT, values), 2)),
        items=draw(COUNTS),
        drops=draw(COUNTS),
        truth=draw(st.none() | truths()),
        stages=draw(tuples(st.builds(Stage, TEXT, distributions()), 2)),
        checks=draw(tuples(checks)),
        broken=draw(tuples(st.builds(Broken, TEXT, TEXT, tuples(TEXT)))),
        notes=draw(tuples(TEXT)),
        complete=draw(st.booleans()),
    )
