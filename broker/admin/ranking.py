"""Commands on the ranking of a running server: how it does, what holds it, why a window is as it is."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from broker.admin import arguments
from broker.control import ControlError
from feedgen.ranking.ladder import Rung

if TYPE_CHECKING:
    from broker.admin.arguments import Handler
    from broker.ranked_windows import RankedWindows
    from broker.server import Server

_RUNGS = {rung.name.lower(): rung for rung in Rung}
_NONE = "none"


def commands(server: Server) -> dict[str, Handler]:
    """The commands by name."""
    service = server.service

    def learning() -> RankedWindows:
        if service.learning is None:
            model = server.config.ranking.model
            raise ControlError(
                f"the server ranks by {model!r} and learns nothing: set ranking.model = 'learned'"
            )
        return service.learning

    async def status(_args: dict[str, Any]) -> dict[str, Any]:
        if service.learning is None:
            return {"model": server.config.ranking.model}
        return dict(_finite(service.learning.status()))

    async def pin(args: dict[str, Any]) -> dict[str, Any]:
        name = arguments.text(args, "rung")
        if name != _NONE and name not in _RUNGS:
            raise ControlError(f"{name!r} is no rung: {', '.join(_RUNGS)}, or {_NONE}")
        loop = learning()
        loop.pin(_RUNGS.get(name), service.now())
        await loop.save()
        ladder = loop.ranking.ladder
        return {
            "pinned": None if ladder.pinned is None else ladder.pinned.name.lower(),
            "rung": ladder.serving.name.lower(),
        }

    async def explain(args: dict[str, Any]) -> dict[str, Any]:
        device = arguments.text(args, "device")
        if server.registry.get(device) is None:
            raise ControlError(f"there is no device {device!r}; 'fleetfeed device list' shows all")
        found = await service.explain(device)
        if found is None:
            raise ControlError(
                f"{device} has no window now: it has not come since the server started, or not for long"
            )
        return found

    return {"ranking.status": status, "ranking.pin": pin, "explain": explain}


def _finite(value: Any) -> Any:
    """JSON has no infinity: a ratio without a base is none."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value
