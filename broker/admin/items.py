"""Commands on items: what became of one, and what would become of one that is not published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.admin import arguments
from broker.control import ControlError
from broker.receipts.trial import try_out
from feedgen.items import InvalidItem, decode_item

if TYPE_CHECKING:
    from broker.admin.arguments import Handler
    from broker.receipts.counts import Receipt
    from broker.server import Server

MAX_SAMPLES = 1_000
_NAMED = 5
"""Channels that a refusal names."""


def commands(server: Server) -> dict[str, Handler]:
    """The commands by name."""
    service = server.service

    async def show(args: dict[str, Any]) -> dict[str, Any]:
        item_id = arguments.text(args, "id")
        channel = args.get("channel") and arguments.text(args, "channel")
        return await service.receipts.report(
            _the_only(service.receipts.receipts.named(item_id, channel), item_id, channel)
        )

    async def trial(args: dict[str, Any]) -> dict[str, Any]:
        packet, samples = args.get("packet"), args.get("samples", 0)
        if not isinstance(packet, bytes):
            raise ControlError("'packet' must be the bytes of an item")
        if type(samples) is not int or not 0 <= samples <= MAX_SAMPLES:
            raise ControlError(f"'samples' must be a whole number from 0 to {MAX_SAMPLES}")
        try:
            item = decode_item(arguments.text(args, "channel"), packet)
        except InvalidItem as error:
            raise ControlError(f"the server would refuse this item: {error}") from error
        return await try_out(service, item, str(args.get("publisher") or ""), samples)

    return {"item.show": show, "item.trial": trial}


def _the_only(found: list[Receipt], item_id: str, channel: str | None) -> Receipt:
    """The latest item of this id; if there is one on several channels, the question is which."""
    if not found:
        where = f" on {channel!r}" if channel else ""
        raise ControlError(
            f"nothing is known of an item {item_id!r}{where}: it was never accepted, or many have come"
            " since it was over"
        )
    channels = list(dict.fromkeys(receipt.channel for receipt in found))
    if len(channels) > 1:
        named = ", ".join(channels[:_NAMED]) + (" and others" if channels[_NAMED:] else "")
        raise ControlError(f"there are items {item_id!r} on {named}: say which with --channel")
    return found[0]
