"""`asyncapi.yaml` keeps to AsyncAPI's own schema, and says what the code does: topics, figures, messages, bytes."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
import yaml  # type: ignore[import-untyped] # stubs for one call are not worth a dependency
from jsonschema import Draft7Validator, validators

from broker.admin import handlers
from broker.control import SOCKET_NAME
from broker.figures.catalog import FIGURES, Root
from devices.frames import BadFrame, BadUp, Delta, Snapshot, decode_frame, decode_up
from devices.packets import Publish
from feedgen import items
from feedgen.items import decode_item
from tests.broker.support import ROOT, Served
from tests.wire_cases import FRAMES, UPS, Valid

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Serve = Callable[..., Awaitable[Served]]

PROTOCOL = (ROOT / "docs/protocol.md").read_text()
DOCUMENT = yaml.safe_load((ROOT / "asyncapi.yaml").read_text())
CHANNELS, COMPONENTS = DOCUMENT["channels"], DOCUMENT["components"]

# Of AsyncAPI 3.0.0, from its repository `spec-json-schemas`; licence and notice lie beside it.
ASYNCAPI = json.loads((ROOT / "tests/data/asyncapi-3.0.0.json").read_text())

# A byte string is a string here, as the document says; and 1.0 is not an integer, as msgpack says.
Validator = validators.extend(
    Draft7Validator,
    type_checker=Draft7Validator.TYPE_CHECKER.redefine_many(
        {
            "string": lambda _, value: isinstance(value, str | bytes),
            "integer": lambda _, value: type(value) is int,
        }
    ),
)


def faults(document: Any) -> list[str]:
    """Where a document breaks the rules of AsyncAPI, and how."""
    found = Draft7Validator(ASYNCAPI).iter_errors(document)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


def target(reference: str) -> Any:
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return target(found["$ref"]) if isinstance(found, dict) and "$ref" in found else found


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        inner = [r for each in node.values() for r in references(each)]
        return [*inner, node["$ref"]] if isinstance(node.get("$ref"), str) else inner
    return [r for each in node for r in references(each)] if isinstance(node, list) else []


def fits(value: Any, message: str) -> bool:
    """Whether a decoded value is a message."""
    payload = COMPONENTS["messages"][message]["payload"]
    return bool(Validator({"components": COMPONENTS, "allOf": [payload]}).is_valid(value))


def fitting(channel: str, value: Any) -> list[str]:
    """Those messages of a channel that a decoded value is."""
    return [name for name in CHANNELS[channel]["messages"] if fits(value, name)]


def unpacked(data: bytes) -> Any:
    """A message as the document shows it: keys are strings."""
    return msgpack.unpackb(
        data, strict_map_key=False, object_pairs_hook=lambda pairs: {str(k): v for k, v in pairs}
    )


def figures(parameter: str) -> list[str]:
    return list(COMPONENTS["parameters"][parameter]["enum"])


def paths(root: Root) -> set[str]:
    """What the catalog of figures has below a root, and the version, which is no figure."""
    leaves = [leaf for figure in FIGURES.values() for leaf in figure.leaves if leaf.root is root]
    return {"version"} | {path for leaf in leaves for path in leaf.paths}


# The document itself


def test_it_is_asyncapi_3_by_the_schema_of_asyncapi() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert faults(DOCUMENT) == []


def test_a_document_that_breaks_a_rule_would_be_found() -> None:
    for break_it in (
        lambda broken: broken["channels"]["items"].update(adress="items"),
        lambda broken: broken["operations"]["sendFrame"].update(action="publish"),
        lambda broken: broken["components"]["schemas"]["n"].update(minimum="1"),
        lambda broken: broken["operations"]["sendFigure"]["bindings"]["mqtt"].update(qos=3),
    ):
        broken = copy.deepcopy(DOCUMENT)
        break_it(broken)
        assert faults(broken)


def test_every_reference_resolves_and_nothing_is_described_in_vain() -> None:
    used = set(references(DOCUMENT))
    for reference in used:
        target(reference)
    described = {
        f"#/components/{kind}/{name}" for kind, each in COMPONENTS.items() for name in each
    }
    assert described <= used
    assert {f"#/channels/{name}" for name in CHANNELS} <= used


def test_the_operations_use_every_message_of_every_channel() -> None:
    offered = {
        f"#/channels/{name}/messages/{message}"
        for name, channel in CHANNELS.items()
        for message in channel["messages"]
    }
    assert offered <= set(references(DOCUMENT["operations"]))


def test_every_parameter_of_an_address_is_described_and_no_other() -> None:
    for channel in CHANNELS.values():
        named = set(re.findall(r"\{(\w+)\}", channel["address"] or ""))
        assert named == set(channel.get("parameters", {}))


def test_every_example_fits_its_message_and_the_codecs_take_it() -> None:
    for name, message in COMPONENTS["messages"].items():
        for example in message.get("examples", []):
            value = example["payload"]
            assert fits(value, name), name
            if name == "item":
                decode_item("news", json.dumps(value).encode())
            elif message.get("contentType") is None:
                numbered = [
                    {int(k): v for k, v in e.items()} if name == "hello" and type(e) is dict else e
                    for e in value
                ]
                decode = decode_frame if name in ("snapshot", "delta") else decode_up
                assert type(decode(msgpack.packb(numbered))).__name__.lower() == name


# Topics


def test_its_channels_are_the_topics_of_the_protocol() -> None:
    table = re.findall(
        r"^\| `([^`]+)` \| (?:publisher|feed|device|gateway) to ", PROTOCOL, re.MULTILINE
    )
    forms = {re.sub(r"<(\w+)>", r"{\1}", topic).replace("…", "{figure}") for topic in table}
    addresses = {channel["address"] for channel in CHANNELS.values() if channel["address"]}
    assert forms == addresses
    assert {"items/{channel}", "f/{device}", "u/{device}", "$SYS/broker/feed/{figure}"} < forms


def test_every_figure_of_the_catalog_is_named_and_no_other() -> None:
    for parameter, root in ("figure", Root.FEED), ("mosquittoFigure", Root.MOSQUITTO):
        named = figures(parameter)
        assert len(named) == len(set(named))
        assert set(named) == paths(root)


async def test_what_a_server_tells_below_sys_is_what_the_document_says(serve: Serve) -> None:
    served = await serve()
    peer = await served.connect("")
    await peer.subscribe(("$SYS/#", 0))
    peer.send(b"\xc0\x00")
    while isinstance(packet := await peer.read(), Publish):
        text = packet.payload.decode()
        ours = packet.topic.startswith(Root.FEED)
        channel, parameter = (
            ("figures", "figure") if ours else ("mosquittoFigures", "mosquittoFigure")
        )
        path = packet.topic.removeprefix(Root.FEED if ours else Root.MOSQUITTO)
        assert path in figures(parameter)
        assert fitting(channel, text) == ["version" if path == "version" else "number"], text
        assert packet.retain


async def test_the_control_socket_takes_the_commands_that_it_names(serve: Serve) -> None:
    served = await serve()
    named = COMPONENTS["schemas"]["request"]["properties"]["do"]["enum"]
    assert set(named) == set(handlers(served.server, b""))
    reader, writer = await asyncio.open_unix_connection(served.data / SOCKET_NAME)
    for request, ok in ({"do": "status"}, True), ({"do": "device.show", "args": {}}, False):
        assert fitting("control", request) == ["request"]
        writer.write(json.dumps(request).encode() + b"\n")
        answer = json.loads(await reader.readline())
        assert fitting("control", answer) == ["answer"]
        assert answer["ok"] is ok
    writer.close()


# Messages


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
        ("ups", [4, 1.0]),
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


def test_an_item_has_the_keys_and_bounds_that_the_document_gives() -> None:
    keys = COMPONENTS["schemas"]["item"]["properties"]
    assert keys.keys() == items._FIELDS.keys()
    assert (keys["ttl"]["maximum"], keys["ttl"]["default"]) == (items.MAX_TTL, items.DEFAULT_TTL)
    assert keys["priority"]["default"] == items.DEFAULT_PRIORITY
    assert (keys["tags"]["maxItems"], keys["tags"]["items"]["maxLength"]) == (
        items.MAX_TAGS,
        items.MAX_TAG,
    )
    assert keys["where"]["maxProperties"] == items.MAX_ATTRIBUTES
    assert keys["where"]["additionalProperties"]["oneOf"][2]["maxItems"] == items.MAX_VALUES
    assert COMPONENTS["messages"]["opaqueItem"]["payload"]["maxLength"] == items.MAX_ITEM
    rows = re.findall(r"^\| `(\w+)` \|", PROTOCOL, re.MULTILINE)
    assert set(keys) <= set(rows)
