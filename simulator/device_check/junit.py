"""A report as JUnit XML, in the form that Jenkins' xUnit plugin describes (junit-10.xsd) and other CIs read."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from simulator.device_check.case import Status
from simulator.device_check.exchange import diagram

if TYPE_CHECKING:
    from simulator.device_check.case import Result
    from simulator.device_check.run import Report

_SUITE = "fleetfeed check-device"


def as_junit(report: Report) -> bytes:
    """One test suite with a test case each; a warning passes, and says itself in `system-out`."""
    counts = {
        "name": _SUITE,
        "time": _seconds(report.seconds),
        "tests": str(len(report.results)),
        "failures": str(report.count(Status.FAIL)),
        "errors": "0",
    }
    suites = Element("testsuites", counts)
    skipped = {"skipped": str(report.count(Status.NOT_APPLICABLE))}
    suite = SubElement(suites, "testsuite", counts | skipped)
    properties = SubElement(suite, "properties")
    SubElement(properties, "property", name="device", value=_legal(report.device))
    for result in report.results:
        _case(suite, result)
    indent(suites)
    xml: bytes = tostring(suites, encoding="utf-8", xml_declaration=True)
    return xml + b"\n"


def _case(suite: Element, result: Result) -> None:
    case = SubElement(
        suite,
        "testcase",
        classname="check-device",
        name=result.case.id,
        time=_seconds(result.seconds),
    )
    sentence = _legal(result.sentence)
    if result.status is Status.FAIL:
        failure = SubElement(case, "failure", message=sentence, type="fail")
        failure.text = _legal("\n".join(diagram(result.exchange, with_bytes=True)))
    elif result.status is Status.NOT_APPLICABLE:
        SubElement(case, "skipped", message=sentence)
    else:
        out = SubElement(case, "system-out")
        out.text = f"{result.status.value}: {sentence}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


def _legal(text: str) -> str:
    """Without the characters that XML 1.0 forbids: a device id or an error may hold any."""
    return "".join(c if _is_legal(ord(c)) else "\ufffd" for c in text)


def _is_legal(code: int) -> bool:
    return (
        code in (9, 10, 13) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code > 0xFFFF
    )
