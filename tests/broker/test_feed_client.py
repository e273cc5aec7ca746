"""The Python client on the real server, through restarts of both."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from devices.client import FeedClient
from devices.frames import FeedItem
from tests.broker.support import PATIENCE, ServerProcess, item

Start = Callable[..., ServerProcess]


def shown(feed: FeedClient) -> list[str | bytes]:
    return [each.payload for each in feed.window]


def wait_for(feed: FeedClient, *payloads: str) -> None:
    """Until the window is this."""
    deadline = time.monotonic() + PATIENCE
    while shown(feed) != list(payloads):
        left = deadline - time.monotonic()
        assert left > 0, f"shows {shown(feed)}, not {payloads}"
        feed.wait_for_change(left)


def answered(feed: FeedClient) -> None:
    """Until the server has answered."""
    deadline = time.monotonic() + PATIENCE
    while feed.position == (0, 0):
        assert time.monotonic() < deadline
        feed.wait_for_change(0.02)


@pytest.fixture
def clients() -> Any:
    """Start clients that are stopped in the end, and fail on what they report."""
    with ExitStack() as stack:
        errors: list[Exception] = []

        def start(device: str, server: ServerProcess, **options: Any) -> FeedClient:
            options = {"flush_after": 0.02, "reconnect_after": 0.05, **options}
            options.setdefault("on_error", errors.append)
            feed = FeedClient(device, port=server.address[1], **options)
            return stack.enter_context(feed)

        yield start
    assert not errors


@pytest.fixture
def server(process: Start) -> ServerProcess:
    return process()


async def test_changes_are_called_back_with_the_window(server: ServerProcess, clients: Any) -> None:
    seen: list[tuple[FeedItem, ...]] = []
    feed = clients("kitchen", server, on_change=seen.append)
    answered(feed)
    await server.publish(item("a", "one"), item("b", "two", 2))
    wait_for(feed, "two", "one")
    assert [each.payload for each in seen[-1]] == ["two", "one"]
    assert all(each.expires > 0 for each in feed.window)  # it has a clock


async def test_a_dismissed_item_goes_and_never_returns(server: ServerProcess, clients: Any) -> None:
    feed = clients("kitchen", server)
    answered(feed)
    await server.publish(item("a", "boring"), item("b", "good"))
    wait_for(feed, "good", "boring")
    feed.shown(feed.window[1].n, 1)
    feed.dismissed(feed.window[1].n)
    wait_for(feed, "good")
    await server.publish(item("a", "boring again"), item("c", "newest"))
    wait_for(feed, "newest", "good")
    assert server.count("dropped", "feedback_unknown_item") == 0
    feed.stop()
    again = clients("kitchen", server)
    wait_for(again, "newest", "good")


async def test_following_and_attributes_reach_the_server(
    server: ServerProcess, clients: Any
) -> None:
    feed = clients("kitchen", server)
    answered(feed)
    await server.publish(item("a", "rain"), channel="weather")
    await server.publish(item("b", "snow", where={"region": "north"}), channel="weather")
    await server.publish(item("c", "goal"), channel="sports")
    wait_for(feed, "goal", "rain")
    feed.unfollow("#")
    wait_for(feed)
    feed.follow("weather")
    wait_for(feed, "rain")
    feed.set_attrs(region="north")
    wait_for(feed, "snow", "rain")


@pytest.mark.parametrize("clean", [True, False])
async def test_a_restarted_client_resumes_from_its_file_without_a_snapshot(
    server: ServerProcess, clients: Any, tmp_path: Path, clean: bool
) -> None:
    options = {"state": tmp_path / "kitchen.feed", "clean_session": clean}
    feed = clients("kitchen", server, **options)
    await server.publish(item("a", "one"))
    wait_for(feed, "one")
    feed.stop()
    await server.publish(item("b", "missed"))
    snapshots = server.count("frames", "snapshots")
    again = clients("kitchen", server, **options)
    assert shown(again)[-1] == "one"  # before a word is exchanged
    wait_for(again, "missed", "one")
    assert server.count("frames", "snapshots") == snapshots


@pytest.mark.parametrize("clean", [True, False])
async def test_a_client_goes_on_after_the_server_was_killed(
    server: ServerProcess, clients: Any, tmp_path: Path, clean: bool
) -> None:
    feed = clients("kitchen", server, state=tmp_path / "kitchen.feed", clean_session=clean)
    await server.publish(item("a", "before"))
    wait_for(feed, "before")
    epoch, _ = feed.position
    server.kill()
    assert shown(feed) == ["before"]
    server.start()
    await server.publish(item("b", "after"))
    wait_for(feed, "after", "before")
    assert feed.position[0] == epoch + 1


async def test_a_client_goes_on_where_it_was_after_the_server_was_restarted(
    server: ServerProcess, clients: Any
) -> None:
    feed = clients("kitchen", server, clean_session=True)
    await server.publish(item("a", "before"))
    wait_for(feed, "before")
    position = feed.position
    server.stop()
    server.start()
    await server.publish(item("b", "after"))
    wait_for(feed, "after", "before")
    assert feed.position == (position[0], position[1] + 1)
    assert server.count("frames", "snapshots") == 0


async def test_a_client_with_a_secret_on_a_closed_server(process: Start, clients: Any) -> None:
    server = process(opened=False)
    secret = server.command("device.add", device="kitchen")["secret"]
    feed = clients("kitchen", server, password=secret)
    answered(feed)
    errors: list[Exception] = []
    stranger = clients("kitchen", server, password="guess", on_error=errors.append)
    deadline = time.monotonic() + PATIENCE
    while not errors:
        assert time.monotonic() < deadline
        stranger.wait_for_change(0.02)
    assert "refused" in str(errors[0])
    assert feed.position != (0, 0)
