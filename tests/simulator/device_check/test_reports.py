"""What came of a check: for a terminal, for a CI, for programs."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from simulator.device_check import view
from simulator.device_check.case import Result, Status
from simulator.device_check.cases import CASES
from simulator.device_check.exchange import Noted
from simulator.device_check.junit import as_junit
from simulator.device_check.report import as_json
from simulator.device_check.run import Report

EXCHANGE = (
    Noted(0.0, "", "the device opens a connection"),
    Noted(0.1, "device", "CONNECT 'a<b>&\x01'", b"\x10\x02"),
)
REPORT = Report(
    "client \x00 <1>",
    (
        Result(CASES[0], Status.PASS, "right & good", EXCHANGE, 0.1),
        Result(CASES[1], Status.WARN, "hm", EXCHANGE, 0.25),
        Result(CASES[2], Status.FAIL, "no <hello> \x02", EXCHANGE, 1.0),
        Result(CASES[3], Status.NOT_APPLICABLE, "no QoS 1", (), 0.0),
    ),
    1.5,
)

# What junit-10.xsd of Jenkins' xUnit plugin permits, as far as we write it: attributes and children of each element.
PERMITTED = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package", "group"},
        {"properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), {"property"}),
    "property": ({"name", "value"}, set()),
    "testcase": (
        {"name", "time", "classname", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": ({"type", "message"}, set()),
    "skipped": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}  # fmt: skip


def test_junit_xml_keeps_to_its_schema_whatever_the_device_says() -> None:
    root = ET.fromstring(as_junit(REPORT))
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = PERMITTED[element.tag]
        assert set(element.attrib) <= attributes, element.tag
        assert {child.tag for child in element} <= children, element.tag


def test_junit_xml_counts_and_says_what_was_seen() -> None:
    (suite,) = ET.fromstring(as_junit(REPORT))
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "1", "errors": "0", "skipped": "1"}
    connect, subscribe, hello, puback = suite.iter("testcase")
    assert connect.findtext("system-out") == "pass: right & good"
    assert subscribe.findtext("system-out") == "warn: hm"
    failure = hello.find("failure")
    assert failure is not None
    assert failure.get("message", "").startswith("no <hello> ")
    assert "CONNECT 'a<b>&" in (failure.text or "")
    skipped = puback.find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "no QoS 1"


def test_json_has_every_packet_with_its_bytes() -> None:
    found = json.loads(json.dumps(as_json(REPORT)))
    assert found["ok"] is False
    assert found["counts"] == {"pass": 1, "warn": 1, "fail": 1, "n/a": 1}
    assert [case["id"] for case in found["cases"]] == [case.id for case in CASES[:4]]
    assert found["cases"][0]["packets"] == [
        {"at": 0.0, "text": "the device opens a connection"},
        {"at": 0.1, "sender": "device", "text": "CONNECT 'a<b>&\x01'", "hex": "1002"},
    ]


def on_screen(*parts: object) -> str:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    for part in parts:
        console.print(part)
    console.file.close()
    return console.export_text()


def test_the_table_has_a_line_for_each_case() -> None:
    text = on_screen(view.table(REPORT), view.summary(REPORT))
    for result in REPORT.results:
        assert result.case.id in text
    assert "1 passed, 1 with a warning, 1 failed, 1 not applicable; 2 s" in text


@pytest.mark.parametrize(("with_bytes", "shown"), [(False, False), (True, True)])
def test_what_failed_is_shown_with_its_packets(with_bytes: bool, shown: bool) -> None:
    text = on_screen(*view.evidence(REPORT, with_bytes=with_bytes))
    assert "✗ hello" in text
    assert "device ──▶" in text
    assert ("10 02" in text) is shown
    assert "✗ connect" not in text


def test_the_list_has_every_case() -> None:
    text = on_screen(view.listing(CASES))
    assert all(case.id in text for case in CASES)
    assert "(--outside)" in text
