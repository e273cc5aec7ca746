"""Payloads as people read them, in JSON. What is shown of them is text and never markup."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgpack

MOST = 2_000
"""Characters of a payload that are shown; the rest is said to be there."""

_ERRORS = (ValueError, TypeError, RecursionError, msgpack.UnpackException)


def readable(payload: str | bytes, most: int = MOST) -> dict[str, Any]:
    """A payload as JSON.

    Args:
        payload: As the publisher sent it.
        most: Characters to show.

    Returns:
        `text`; `form`, which is `text`, `map` (msgpack, shown as JSON) or `bytes` (shown as hex);
        `bytes`, its size as sent; and `cut`, whether there is more of it.
    """
    size = len(payload.encode()) if isinstance(payload, str) else len(payload)
    form, text = ("text", payload) if isinstance(payload, str) else _of_bytes(payload, most)
    return {"text": text[:most], "form": form, "bytes": size, "cut": len(text) > most}


def _of_bytes(payload: bytes, most: int) -> tuple[str, str]:
    with suppress(UnicodeDecodeError):
        text = payload.decode()
        # Numbers may be valid UTF-8, too; as text they would be nothing to see.
        if not any(c < " " and c not in "\n\r\t" for c in text):
            return "text", text
    # Opaque bytes may happen to be anything that msgpack knows, and be nested as deep as they like.
    with suppress(*_ERRORS):
        value = msgpack.unpackb(payload, strict_map_key=False)
        if isinstance(value, dict):
            return "map", json.dumps(_named(value), ensure_ascii=False, default=_hex)
    # Two digits and a space for each byte: no more than is shown is turned into them.
    return "bytes", payload[: most // 3 + 1].hex(" ")


def _named(value: object) -> object:
    """Maps with the names that JSON wants."""
    if isinstance(value, dict):
        return {
            name if isinstance(name, str) else _hex(name): _named(each)
            for name, each in value.items()
        }
    return [_named(each) for each in value] if isinstance(value, list) else value


def _hex(value: object) -> str:
    """What JSON has no form for: bytes within a map."""
    return value.hex(" ") if isinstance(value, bytes) else repr(value)
