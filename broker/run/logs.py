"""The log on stderr: one line for each message, as text or as JSON, and never a flood of one kind.

A *kind* is a message before anything is filled in, with its logger and level. What ten thousand devices
do at the same time says as much in twenty lines as in ten thousand; the lines left out are counted, and
the next line of that kind, or one of its own, says how many they were.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

if TYPE_CHECKING:
    from broker.config import Config

Kind: TypeAlias = tuple[str, int, str]
"""Logger, level, and the message without what is filled in."""

MAX_KINDS = 1_000
"""Kinds told apart; those beyond count as one. Messages are written in the code, so this is for libraries
that put values into them before they log."""

_MAX_TEXT = 8_192
"""Characters of a message or field; what clients send may be in it."""

_LIBRARIES = ("amqtt", "transitions")
"""They write a line per packet and connection; their warnings are enough."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "left_out"}
"""Names in a record that are not fields of the caller's (`extra`)."""

_SWEEP = 1.0
"""Seconds between two looks for kinds that have gone quiet."""


class Limiter:
    """A token bucket for each kind of message. Pure: time, in seconds, is passed in.

    Args:
        burst: Lines that may follow each other.
        per_minute: Lines that come back.
        kinds: How many kinds are told apart.
    """

    def __init__(self, *, burst: int, per_minute: float, kinds: int = MAX_KINDS) -> None:
        self._cost = 60.0 / per_minute
        self._depth = burst * self._cost
        self._kinds = kinds
        # Of each kind the time at which its bucket is full again (GCRA, ITU-T I.371), and what was left out.
        self._full_at: dict[Kind, float] = {}
        self._left_out: dict[Kind, int] = {}

    def admit(self, kind: Kind, now: float) -> int | None:
        """Ask for one line: None to leave it out, else how many were left out before it."""
        kind = self._known(kind)
        full_at = max(self._full_at.get(kind, now), now) + self._cost
        if full_at - now > self._depth + 1e-9:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return None
        self._full_at[kind] = full_at
        return self._left_out.pop(kind, 0)

    def settle(self, now: float = float("inf")) -> list[tuple[Kind, int]]:
        """Take the counts of kinds whose bucket is full again: they have been quiet for long."""
        quiet = [kind for kind in self._left_out if self._full_at[kind] <= now]
        settled = [(kind, self._left_out.pop(kind)) for kind in quiet]
        if len(self._full_at) >= self._kinds:
            self._full_at = {
                kind: at for kind, at in self._full_at.items() if at > now or kind in self._left_out
            }
        return settled

    def _known(self, kind: Kind) -> Kind:
        if kind in self._full_at or len(self._full_at) < self._kinds:
            return kind
        return _OTHERS


_OTHERS: Kind = (__name__, logging.WARNING, "messages of further kinds")


class TextFormatter(logging.Formatter):
    """A line for people. Control characters are escaped, so that no client can begin a line of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Fill in the line; a traceback goes below it."""
        record.message = _readable(record.message)
        left_out = getattr(record, "left_out", 0)
        more = f" ({left_out} like this left out before)" if left_out else ""
        return super().formatMessage(record) + more


class JsonFormatter(logging.Formatter):
    """A line for programs: a JSON object of time (RFC 3339, UTC), level, logger, message and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as one line."""
        line: dict[str, Any] = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_MAX_TEXT],
        }
        # What is ours wins: a field must not pass for a level or a time.
        line = {name: _plain(value) for name, value in _fields(record).items()} | line
        if left_out := getattr(record, "left_out", 0):
            line["left_out"] = left_out
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes what its limiter admits."""

    def __init__(self, stream: TextIO, limiter: Limiter) -> None:
        super().__init__(stream)
        self.limiter = limiter
        self._sweep_at = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it. Critical ones are the last words of a server: always written."""
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP
            self._tell(self.limiter.settle(now))
        if record.levelno < logging.CRITICAL:
            left_out = self.limiter.admit((record.name, record.levelno, str(record.msg)), now)
            if left_out is None:
                return
            record.left_out = left_out
        super().emit(record)

    def close(self) -> None:
        """Say what was left out and not yet said; called at the end of the process."""
        self._tell(self.limiter.settle())
        super().close()

    def _tell(self, settled: list[tuple[Kind, int]]) -> None:
        for (name, level, message), count in settled:
            said = f"{count} more messages were left out: {message}"
            record = logging.makeLogRecord(
                {
                    "name": name,
                    "levelno": level,
                    "levelname": logging.getLevelName(level),
                    "msg": said,
                }
            )
            record.left_out = 0
            super().emit(record)


def configure(config: Config, stream: TextIO | None = None) -> None:
    """Make the process log as the settings say; may be called again with others.

    Args:
        config: The settings.
        stream: Where to; stderr if not said.
    """
    root = logging.getLogger()
    mine = [each for each in root.handlers if isinstance(each, LimitedHandler)]
    limiter = Limiter(burst=config.log.burst, per_minute=config.log.per_minute)
    handler = LimitedHandler(stream or (mine[0].stream if mine else sys.stderr), limiter)
    handler.setFormatter(JsonFormatter() if config.log.format == "json" else TextFormatter())
    root.addHandler(handler)
    for each in mine:
        root.removeHandler(each)
        each.close()
    root.setLevel(config.log_level.upper())
    quiet_libraries()


def quiet_libraries() -> None:
    """Let libraries that say too much only warn."""
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OWN}


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):  # JSON has no others
        return value
    return str(value)[:_MAX_TEXT]


def _readable(text: str) -> str:
    if text.isprintable():
        return text[:_MAX_TEXT]
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:_MAX_TEXT]
    )


def _rfc3339(seconds: float) -> str:
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{milliseconds:03d}Z", time.gmtime(whole))
