"""Encoded items: each content is encoded once per form and shared by all frames that carry it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devices import slots
from devices.frames import item_bytes

if TYPE_CHECKING:
    from feedgen.items import Record


class Forms:
    """One item's content, encoded as devices need it."""

    __slots__ = ("_encoded", "_record", "full_size")

    def __init__(self, record: Record) -> None:
        self._record = record
        self._encoded: dict[int, bytes] = {}
        payload = record.item.payload
        self.full_size = len(payload.encode() if isinstance(payload, str) else payload)

    def encoded(self, *, clock: bool, brief: bool) -> bytes:
        """The item on the wire: with its expiry or 0, with its payload or its brief."""
        form = clock << 1 | brief
        found = self._encoded.get(form)
        if found is None:
            record, item = self._record, self._record.item
            payload = item.brief if brief and item.brief is not None else item.payload
            expires = record.expires if clock else 0
            found = self._encoded[form] = item_bytes(record.n, expires, item.priority, payload)
        return found


class ItemForms:
    """The forms of every content that a window may hold, by slot.

    A content that an update, a retraction or expiry has ended may stand in windows until the engine has
    taken it out of the last of them: it is kept until `forget_ended`.
    """

    __slots__ = ("_ended", "_forms", "_slots")

    def __init__(self) -> None:
        self._forms: dict[int, Forms] = {}
        self._slots: dict[int, int] = {}
        self._ended: list[int] = []

    def __len__(self) -> int:
        return len(self._forms)

    def __contains__(self, slot: object) -> bool:
        """Whether the content of a slot can still be encoded."""
        return slot in self._forms

    def __getitem__(self, slot: int) -> Forms:
        """The forms of a slot that stands in a window."""
        return self._forms[slot]

    def add(self, slot: int, record: Record) -> None:
        """A content enters the engine, perhaps in the place of an earlier one."""
        self.end(record.n)
        self._slots[record.n] = slot
        self._forms[slot] = Forms(record)

    def end(self, n: int) -> None:
        """An item leaves the engine."""
        slot = self._slots.pop(n, None)
        if slot is not None:
            self._ended.append(slot)

    def forget_ended(self) -> None:
        """No window holds anything that has ended."""
        for slot in self._ended:
            if self._slots.get(slots.number(slot)) != slot:
                del self._forms[slot]
        self._ended.clear()
