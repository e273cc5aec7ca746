"""The documentation tells the truth: its links, commands, settings, and every byte of its examples."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
import typer.main
import yaml  # type: ignore[import-untyped] # stubs for one call are not worth a dependency
from typer.testing import CliRunner

from broker.cli import app
from broker.config import Config
from broker.config_layers import resolve
from devices.frames import (
    Ack,
    BadFrame,
    BadUp,
    Bye,
    Delta,
    Feedback,
    Hello,
    Profile,
    Snapshot,
    decode_frame,
    decode_up,
    payload_capacity,
)
from devices.packets import Decoder, Publish
from devices.replica import Received, Replica
from feedgen import items
from feedgen.items import decode_item
from simulator.scenario.loading import parse as parse_scenario
from tests.wire_cases import FRAMES, UPS, Valid

ROOT = Path(__file__).parent.parent
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/README.md"})
PROTOCOL = ROOT / "docs/protocol.md"
ASYNCAPI = yaml.safe_load((ROOT / "asyncapi.yaml").read_text())

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


@every_page
def test_every_command_line_of_fleetfeed_exists(page: Path) -> None:
    for line in shell_lines(page):
        if not line.startswith("fleetfeed "):
            continue
        words = shlex.split(line.replace("…", ""))[1:]
        command, path = command_at(words)
        assert path or words[0].startswith("-"), f"there is no command in: {line}"
        done = CliRunner().invoke(app, [*path, "--help"])
        assert done.exit_code == 0, line
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


# AsyncAPI


def schema_of(reference: str) -> Any:
    found: Any = ASYNCAPI
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return schema_of(found["$ref"]) if isinstance(found, dict) and "$ref" in found else found


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        return (
            [node["$ref"]]
            if "$ref" in node
            else [r for each in node.values() for r in references(each)]
        )
    return [r for each in node for r in references(each)] if isinstance(node, list) else []


TYPES = {
    "integer": int,
    "string": str,
    "array": list,
    "object": dict,
    "boolean": bool,
    "null": type(None),
}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Tell whether a decoded message fits a schema, for what of JSON Schema the document uses."""
    if "$ref" in schema:
        return fits(value, schema_of(schema["$ref"]))
    if "oneOf" in schema:
        return sum(fits(value, each) for each in schema["oneOf"]) == 1
    if "const" in schema or "enum" in schema:
        return type(value) is int and value in schema.get("enum", [schema.get("const")])
    wanted = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if type(value) is bytes:
        return "string" in wanted
    if type(value) not in [TYPES[name] for name in wanted]:
        return False
    if type(value) is int:
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    if type(value) is str:
        return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)))
    if type(value) is list:
        inner = schema["items"]
        each = inner if isinstance(inner, list) else [inner] * len(value)
        within = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return within and all(map(fits, value, each))  # what is longer grew: the rest is ignored
    if type(value) is dict:
        known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        if len(value) > schema.get("maxProperties", len(value)) or (
            others is False and not value.keys() <= known.keys()
        ):
            return False
        other = others if isinstance(others, dict) else None
        return all(fits(v, s) for k, v in value.items() if (s := known.get(k, other)) is not None)
    return True


def unpacked(data: bytes) -> Any:
    """Return a message as the document shows it: keys are strings."""
    return msgpack.unpackb(
        data, strict_map_key=False, object_pairs_hook=lambda pairs: {str(k): v for k, v in pairs}
    )


def fitting(channel: str, value: Any) -> list[str]:
    names = ASYNCAPI["channels"][channel]["messages"]
    return [n for n in names if fits(value, schema_of(f"#/components/messages/{n}")["payload"])]


def test_every_reference_of_the_asyncapi_document_resolves() -> None:
    assert ASYNCAPI["asyncapi"].startswith("3.")
    for reference in references(ASYNCAPI):
        schema_of(reference)


def test_its_channels_are_the_topics_of_the_protocol() -> None:
    addresses = {each["address"] for each in ASYNCAPI["channels"].values()}
    topics = set(re.findall(r"^\| `((?:items|f|u)/<\w+>)`", PROTOCOL.read_text(), re.MULTILINE))
    assert addresses == {topic.replace("<", "{").replace(">", "}") for topic in topics}
    assert len(topics) == 3


def test_its_operations_use_every_message_of_every_channel() -> None:
    used = {r for each in ASYNCAPI["operations"].values() for r in references(each["messages"])}
    offered = {
        f"#/channels/{name}/messages/{message}"
        for name, channel in ASYNCAPI["channels"].items()
        for message in channel["messages"]
    }
    assert used == offered


@pytest.mark.parametrize("case", [case for case in FRAMES if case.value is not None], ids=str)
def test_every_frame_of_the_wire_cases_fits_its_message_alone(case: Valid[Any]) -> None:
    expected = {Snapshot: "snapshot", Delta: "delta"}[type(case.value)]
    assert fitting("frames", unpacked(case.data)) == [expected]


@pytest.mark.parametrize("case", UPS, ids=str)
def test_every_up_message_of_the_wire_cases_fits_its_message_alone(case: Valid[Any]) -> None:
    value = unpacked(case.data)
    assert fitting("ups", value) == [type(case.value).__name__.lower()]


@pytest.mark.parametrize(
    ("channel", "value"),
    [
        ("frames", [2, 1, 1, []]),
        ("frames", [0, 0, 1, 8, []]),
        ("frames", [0, 1, 1, 65, []]),
        ("frames", [1, 1, 1]),
        ("frames", [1, 1, 1, [[0, [0, 0, 1, "item 0"]]]]),
        ("frames", [1, 1, 1, [[0, [1, 0, 4, "priority 4"]]]]),
        ("ups", [5]),
        ("ups", [0, 1 << 32, 0]),
        ("ups", [2, [[1, 4]]]),
        ("ups", [3, {"follow": ["a"] * 33}]),
        ("ups", [4, True]),
    ],
)
def test_what_the_codecs_refuse_fits_no_message(channel: str, value: list[Any]) -> None:
    assert fitting(channel, value) == []
    decode = decode_frame if channel == "frames" else decode_up
    if value[0] == 2 and channel == "frames":
        assert decode(msgpack.packb(value)) is None  # a type of a later version
    else:
        with pytest.raises((BadFrame, BadUp)):
            decode(msgpack.packb(value))


def test_the_examples_of_the_document_are_decoded_and_fit() -> None:
    for name, message in ASYNCAPI["components"]["messages"].items():
        for example in message.get("examples", []):
            value = example["payload"]
            assert fits(value, message["payload"]), name
            if name == "item":
                decode_item("news", json.dumps(value).encode())
                continue
            numbered = [
                {int(k): v for k, v in e.items()} if name == "hello" and type(e) is dict else e
                for e in value
            ]
            decoded = (decode_frame if name in ("snapshot", "delta") else decode_up)(
                msgpack.packb(numbered)
            )
            assert type(decoded).__name__.lower() == name


def test_an_item_has_the_keys_and_bounds_that_the_document_gives() -> None:
    schema = schema_of("#/components/schemas/item")
    keys = schema["properties"]
    assert keys.keys() == items._FIELDS.keys()
    assert (keys["ttl"]["maximum"], keys["ttl"]["default"]) == (items.MAX_TTL, items.DEFAULT_TTL)
    assert keys["priority"]["default"] == items.DEFAULT_PRIORITY
    assert (keys["tags"]["maxItems"], keys["tags"]["items"]["maxLength"]) == (
        items.MAX_TAGS,
        items.MAX_TAG,
    )
    assert keys["where"]["maxProperties"] == items.MAX_ATTRIBUTES
    assert keys["where"]["additionalProperties"]["oneOf"][2]["maxItems"] == items.MAX_VALUES
    assert schema_of("#/components/messages/opaqueItem")["payload"]["maxLength"] == items.MAX_ITEM
    rows = re.findall(r"^\| `(\w+)` \|", PROTOCOL.read_text(), re.MULTILINE)
    assert set(keys) <= set(rows)
