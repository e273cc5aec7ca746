"""Makes `docs/conformance.md` of the statements and of the names of their tests.

    python -m tests.conformance.table

A test names its statement: `test_mqtt_3_1_0_2_a_second_connect_closes_the_connection` is about
MQTT-3.1.0-2. Which part of the server it is about shows in what it takes: the fixture `feed`, `others`,
or one that means both.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.conformance.statements import CHAPTERS, NOTHING, STATEMENTS, Statement, Verdict

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/conformance.md"
STANDARD = "https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html"
NAME = re.compile(r"test_mqtt_(\d+)_(\d+)_(\d+)_(\d+)_(\w+)")


@dataclass(frozen=True)
class Case:
    """One test of one statement.

    Attributes:
        number: Of the statement.
        says: What its name says.
        file: Where it stands.
        feed: Whether it is about the feed.
        others: Whether it is about other topics.
        doc: Its docstring.
    """

    number: str
    says: str
    file: str
    feed: bool
    others: bool
    doc: str

    @property
    def link(self) -> str:
        return f"[{self.says}](../tests/conformance/{self.file})"


@cache
def cases() -> tuple[Case, ...]:
    """All tests of this directory that name a statement, in the order of their files."""
    return tuple(
        _case(node, NAME.fullmatch(node.name), path.name)
        for path in sorted(HERE.glob("test_*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_mqtt_")
    )


def _case(node: ast.AsyncFunctionDef, name: re.Match[str] | None, file: str) -> Case:
    assert name is not None, f"{node.name} in {file} names no statement"
    *digits, says = name.groups()
    fixtures = {arg.arg for arg in node.args.args}
    named = fixtures | {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    feed, others = bool(named & {"feed", "FeedPart"}), bool(named & {"others", "OtherPart"})
    both = "part" in fixtures or "kind" in fixtures or not (feed or others)
    return Case(
        number=".".join(digits[:3]) + "-" + digits[3],
        says=says.replace("_", " "),
        file=file,
        feed=both or feed,
        others=both or others,
        doc=ast.get_docstring(node) or "",
    )


def render() -> str:
    """The whole page."""
    found = cases()
    parts = [_head(found)]
    for digit, title in CHAPTERS.items():
        of_chapter = [each for each in STATEMENTS if each.number.startswith(f"{digit}.")]
        rows = "\n".join(_row(each, found) for each in of_chapter)
        parts.append(
            f"## {title}\n\n"
            "| MQTT- | statement | feed | other topics | tests |\n|---|---|---|---|---|\n"
            f"{rows}\n"
        )
    return "\n".join(parts)


def _head(found: tuple[Case, ...]) -> str:
    theirs = [each for each in STATEMENTS if each.client]
    ours = [each for each in STATEMENTS if not each.client]
    feed, others = ([getattr(each, part) for each in ours] for part in ("feed", "others"))
    return f"""# Conformance to MQTT 3.1.1

Every normative statement of [MQTT 3.1.1]({STANDARD})
(its appendix B), in our words, and the tests that hold the server against it, over real sockets. The
wording of the standard decides.

Of {len(STATEMENTS)} statements, {len(theirs)} concern clients alone. For the other {len(ours)}:

| | the feed (`items/`, `f/`, `u/`) | other topics |
|---|---|---|
| meets | {feed.count(Verdict.MEETS)} | {others.count(Verdict.MEETS)} |
| differs, on purpose | {feed.count(Verdict.DIFFERS)} | {others.count(Verdict.DIFFERS)} |
| has nothing that it could be about (\u2013) | {feed.count(NOTHING)} | {others.count(NOTHING)} |

{len(found)} tests name a statement; many of them run on both parts and with several values. Where the
server differs, a test says that this is on purpose and pins what happens instead. Beside them, the eleven
scenarios that brokers are usually compared by run with
[another client](../tests/conformance/test_interoperability.py). The page is made by
`python -m tests.conformance.table`; a test fails when it is out of date.
"""


def _row(statement: Statement, found: tuple[Case, ...]) -> str:
    tests = [each.link for each in found if each.number == statement.number]
    says = f"{statement.says} *{statement.note}*" if statement.note else statement.says
    verdicts = (
        ("a client's", "a client's")
        if statement.client
        else (statement.feed.value, statement.others.value)
    )
    return f"| {statement.number} | {says} | {' | '.join(verdicts)} | {'; '.join(tests)} |"


if __name__ == "__main__":
    PAGE.write_text(render())
