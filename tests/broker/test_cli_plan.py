"""`fleetfeed plan` as its user meets it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker.cli import app
from broker.commands.plan import parse_number
from broker.commands.shell import Failure
from broker.plan_costs import load

PAGE = Path(__file__).parents[2] / "docs/scale.md"
SMALL = ("--devices", "20K", "--items-per-s", "1", "--followers", "500")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments], env={"COLUMNS": "100"})


def worked_example() -> tuple[list[str], str]:
    """Return the arguments of the example in the documentation, and what it says that they print."""
    command, printed = re.findall(
        r"^```sh\n(fleetfeed plan .*?)\n```\n+```text\n(.*?)^```$",
        PAGE.read_text(),
        re.MULTILINE | re.DOTALL,
    )[0]
    return shlex.split(command)[2:], printed


def test_the_worked_example_is_reproduced_to_the_letter() -> None:
    arguments, printed = worked_example()
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert [line.rstrip() for line in done.output.splitlines()] == printed.splitlines()


def test_the_worked_example_is_the_one_that_is_asked_for() -> None:
    arguments, _ = worked_example()
    found = json.loads(run(*arguments, "--json").output)
    assert found["demand"]["devices"] == 100_000_000
    assert found["demand"]["requests_per_s"] * 86_400 == pytest.approx(1e9, rel=0.001)
    peak = found["peak"]["connects"] + found["peak"]["ups"]
    assert round(peak, -3) == 35_000
    spike = found["spike"]["connects"] + found["spike"]["ups"]
    assert spike == pytest.approx(10 * peak)


def table(title: str) -> list[list[str]]:
    """Return the rows of the first table under a heading of the page, without those of its head."""
    section = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [row.split(" | ") for row in rows[1:]]


def test_the_unit_costs_of_the_page_are_those_of_the_data_file() -> None:
    costs = load().entries
    shown = {name.strip("`"): value for name, value, _ in table("Unit costs")}
    assert shown.keys() == costs.keys()
    for name, value in shown.items():
        number, unit = re.fullmatch(r"([\d. ]+) (\D+)", value).groups()  # type: ignore[union-attr]
        assert float(number.replace(" ", "")) == pytest.approx(costs[name].value, rel=1e-4), name
        assert unit == costs[name].unit, name


def test_the_sizes_of_the_page_are_planned_as_it_says() -> None:
    rows = table("What breaks first, at each size")
    assert [row[0] for row in rows] == [
        "1 000",
        "100 000",
        "1 000 000",
        "10 000 000",
        "100 000 000",
    ]
    for row in rows:
        devices = int(row[0].replace(" ", ""))
        arguments = ("--devices", str(devices), "--followers", str(devices / 100), "--json")
        rates = {"--items-per-s": 10, "--requests-per-s": 10 * devices / 86_400, "--feedback-per-s": 7 * devices / 86_400}  # fmt: skip
        flat = [str(each) for pair in rates.items() for each in pair]
        found = json.loads(run(*arguments, *flat, "--no-growth").output)
        nodes = "1, with SQLite" if found["alone"] else f"{found['nodes']:,}".replace(",", " ")
        assert row[2] == nodes
        assert row[3] == ("no" if found["redis"] is None else str(found["redis"]["masters"]))
        assert row[4].split(";")[0] == found["binding"]


def test_every_number_of_the_tables_is_in_the_json() -> None:
    found = json.loads(run(*SMALL, "--json").output)
    assert found["alone"] is True
    assert found["nodes"] == 1
    assert found["redis"] is None
    assert {need["resource"] for need in found["needs"]} == {
        "CPU", "memory", "connections", "bandwidth",
    }  # fmt: skip
    assert len(found["growth"]) == 5 * 3


def test_a_small_fleet_is_told_that_it_needs_no_redis() -> None:
    said = run(*SMALL, "--no-growth").output
    assert "1 process, with its own SQLite store" in said
    assert "Redis master" not in said
    assert "What breaks first" not in said


def test_what_binds_is_marked() -> None:
    said = run("--devices", "10M", "--items-per-s", "1", "--followers", "1000").output
    assert len(re.findall(r"◀ binds *$", said, re.MULTILINE)) == 2  # of nodes, of masters


def test_an_impossible_fleet_is_told_why() -> None:
    done = run("--devices", "1M", "--items-per-s", "100K", "--followers", "1")
    assert done.exit_code == 0
    assert "No number of nodes is enough" in done.output
    assert "no number" in done.output


def test_numbers_are_written_as_people_write_them() -> None:
    written = {"250": 250, "12K": 12_000, "12k": 12_000, "1.5M": 1.5e6, "1B": 1e9, "0.1": 0.1}
    assert {text: parse_number(text) for text in written} == written


@pytest.mark.parametrize("text", ["", "K", "many", "1KM", "--"])
def test_what_is_no_number_is_wrong_usage(text: str) -> None:
    assert run(*SMALL, "--ttl", text).exit_code == 2


def test_costs_of_another_machine_may_be_given(tmp_path: Path) -> None:
    own = tmp_path / "costs.json"
    shipped = Path(sys.modules["broker"].__file__ or "").parent / "costs.json"
    text = json.loads(shipped.read_text())
    text["costs"]["process_bytes"]["value"] *= 10
    own.write_text(json.dumps(text))
    shares = []
    for options in ((), ("--costs", str(own))):
        found = json.loads(run(*SMALL, "--json", *options).output)
        shares += [need["share"] for need in found["needs"] if need["resource"] == "memory"]
    assert shares[1] > shares[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--followers", "30K"), "at most as many"),
        (("--connected-share", "2"), "a share"),
        (("--costs", "/nowhere/costs.json"), "No such file"),
    ],
)
def test_a_wrong_input_is_one_sentence(arguments: tuple[str, str], said: str) -> None:
    done = run(*SMALL, *arguments)
    assert isinstance(done.exception, Failure)
    assert done.exception.code == 2
    assert said in str(done.exception)


def test_the_costs_are_found_wherever_the_package_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "broker", "plan", *SMALL, "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["nodes"] == 1
