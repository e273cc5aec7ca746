"""What in a valid configuration leaves the door open.

A server may be meant to run like this, on a desk or behind a tunnel, so nothing here stops it; but
whoever goes into production should read it. `check-config` prints it.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from broker.config import is_loopback
from broker.config_cluster import without_password
from devices.registry import covers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker.config import Config

_MANY_FAILURES = 1_000
_FAST_REFILL = 600.0  # per minute
_LONG_SESSION = 30 * 86_400.0
_MIN_SHARED_SECRET = 32  # bytes (RFC 7518, 3.2)


@dataclass(frozen=True, slots=True)
class Insecurity:
    """One setting that weakens the server.

    Attributes:
        setting: Its dotted name.
        value: What it is, or of a file what was found there; never a secret.
        advice: Why that is a risk and what to do, one sentence.
    """

    setting: str
    value: Any
    advice: str

    def __str__(self) -> str:
        return f"{self.setting} = {self.value}: {self.advice}"


def insecurities(config: Config, *, files: bool = True) -> tuple[Insecurity, ...]:
    """Everything that weakens a server with this configuration, in the order of the settings.

    Args:
        config: The settings.
        files: Look at the modes of the files that they name, too; those that are missing are left out.
            Without it the answer depends on `config` alone.
    """
    found = [*_ports(config), *_topics(config), *_logins(config), *_store(config), *_rest(config)]
    found += _http(config)
    if files:
        found += _files(config)
    return tuple(found)


def _ports(config: Config) -> Iterator[Insecurity]:
    exposed = config.plain and not is_loopback(config.host)
    if exposed:
        yield Insecurity(
            "bind",
            config.bind,
            "passwords and messages cross the network in the clear; set bind = 'off' or to loopback, and"
            " tls.bind.",
        )
    if exposed and config.tls.bind is None:
        yield Insecurity(
            "tls.bind",
            "unset",
            "no client can encrypt; set tls.bind, tls.certificate and tls.key.",
        )
    if config.open_mode and not config.loopback:
        yield Insecurity(
            "open",
            config.open,
            "whoever reaches the port may register devices, publish and read everything; leave it unset"
            " and add devices.",
        )


def _topics(config: Config) -> Iterator[Insecurity]:
    if config.open_mode or not config.topics.enabled:
        return
    for name, filters, verb in (
        ("topics.read", config.topics.read, "read"),
        ("topics.write", config.topics.write, "publish on"),
    ):
        if filters is not None and covers(filters, "#"):
            yield Insecurity(
                name,
                list(filters),
                f"every client may {verb} every topic beside the feed; name the filters that all need, and"
                " give the rest to single users.",
            )


def _logins(config: Config) -> Iterator[Insecurity]:
    auth, token = config.auth, config.token
    if not 1 <= auth.login_failures <= _MANY_FAILURES:
        yield Insecurity(
            "auth.login_failures",
            auth.login_failures,
            "passwords can be guessed at from one address without a limit that matters; the default is"
            " 20.",
        )
    if auth.login_refill > _FAST_REFILL:
        yield Insecurity(
            "auth.login_refill",
            auth.login_refill,
            "that many passwords can be guessed at every minute from one address; the default is 10.",
        )
    if token.key is not None and token.audience is None:
        yield Insecurity(
            "token.audience",
            "unset",
            "a token that was issued for another service opens this one too; set what tokens for this"
            " server have as aud.",
        )


def _rest(config: Config) -> Iterator[Insecurity]:
    if config.limits.session_expiry > _LONG_SESSION:
        yield Insecurity(
            "limits.session_expiry",
            config.limits.session_expiry,
            "what was said to a client that never returns is kept for more than 30 days.",
        )
    if config.log_level == "debug":
        yield Insecurity(
            "log_level",
            config.log_level,
            "names of clients and topics go to the log; 'info' is enough for production.",
        )


def _store(config: Config) -> Iterator[Insecurity]:
    store = config.store
    if store.url is not None and not store.encrypted and not all(map(is_loopback, store.hosts)):
        yield Insecurity(
            "store.url",
            without_password(store.url),
            "items, credentials and its password cross the network in the clear; use rediss://, or a"
            " network that nobody else is in.",
        )


def _http(config: Config) -> Iterator[Insecurity]:
    http = config.http
    if http.loopback:
        return
    yield Insecurity(
        "http.bind",
        http.bind,
        "the token and all that the page shows cross the network in the clear; set it to loopback, behind a"
        " proxy that encrypts.",
    )
    if http.send:
        yield Insecurity(
            "http.send",
            True,
            "whoever has the token may publish items on every channel; leave it unset.",
        )


def _files(config: Config) -> Iterator[Insecurity]:
    yield from _open_file(config.data, "data", stat.S_IRWXG | stat.S_IRWXO, "700")
    # A group may read a key: that is how services share one certificate.
    others = stat.S_IWGRP | stat.S_IRWXO
    if config.tls.key is not None:
        yield from _open_file(config.tls.key, "tls.key", others, "600")
    if config.http.token_file is not None:
        yield from _open_file(config.http.token_file, "http.token_file", others, "600")
    if config.token.key is not None and config.token.algorithm == "HS256":
        yield from _open_file(config.token.key, "token.key", others, "600")
        yield from _short_secret(config.token.key)


def _open_file(path: Path, setting: str, mask: int, wanted: str) -> Iterator[Insecurity]:
    """Report a file that others than its owner may use in a way that `mask` forbids."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if mode & mask:
        yield Insecurity(
            setting,
            f"{path} (mode {mode:o})",
            f"other users of this machine can get at it; run chmod {wanted} on it.",
        )


def _short_secret(path: Path) -> Iterator[Insecurity]:
    try:
        size = len(path.read_bytes().rstrip(b"\r\n"))
    except OSError:
        return
    if size < _MIN_SHARED_SECRET:
        yield Insecurity(
            "token.key",
            f"{path} ({size} bytes)",
            f"so short a secret can be found by trying; HS256 needs {_MIN_SHARED_SECRET} random bytes.",
        )
