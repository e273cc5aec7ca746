"""What is not public in amqtt and relied on all the same, pinned to one release."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import requires, version
from pathlib import Path

from amqtt.broker import Broker, BrokerContext
from amqtt.session import Session

import broker
from broker import amqtt_seam

PINNED = "0.12.1"


def test_the_release_is_the_one_that_the_seam_was_made_for() -> None:
    assert version("amqtt") == PINNED
    assert f"amqtt=={PINNED}" in (requires("fleetfeed") or ())


async def test_the_context_of_a_plugin_holds_its_broker() -> None:
    made = Broker({"listeners": amqtt_seam.external_listener(), "plugins": {}})
    context = BrokerContext(made)
    assert context._broker_instance is made


def test_the_bridge_is_taken_by_a_public_method() -> None:
    assert list(inspect.signature(Broker.external_connected).parameters) == [
        "self",
        "reader",
        "writer",
        "listener_name",
    ]
    assert inspect.iscoroutinefunction(Broker.external_connected)


def test_a_session_has_what_the_bridge_is_known_by() -> None:
    session = Session()
    assert session.password is None
    assert session.clean_session is None


def test_nothing_else_of_amqtt_that_is_private_is_used() -> None:
    found = {
        path.name: re.findall(r"(?:broker|context|session|amqtt)\._[a-z]\w*", path.read_text())
        for path in Path(broker.__file__).parent.rglob("*.py")
    }
    private = {name: uses for name, uses in found.items() if "_broker_instance" in str(uses)}
    assert private == {"amqtt_seam.py": ["context._broker_instance"]}


def test_the_names_that_only_the_seam_may_import() -> None:
    importing = {
        path.name
        for path in Path(broker.__file__).parent.rglob("*.py")
        if re.search(r"^\s*(?:from|import) amqtt\b", path.read_text(), re.MULTILINE)
    }
    assert importing == {"amqtt_seam.py", "app.py", "plugin.py"}
