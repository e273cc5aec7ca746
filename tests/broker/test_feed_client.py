"""The Python client on the real server: through restarts of both, with TLS, and where it is refused."""

from __future__ import annotations

import queue
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from devices.client import FeedClient, FeedClientError, RefusedError
from devices.frames import FeedItem
from tests.broker.support import PATIENCE, ServerProcess, eventually, item

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
            options.setdefault("port", server.address[1])
            feed = FeedClient(device, **options)
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


# ---- Refused


@pytest.fixture
def errors() -> queue.Queue[Exception]:
    """What a client told `on_error`."""
    return queue.Queue()


def refused(errors: queue.Queue[Exception]) -> int | None:
    """The return code of the next refusal, which must come."""
    error = errors.get(timeout=PATIENCE)
    assert isinstance(error, RefusedError), error
    return error.code


async def test_a_client_with_a_secret_on_a_closed_server(
    process: Start, clients: Any, errors: queue.Queue[Exception]
) -> None:
    server = process(opened=False)
    secret = server.command("device.add", device="kitchen")["secret"]
    feed = clients("kitchen", server, password=secret)
    answered(feed)
    clients("kitchen", server, password="guess", on_error=errors.put)
    assert refused(errors) == 4
    clients("cellar", server, on_error=errors.put)
    assert refused(errors) == 5
    assert feed.position != (0, 0)


async def test_a_refused_client_does_not_hammer_the_server(
    process: Start, clients: Any, errors: queue.Queue[Exception]
) -> None:
    """Also not with the shortest first pause: addresses share their number of failed logins."""
    server = process(opened=False)
    server.command("device.add", device="kitchen")
    stranger = clients(
        "kitchen", server, password="guess", on_error=errors.put, reconnect_after=0.0
    )
    assert refused(errors) == 4
    assert not stranger.wait_for_change(1.0)
    assert server.count("dropped", "connect_refused_bad_credentials") == 1


async def test_a_revoked_device_is_told_and_comes_back_once_restored(
    process: Start, clients: Any, errors: queue.Queue[Exception]
) -> None:
    server = process(opened=False)
    secret = server.command("device.add", device="kitchen")["secret"]
    options = {"password": secret, "on_error": errors.put, "reconnect_at_most": 0.2}
    answered(clients("kitchen", server, **options))
    server.command("device.revoke", device="kitchen")
    assert refused(errors) == 5
    assert server.count("closed", "revoked") == 1
    server.command("device.restore", device="kitchen")
    await eventually(lambda: server.command("device.show", device="kitchen")["connected"])


# ---- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls_server(process: Start, authority: trustme.CA, tmp_path: Path) -> Callable[..., Any]:
    """Start a server with both ports; gives it with the TLS port in the place of its address."""

    def start(*names: str, **settings: Any) -> tuple[ServerProcess, int]:
        certificate = authority.issue_cert(*(names or ("127.0.0.1",)))
        files = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "client_ca")}
        files["certificate"].write_bytes(b"".join(b.bytes() for b in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(files["key"])
        authority.cert_pem.write_to_path(files["client_ca"])
        paths = {f"tls.{name}": str(path) for name, path in files.items()}
        server = process(**{"tls.bind": "127.0.0.1:0", **paths, **settings})
        return server, int(server.ready.partition(" with TLS")[0].rpartition(":")[2])

    return start


def context(authority: trustme.CA, name: str | None = None) -> ssl.SSLContext:
    """What trusts the authority and, with a name, has a client certificate for it."""
    made = ssl.create_default_context()
    authority.configure_trust(made)
    if name is not None:
        authority.issue_cert(common_name=name).configure_cert(made)
    return made


async def test_a_feed_over_tls(tls_server: Any, clients: Any, authority: trustme.CA) -> None:
    server, port = tls_server()
    feed = clients("kitchen", server, port=port, tls=context(authority))
    await server.publish(item("a", "one"), item("b", "two"))
    wait_for(feed, "two", "one")
    assert server.count("dropped", "tls_handshake_failed") == 0


async def test_a_device_with_a_certificate_needs_no_password(
    tls_server: Any, clients: Any, authority: trustme.CA
) -> None:
    server, port = tls_server(opened=False, **{"tls.client_certificate": "required"})
    server.command("device.add", device="kitchen", secret=False)
    answered(clients("kitchen", server, port=port, tls=context(authority, "kitchen")))


async def test_a_certificate_for_another_device_is_refused(
    tls_server: Any, clients: Any, authority: trustme.CA, errors: queue.Queue[Exception]
) -> None:
    server, port = tls_server(opened=False, **{"tls.client_certificate": "optional"})
    server.command("device.add", device="kitchen", secret=False)
    tls = context(authority, "porch")
    clients("kitchen", server, port=port, tls=tls, on_error=errors.put)
    assert refused(errors) == 5


async def test_without_the_certificate_that_the_server_wants_the_client_is_told(
    tls_server: Any, clients: Any, authority: trustme.CA, errors: queue.Queue[Exception]
) -> None:
    server, port = tls_server(**{"tls.client_certificate": "required"})
    clients("kitchen", server, port=port, tls=context(authority), on_error=errors.put)
    error = errors.get(timeout=PATIENCE)
    assert "client certificate" in str(error)


# paho leaves a socket whose handshake failed to the garbage collector.
leaves_sockets = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


@leaves_sockets
@pytest.mark.parametrize(
    ("name", "trusted", "words"),
    [
        ("127.0.0.1", False, "not from an authority that we trust"),
        ("feed.example.com", True, "for another name"),
    ],
)
async def test_a_server_that_cannot_prove_who_it_is_gets_no_password(
    tls_server: Any,
    clients: Any,
    authority: trustme.CA,
    errors: queue.Queue[Exception],
    name: str,
    trusted: bool,
    words: str,
) -> None:
    server, port = tls_server(name)
    tls = context(authority if trusted else trustme.CA())
    options = {"password": "s3cret", "on_error": errors.put, "reconnect_at_most": 0.1}
    feed = clients("kitchen", server, port=port, tls=tls, **options)
    for _ in range(2):
        error = errors.get(timeout=PATIENCE)
        assert isinstance(error, FeedClientError)
        assert words in str(error)
    assert feed.position == (0, 0)
    assert server.status()["counters"]["connections"].get("opened", 0) == 0


@leaves_sockets
async def test_tls_on_the_plaintext_port_is_reported(
    tls_server: Any, clients: Any, authority: trustme.CA, errors: queue.Queue[Exception]
) -> None:
    server, _ = tls_server()
    clients("kitchen", server, tls=context(authority), on_error=errors.put)
    assert "as a port without TLS does" in str(errors.get(timeout=PATIENCE))


async def test_plaintext_on_the_tls_port_is_reported(
    tls_server: Any, clients: Any, errors: queue.Queue[Exception]
) -> None:
    server, port = tls_server()
    clients("kitchen", server, port=port, on_error=errors.put)
    error = errors.get(timeout=PATIENCE)
    assert isinstance(error, RefusedError)
    assert error.code is None
    assert "speak TLS" in str(error)
