"""The page about conformance is current, and says nothing that no test holds the server to."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.conformance.statements import STATEMENTS, Statement, Verdict
from tests.conformance.table import PAGE, Case, cases, render

SECTIONS = """
    1.5.3:3 2.2.2:2 2.3.1:7
    3.1.0:2 3.1.2:24 3.1.3:11 3.1.4:5 3.2.0:1 3.2.2:6 3.3.1:12 3.3.2:3 3.3.4:1 3.3.5:2 3.6.1:1
    3.8.1:1 3.8.3:4 3.8.4:6 3.9.3:2 3.10.1:1 3.10.3:2 3.10.4:6 3.12.4:1 3.14.1:1 3.14.4:3
    4.1.0:2 4.3.1:1 4.3.2:2 4.3.3:2 4.4.0:1 4.5.0:2 4.6.0:6 4.7.1:3 4.7.2:1 4.7.3:4 4.8.0:2
    6.0.0:4 7.0.0:2 7.1.1:1 7.1.2:1
"""
"""How many statements each section of the standard has, by its appendix B."""

each_part = pytest.mark.parametrize("part", ["feed", "others"])


def cases_of(statement: Statement, part: str) -> list[Case]:
    return [each for each in cases() if each.number == statement.number and getattr(each, part)]


def test_the_page_is_what_the_statements_and_tests_say() -> None:
    assert PAGE.read_text() == render(), "make it anew: python -m tests.conformance.table"


def test_every_statement_of_the_standard_is_there_once_and_in_order() -> None:
    counts = dict(each.split(":") for each in SECTIONS.split())
    expected = [
        f"{section}-{n}" for section, most in counts.items() for n in range(1, int(most) + 1)
    ]
    assert [each.number for each in STATEMENTS] == expected


def test_every_test_names_a_statement_that_exists() -> None:
    known = {each.number for each in STATEMENTS}
    assert [each for each in cases() if each.number not in known] == []


def test_no_two_tests_of_a_statement_say_the_same() -> None:
    said = Counter((each.number, each.says) for each in cases())
    assert [each for each, count in said.items() if count > 1] == []


@each_part
def test_what_a_part_meets_or_does_otherwise_has_a_test(part: str) -> None:
    claimed = [each for each in STATEMENTS if getattr(each, part) is not Verdict.NOTHING]
    assert [each.number for each in claimed if not cases_of(each, part)] == []


@each_part
def test_where_a_part_differs_and_only_there_a_test_says_that_it_is_on_purpose(part: str) -> None:
    differing = [each.number for each in STATEMENTS if getattr(each, part) is Verdict.DIFFERS]
    pinned = [
        each.number
        for each in STATEMENTS
        if any(case.doc.startswith("On purpose") for case in cases_of(each, part))
    ]
    assert pinned == differing


def test_what_is_not_simply_met_has_its_reason() -> None:
    for each in STATEMENTS:
        simple = each.client or each.feed is each.others is Verdict.MEETS
        assert simple or each.note, each.number


def test_what_concerns_clients_alone_has_neither_verdict_nor_test() -> None:
    for each in STATEMENTS:
        if each.client:
            assert each.feed is each.others is Verdict.NOTHING, each.number
            assert not cases_of(each, "feed") + cases_of(each, "others"), each.number
