"""The documentation tells the truth: its links, commands, settings, and every byte of its examples."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
import typer.main
from typer.testing import CliRunner

from broker.cli import app
from broker.config import Config
from broker.config_layers import resolve
from devices.frames import (
    Ack,
    Bye,
    Feedback,
    Hello,
    Profile,
    decode_up,
    payload_capacity,
)
from devices.packets import Decoder, Publish
from devices.replica import Received, Replica
from feedgen.items import decode_item
from simulator.scenario.loading import parse as parse_scenario

ROOT = Path(__file__).parent.parent
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")})
PROTOCOL = ROOT / "docs/protocol.md"

FENCE = re.compile(r"^```(.*?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
SETTING = re.compile(r"(feed|limits|ranking|handover)\.([a-z_]+)")


class Block(NamedTuple):
    """A fenced block of code: its language and what else stands behind the fence, and its text."""

    info: str
    text: str


def blocks(page: Path, info: str = "") -> list[Block]:
    found = [Block(*match) for match in FENCE.findall(page.read_text())]
    return [block for block in found if block.info.startswith(info)]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def unwrapped(page: Path) -> str:
    return " ".join(prose(page).split())


def shell_lines(page: Path) -> list[str]:
    """Return what a reader is told to type: the lines of shell blocks, and code within sentences."""
    typed = [line for block in blocks(page, "sh") for line in block.text.splitlines()]
    return [*typed, *SPAN.findall(prose(page))]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=named)


# Links


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@every_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target in LINK.findall(prose(page)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        if not to.exists() or (anchor and anchor not in anchors(to)):
            dead.append(target)
    assert not dead


def test_every_page_of_the_documentation_can_be_reached_from_the_readme() -> None:
    linked = set(LINK.findall(prose(ROOT / "README.md")))
    assert {named(page) for page in ROOT.glob("docs/*.md")} <= linked
    assert {"LICENSE", "asyncapi.yaml"} <= linked


# Commands


def command_at(words: list[str]) -> tuple[Any, list[str]]:
    """Return the deepest command that `words` name, and its path."""
    command, path = typer.main.get_command(app), []
    for word in words:
        inner = getattr(command, "commands", {}).get(word)
        if inner is None:
            break
        command = inner
        path.append(word)
    return command, path


@cache
def help_is_there(*path: str) -> bool:
    """Whether a command says what it does; asked once, as pages name the same commands again and again."""
    return CliRunner().invoke(app, [*path, "--help"]).exit_code == 0


@every_page
def test_every_command_line_of_fleetfeed_exists(page: Path) -> None:
    for line in shell_lines(page):
        if not line.startswith("fleetfeed "):
            continue
        words = shlex.split(line.replace("…", ""))[1:]
        command, path = command_at(words)
        assert path or words[0].startswith("-"), f"there is no command in: {line}"
        assert help_is_there(*path), line
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        used = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert used <= {*known, "--help", "-h"}, line


@every_page
def test_every_make_target_and_benchmark_exists(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in shell_lines(page):
        words = line.split()
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, line
        elif words[0] == "python" and words[1].startswith("benchmarks/"):
            source = (ROOT / words[1]).read_text()
            harness = (ROOT / "benchmarks/harness.py").read_text()
            options = [word for word in words[2:] if word.startswith("--")]
            assert all(f'"{option}"' in source + harness for option in options), line


# Settings


def default_of(section: str, key: str) -> Any:
    model = Config.model_fields[section].default
    assert key in type(model).model_fields, f"there is no setting {section}.{key}"
    return getattr(model, key)


@every_page
def test_every_setting_that_is_named_exists(page: Path) -> None:
    for span in SPAN.findall(prose(page)):
        if (match := SETTING.fullmatch(span)) and match[2] != "py":
            default_of(*match.groups())


@every_page
def test_every_default_beside_a_setting_is_its_default(page: Path) -> None:
    beside = re.compile(rf"`{SETTING.pattern}`(?:[a-z ]*\(|, )(\d[\d ]*)(?![\d:])")
    for section, key, said in beside.findall(prose(page)):
        assert default_of(section, key) == int(said.replace(" ", "")), (
            f"{section}.{key} is not {said}"
        )


@every_page
def test_every_toml_block_is_a_valid_configuration_or_scenario(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "toml"):
        if "scenario" in tomllib.loads(block.text):
            parse_scenario(block.text, page.name)
            continue
        file = tmp_path / "fleetfeed.toml"
        file.write_text(block.text)
        assert resolve(file, {}, {}).problems == ()


# Code


@every_page
def test_every_json_block_parses(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block.text)


@every_page
def test_every_python_block_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block.text)


def test_the_items_of_the_protocol_page_are_accepted() -> None:
    shown = [decode_item("news", block.text.encode()) for block in blocks(PROTOCOL, "json")]
    assert [item.retract for item in shown] == [False, True]


# Bytes


class Shown(NamedTuple):
    """One example: its bytes, the value beside them, and the window that it is said to leave."""

    data: bytes
    value: Any
    window: tuple[int, ...]


def examples(info: str) -> list[Shown]:
    (block,) = blocks(PROTOCOL, info)
    lines = block.text.splitlines()
    found = []
    for digits, said in zip(lines[::2], lines[1::2], strict=True):
        value, _, window = said.partition("->")
        numbers = tuple(int(n) for n in window.split())
        found.append(Shown(bytes.fromhex(digits), ast.literal_eval(value.strip()), numbers))
    return found


@pytest.mark.parametrize("info", ["frames oven-17", "ups oven-17"])
def test_the_bytes_of_every_example_are_its_value(info: str) -> None:
    for shown in examples(info):
        assert shown.data == msgpack.packb(shown.value)


def test_the_frames_of_the_example_do_to_the_device_what_is_said() -> None:
    oven = Replica(k=4)
    for shown in examples("frames oven-17"):
        if len(shown.value) > 4 and shown.value[0] == 1:
            # Named base: what came between was lost, and the device is where it was.
            assert shown.value[4] == oven.seq
        assert oven.receive(shown.data) is Received.APPLIED
        assert tuple(item.n for item in oven.window) == shown.window
        assert oven.position == tuple(shown.value[1:3])


def test_the_up_messages_of_the_example_are_one_of_each_kind_and_accepted() -> None:
    kinds = [type(decode_up(shown.data)) for shown in examples("ups oven-17")]
    assert kinds == [Hello, Hello, Ack, Feedback, Profile, Bye]


def test_the_packet_of_the_example_carries_the_second_frame() -> None:
    (block,) = blocks(PROTOCOL, "packet")
    data = bytes.fromhex("".join(line[:35] for line in block.text.splitlines()))
    ((packet, raw),) = Decoder(role="client", max_packet=256).feed(data)
    frame = examples("frames oven-17")[1].data
    assert packet == Publish("f/oven-17", frame, qos=1, packet_id=7)
    assert f"{len(raw)} bytes for a payload of {len(b'Gale until 18:00')}" in unwrapped(PROTOCOL)


def test_the_room_for_payloads_is_the_one_that_the_page_gives() -> None:
    said = re.search(
        r"budget less (\d+) bytes, less the length of the prefix, less 2 for `f/`",
        unwrapped(PROTOCOL),
    )
    assert said is not None
    expected = 256 - int(said[1]) - len("site1/") - 2 - len("oven-17")
    assert payload_capacity(256, "oven-17", "site1/") == expected


def test_the_overhead_that_the_performance_page_gives_is_counted_right() -> None:
    page = (ROOT / "docs/performance.md").read_text()
    for epoch in (1, 7826):
        for expires in (0, 1_800_000_000):
            payload = b"x" * 100
            frame = msgpack.packb([1, epoch, 5, [[0, [60_000, expires, 3, payload]]]])
            assert re.search(rf"\|[^|\n]*\|.*\b{len(frame) - len(payload)}\b.*\|", page)
