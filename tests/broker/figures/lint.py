"""What common consumers of `$SYS` make of a tree.

The exporter of sapcc subscribes to `$SYS/#`. It makes a metric's name of each topic, in which `/`, space, `-`
and `.` become `_`, and takes the first number that it finds in the text. Two topics with one name, or a name
that Prometheus refuses, end it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NUMBER = re.compile(r"-?\d+[.]\d+|\d+")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def faults(tree: Mapping[str, str]) -> list[str]:
    """What is wrong with a tree, topic to text; nothing if all is well."""
    found: list[str] = []
    names: dict[str, str] = {}
    for topic, text in tree.items():
        name = re.sub(r"[/ \-.]", "_", topic.removeprefix("$SYS/"))
        if name in names:
            found.append(f"{topic} is called as {names[name]} is")
        names[name] = topic
        if not _NAME.fullmatch(name):
            found.append(f"{topic} is no name")
        if not topic.endswith("/version") and not _is_plain(text):
            found.append(f"{topic} is misread: {text!r}")
    return found


def _is_plain(text: str) -> bool:
    first = _NUMBER.findall(text)[:1]
    try:
        return bool(first) and float(first[0]) == float(text) >= 0
    except ValueError:
        return False
