"""Who may import whom: the last paragraph of each package's docstring, enforced."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
OURS = ("broker", "devices", "feedgen", "simulator")
SEAM = "broker/amqtt_seam.py"


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, also one that only type checkers or a function's body import."""

    module: str
    line: int

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Rule:
    """Modules whose path begins with `where` import of `names` nothing, except under `but`."""

    where: str
    names: tuple[str, ...]
    says: str
    but: tuple[str, ...] = ()

    def fault(self, path: str, found: Import) -> str | None:
        concerned = path.startswith(self.where) and not path.startswith(self.but or ("\0",))
        if not concerned or not any(_within(found.module, name) for name in self.names):
            return None
        return f"{path}:{found.line} imports {found.module}, but {self.says}."


RULES = (
    Rule("feedgen/", ("broker", "devices", "simulator"), "feedgen imports none of our packages"),
    Rule(
        "feedgen/",
        ("asyncio",),
        "the engine knows no event loop: asyncio belongs to feedgen/store alone",
        but=("feedgen/store/",),
    ),
    Rule("devices/", ("broker", "feedgen", "simulator"), "devices imports none of our packages"),
    Rule("simulator/", ("broker", "feedgen"), "the simulator shares nothing with the server but devices"),
    Rule(
        "",
        ("paho",),
        "paho-mqtt is for the device's client, and for the commands that publish",
        but=("devices/client.py", "broker/commands/"),
    ),
    Rule(
        "broker/",
        ("simulator",),
        "only the command line starts simulations",
        but=("broker/commands/", "broker/cli.py"),
    ),
    Rule("", ("amqtt",), "amqtt is the broker's business", but=("broker/",)),
    *(
        Rule("broker/lane/", (f"broker.{name}",), "the lane knows no more of the broker than access, counters and config")
        for name in ("admin", "app", "cli", "cluster", "commands", "control", "gateway", "plugin", "server", "service")
    ),
)  # fmt: skip

LIBRARIES = {
    "broker/": {"amqtt", "numpy", "pydantic", "pydantic_core", "pydantic_settings", "rich", "typer", "uvloop"},
    "broker/access/": {"argon2", "jwt"},
    "broker/cluster/": {"msgpack"},
    "broker/commands/": {"msgpack", "paho"},
    "broker/gateway/": {"msgpack"},
    "broker/run/": {"cryptography"},
    "broker/web/": {"msgpack", "prometheus_client", "starlette", "uvicorn"},
    "devices/": {"msgpack", "numpy", "paho"},
    # Firmware, for another Python: its files lie side by side on the device.
    "devices/micropython/": {"feedreplica", "feedwire", "fleetfeed", "micropython", "umqtt"},
    "feedgen/": {"msgpack", "numpy"},
    "feedgen/store/": {"hiredis", "redis"},
    "feedgen/evaluate/": {"matplotlib"},
    "simulator/": {"msgpack", "numpy", "rich"},
    "simulator/report/": {"matplotlib"},
    "simulator/scenario/": {"pydantic", "pydantic_core"},
}  # fmt: skip


def _within(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def imports(tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from broker import service` may name a module as well as `from broker.service import x`.
            module = node.module or ""
            yield from (Import(f"{module}.{alias.name}", node.lineno) for alias in node.names)


def faults(path: str, source: str) -> list[str]:
    """Return a sentence for each import of `source` that a module at `path` must not have."""
    tree = ast.parse(source)
    said = [
        f"{path}:{node.lineno} imports relatively; we write the package's name."
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    allowed = {
        name for where, names in LIBRARIES.items() if path.startswith(where) for name in names
    }
    for found in imports(tree):
        said += [fault for rule in RULES if (fault := rule.fault(path, found))]
        if found.top not in {*sys.stdlib_module_names, *OURS, *allowed}:
            said.append(
                f"{path}:{found.line} imports {found.top}, which this package may not need."
            )
    if path.startswith("broker/") and path != SEAM:
        said += private_uses(path, tree)
    return list(dict.fromkeys(said))


@cache
def amqtt_private() -> frozenset[str]:
    """Return the private names that amqtt's classes and modules define, read from its sources."""
    spec = find_spec("amqtt")
    assert spec is not None
    assert spec.origin is not None
    names: set[str] = set()
    for path in Path(spec.origin).parent.rglob("*.py"):
        names |= defined_private(ast.parse(path.read_text()))
    return frozenset(names)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def defined_private(tree: ast.Module) -> set[str]:
    """Return the private names that a module defines: functions, classes, attributes and variables."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return {name for name in names if is_private(name)}


def private_uses(path: str, tree: ast.Module) -> Iterator[str]:
    """Yield a sentence for each use of something private that only amqtt can have defined."""
    own = defined_private(tree)
    uses_amqtt = any(found.top == "amqtt" for found in imports(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and _within(node.module or "", "amqtt"):
            names = [alias.name for alias in node.names if is_private(alias.name)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            # What a class inherits from amqtt is reached through self as well.
            theirs = node.attr in amqtt_private() and (uses_amqtt or not of_self)
            names = [node.attr] if theirs and not (of_self and node.attr in own) else []
        else:
            continue
        for name in names:
            yield f"{path}:{node.lineno} uses amqtt's {name}, but only {SEAM} knows amqtt's inside."


def modules() -> list[str]:
    return sorted(
        path.relative_to(ROOT).as_posix() for name in OURS for path in (ROOT / name).rglob("*.py")
    )


@pytest.mark.parametrize("package", OURS)
def test_every_import_goes_the_way_that_the_package_says(package: str) -> None:
    paths = [path for path in modules() if path.startswith(f"{package}/")]
    assert len(paths) > 5
    found = [fault for path in paths for fault in faults(path, (ROOT / path).read_text())]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source", "sentence"),
    [
        ("feedgen/x.py", "from devices import slots", "feedgen imports none of our packages"),
        ("feedgen/x.py", "def f():\n import broker.service", "feedgen imports none of our packages"),
        ("feedgen/x.py", "import asyncio", "asyncio belongs to feedgen/store alone"),
        ("feedgen/x.py", "import redis", "imports redis, which this package may not need"),
        ("devices/x.py", "if TYPE_CHECKING:\n import feedgen", "devices imports none of our packages"),
        ("devices/frames.py", "import paho.mqtt", "paho-mqtt is for the device's client"),
        ("simulator/x.py", "from broker.config import Config", "shares nothing with the server but devices"),
        ("broker/x.py", "import simulator.demo", "only the command line starts simulations"),
        ("broker/lane/x.py", "from broker import service", "the lane knows no more of the broker"),
        ("simulator/x.py", "import amqtt", "amqtt is the broker's business"),
        ("broker/x.py", "from .config import Config", "imports relatively"),
        ("broker/x.py", "import requests", "imports requests, which this package may not need"),
        ("broker/x.py", "context._broker_instance", "uses amqtt's _broker_instance"),
        ("broker/x.py", "import amqtt\nself._broker_instance", "uses amqtt's _broker_instance"),
        ("broker/x.py", "from amqtt.broker import _x", "uses amqtt's _x"),
    ],
)  # fmt: skip
def test_a_forbidden_import_is_told_in_a_sentence(path: str, source: str, sentence: str) -> None:
    said = faults(path, source)
    assert any(sentence in each for each in said), said
    assert all(each.endswith(".") and each.startswith(f"{path}:") for each in said)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("feedgen/store/x.py", "import asyncio, redis"),
        ("devices/client.py", "from paho.mqtt.client import Client"),
        ("broker/commands/x.py", "from simulator.demo import run_demo"),
        ("broker/lane/x.py", "from broker.lane.rules import Rules\nfrom broker.counters import Counters"),
        (SEAM, "context._broker_instance"),
        ("broker/x.py", "class A:\n def f(self):\n  self._session = 1\n  return self._session"),
    ],
)  # fmt: skip
def test_a_permitted_import_passes(path: str, source: str) -> None:
    assert faults(path, source) == []
