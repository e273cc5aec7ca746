"""`docs/scenarios.md` says every key of a scenario file as the model has it, and its example is valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from simulator.links.profiles import PROFILES
from simulator.scenario import model, tables
from simulator.scenario.loading import parse, shipped

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PAGE = (Path(__file__).parents[3] / "docs/scenarios.md").read_text()

TABLES = {
    "[scenario]": model.Head,
    "[server]": model.Server,
    "[[class]]": tables.DeviceClass,
    "[[publisher]]": tables.Publisher,
    "[[phase]]": model.Phase,
    "[[fault]]": model.Fault,
    "[expect]": model.Expect,
}


def rows(table: Any) -> list[str]:
    """What the page has to say of a table: key, default, meaning."""
    return [
        f"| `{info.alias or name}` | {_default(info)} | {info.description} |"
        for name, info in table.model_fields.items()
    ]


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "needed"
    value = info.default
    if value is None or value in ({}, ""):
        return "–"  # noqa: RUF001 - a dash, as in the other tables of the documentation
    if isinstance(value, tuple):
        value = list(value)
    said = (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
    return f"`{said}`"  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_every_key_is_documented_as_it_is(name: str) -> None:
    section = PAGE.partition(f"\n### `{name}`\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    assert re.findall(r"^\| `.*\|$", section, re.MULTILINE) == rows(TABLES[name])


def test_the_example_is_a_scenario() -> None:
    example = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    assert parse(example, "example.toml").scenario.name == "my-fleet"


def test_every_scenario_fault_and_link_is_named() -> None:
    for name in (*shipped(), *model.Happening.__args__, *PROFILES):
        assert f"`{name}`" in PAGE, name
