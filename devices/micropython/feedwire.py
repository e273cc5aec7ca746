# MicroPython: no packages, no pathlib, no contextlib, and modules that CPython has not.
# ruff: noqa: INP001
# mypy: ignore-errors
"""Msgpack as feeds use it: frames read with distrust, up messages written. No I/O."""

from struct import pack

from micropython import const

MAX = const(0xFFFFFFFF)
# The msgpack tokens 0xc0 to 0xdf: what each is, and how many bytes of it stand behind its first.
_KINDS = "x!xxbbbeeexxuuuuiiiixxxxxsssaamm"
_SIZES = b"\0\0\0\0\1\2\4\1\2\4\4\x08\1\2\4\x08\1\2\4\x08\2\3\5\x09\x11\1\2\4\2\4\2\4"


class Reader:
    """Takes a frame apart token by token; ValueError as soon as it is none.

    No claim of a frame about itself takes memory, and nothing recurses.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        self.at += size
        if self.at > len(self.data):
            raise ValueError
        return self.data[self.at - size : self.at]

    def token(self) -> tuple:
        """(u, number), (a, elements), (s or b, bytes), or (x, elements) of what no frame needs."""
        head = self.take(1)[0]
        if head < 0x80:
            return "u", head
        if head < 0xA0:
            return ("a", head & 15) if head > 0x8F else ("x", 2 * (head & 15))
        if head < 0xC0:
            return "s", self.take(head & 31)
        kind = "x" if head > 0xDF else _KINDS[head & 31]
        field = b"" if head > 0xDF else self.take(_SIZES[head & 31])
        if kind == "!":
            raise ValueError
        n = int.from_bytes(field, "big")
        if kind in "sb":
            return kind, self.take(n)
        if kind == "e":
            self.take(n + 1)
        if kind == "i" and field[0] < 0x80:
            kind = "u"
        return (kind, n) if kind in "ua" else ("x", 2 * n if kind == "m" else 0)

    def uint(self, low: int = 0, high: int = MAX) -> int:
        """The next token, which must be a number of this range."""
        kind, n = self.token()
        if kind != "u" or not low <= n <= high:
            raise ValueError
        return n

    def array(self) -> int:
        """How many elements the array has that must come next."""
        kind, n = self.token()
        if kind != "a" or n > len(self.data):
            raise ValueError
        return n

    def skip(self, elements: int) -> None:
        """Pass over what a later protocol appends, whatever it is."""
        if elements < 0:
            raise ValueError
        while elements:
            kind, n = self.token()
            elements += (n if kind in "ax" else 0) - 1

    def item(self, elements: int) -> tuple:
        """(n, expires, priority, payload)."""
        n, expires, priority = self.uint(1), self.uint(), self.uint(0, 3)
        kind, payload = self.token()
        if kind not in "sb":
            raise ValueError
        self.skip(elements - 4)
        return n, expires, priority, str(payload, "utf-8") if kind == "s" else payload

    def op(self) -> tuple:
        """(rank, item) to put, (rank, None) to remove, (from, to) to move."""
        kind, n = self.token()
        if kind == "u" and n <= MAX:
            return n, None
        if kind != "a":
            raise ValueError
        rank = self.uint()
        kind, what = self.token()
        if kind == "a":
            what = self.item(what)
        elif kind != "u" or what > MAX:
            raise ValueError
        self.skip(n - 2)
        return rank, what


def encode(value: object) -> bytes:
    """Msgpack of None, unsigned integers of 32 bits, str, bytes, lists, tuples and dicts."""
    if value is None:
        return b"\xc0"
    if isinstance(value, int):
        if value > 0xFFFF:
            return pack(">BI", 0xCE, value)
        return pack(">BB", 0xCC, value) if 0x7F < value < 0x100 else _head(value, 0, 0x80, 0xCD)
    if isinstance(value, dict):
        pairs = b"".join([encode(key) + encode(value[key]) for key in value])
        return _head(len(value), 0x80, 16, 0xDE) + pairs
    if isinstance(value, str):
        value = value.encode()
        return _head(len(value), 0xA0, 32, 0xDA) + value
    if isinstance(value, bytes):
        return _head(len(value), 0, 0, 0xC5) + value
    return array(len(value)) + b"".join([encode(element) for element in value])


def array(length: int) -> bytes:
    """What stands before the elements of an array."""
    return _head(length, 0x90, 16, 0xDC)


def _head(n: int, fix: int, limit: int, wide: int) -> bytes:
    return bytes((fix | n,)) if n < limit else pack(">BH", wide, n)
