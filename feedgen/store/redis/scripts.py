"""The atomic steps, each a file in `lua/`."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """One file, and the hash that Redis knows it by."""

    text: bytes
    sha: bytes

    def call(
        self, keys: list[str], *arguments: bytes | str | float
    ) -> tuple[bytes | str | float, ...]:
        """The command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


def _script(name: str) -> Script:
    text = (resources.files("feedgen.store.redis") / "lua" / f"{name}.lua").read_bytes()
    script = Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())
    ALL.append(script)
    return script


ALL: list[Script] = []
"""Loaded on every connection that may run them."""

BEGIN = _script("begin")
CLAIM = _script("claim")
DISMISS = _script("dismiss")
DROP_ITEM = _script("drop_item")
HEARTBEAT = _script("heartbeat")
LATEST = _script("latest")
LEASE = _script("lease")
LEAVE = _script("leave")
PUBLISH = _script("publish")
PUT_DEVICE = _script("put_device")
PUT_ITEM = _script("put_item")
READ_FEEDBACK = _script("read_feedback")
RESERVE_NUMBER = _script("reserve_number")
SAY = _script("say")
STILL_HELD = _script("still_held")
TAIL_POSITION = _script("tail_position")
TAKE_NUMBERS = _script("take_numbers")
