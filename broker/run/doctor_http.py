"""Examines the port for operators: what it needs, and whether it answers."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING

from broker.config_layers import InvalidConfig
from broker.run import findings, probes
from broker.run.findings import fail, ok, warn
from broker.web import opening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.config import HttpSettings
    from broker.run.findings import Finding

_PATIENCE = 5.0
_MAX_ANSWER = 65_536


def examine_http(settings: HttpSettings, *, running: bool) -> Iterator[Finding]:
    """Look at it; nothing if there is to be no such port.

    Args:
        settings: Its settings.
        running: Whether a server runs on the data directory.
    """
    if not settings.enabled:
        return
    try:
        opening.require(settings)
    except InvalidConfig as error:
        yield fail("metrics and page", error.problems[0], "The server does not start before.")
        return
    if not settings.port:
        yield ok("metrics and page", "http.bind: the system chooses a port")
    elif running:
        yield _readiness(settings)
    else:
        try:
            probes.listen(settings.host, settings.port)
            yield ok("metrics and page", f"{settings.bind} is free")
        except OSError as error:
            yield findings.unbound(settings.bind, "http.bind", error)


def _readiness(settings: HttpSettings) -> Finding:
    """What a running server says of itself."""
    try:
        status, answer = _ask(probes.reachable(settings.host), settings.port)
        reasons = json.loads(answer)["reasons"]
        words = [(each["detail"], each["do"]) for each in reasons]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return fail(
            "metrics and page",
            f"{settings.bind} does not answer as fleetfeed does",
            "Check whether the server was started with these settings.",
        )
    if words:
        return warn("metrics and page", f"the server is not ready: {words[0][0]}", words[0][1])
    return ok("metrics and page", f"{settings.bind} answers {status}: ready")


def _ask(host: str, port: int) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_ANSWER)
    finally:
        connection.close()
