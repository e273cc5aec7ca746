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
PRIVATE = {"context._broker_instance", "_broker._subscriptions"}


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


async def test_subscriptions_are_where_they_are_replaced() -> None:
    made = Broker({"listeners": amqtt_seam.external_listener(), "plugins": {}})
    assert type(made._subscriptions) is dict
    assert made.subscriptions is made._subscriptions


def test_subscriptions_may_change_under_whoever_walks_over_them() -> None:
    first, last = (Session(), 0), (Session(), 1)
    subscriptions = amqtt_seam._Subscriptions({"a": [first, last], "b": []})
    seen = []
    for _, subscribers in subscriptions.items():  # noqa: PERF102 - the way amqtt walks
        subscriptions["c"] = []
        for subscriber in subscribers:
            subscriptions["a"].remove(subscriber)
            seen.append(subscriber)
    assert seen == [first, last]
    for name in subscriptions:
        del subscriptions[name]
    assert subscriptions == {}


def test_a_session_has_what_the_bridge_is_known_by() -> None:
    session = Session()
    assert session.password is None
    assert session.clean_session is None


def test_nothing_else_of_amqtt_that_is_private_is_used() -> None:
    found = {
        path.name: set(re.findall(r"(?:context|_broker)\._[a-z]\w*", path.read_text()))
        for path in Path(broker.__file__).parent.rglob("*.py")
    }
    private = {name: uses for name, uses in found.items() if uses & PRIVATE}
    assert private == {"amqtt_seam.py": PRIVATE}


def test_the_names_that_only_the_seam_may_import() -> None:
    importing = {
        path.name
        for path in Path(broker.__file__).parent.rglob("*.py")
        if re.search(r"^\s*(?:from|import) amqtt\b", path.read_text(), re.MULTILINE)
    }
    assert importing == {"amqtt_seam.py", "app.py", "plugin.py"}
