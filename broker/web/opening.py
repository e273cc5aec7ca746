"""Opens the port for operators where there is to be one; what it needs is loaded only then."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from broker.config_layers import InvalidConfig

if TYPE_CHECKING:
    from pathlib import Path

    from broker.config import HttpSettings
    from broker.web.server import WebServer
    from broker.web.subject import Subject

MIN_TOKEN = 16
"""Characters of a token: fewer could be guessed."""

_NEEDED = ("prometheus_client", "starlette", "uvicorn")


def missing() -> list[str]:
    """What the extra 'web' would bring and is not installed."""
    return [name for name in _NEEDED if find_spec(name) is None]


def require(settings: HttpSettings) -> bytes | None:
    """What can be known to go wrong before the server starts; the token, None without one.

    Raises:
        InvalidConfig: Something that it needs is not there.
    """
    if not settings.enabled:
        return None
    absent = missing()
    if absent:
        raise _invalid(
            f"http.bind = {settings.bind!r} needs what is not installed ({', '.join(absent)}): "
            "pip install 'fleetfeed[web]', or set http.bind = 'off'."
        )
    return None if settings.token_file is None else read_token(settings.token_file)


def read_token(file: Path) -> bytes:
    """The first line of a file.

    Raises:
        InvalidConfig: It cannot be read, or has no token in it.
    """
    named = f"http.token_file = {str(file)!r}"
    try:
        token = file.read_text(encoding="ascii").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not plain ASCII"
        raise _invalid(f"{named} cannot be read: {why}.") from None
    if len(token) < MIN_TOKEN or " " in token or not token.isprintable():
        raise _invalid(
            f"{named}: its first line must be a token of {MIN_TOKEN} or more characters without spaces, "
            "as openssl rand -hex 32 makes it."
        )
    return token.encode()


def _invalid(problem: str) -> InvalidConfig:
    return InvalidConfig((problem,))


async def open_port(subject: Subject) -> WebServer | None:
    """Listens; None if there is to be no such port.

    Raises:
        InvalidConfig: Something that it needs is not there.
        ControlError: The address cannot be listened on.
    """
    settings = subject.config.http
    if not settings.enabled:
        return None
    token = require(settings)
    from broker.web.access import Access  # noqa: PLC0415 - starlette and uvicorn, for those who want them
    from broker.web.app import application  # noqa: PLC0415 - likewise
    from broker.web.server import WebServer  # noqa: PLC0415 - likewise

    refused = subject.service.counters.dropped
    access = Access(token, settings.hosts, refused)
    server = WebServer(settings, application(subject, access), access, refused)
    await server.start()
    return server
