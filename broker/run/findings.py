"""What an examination finds, and how what was measured is judged. Pure: measured values come in."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB, _GIB = 1 << 20, 1 << 30
_FULL = 64 * _MIB
"""Bytes free below which the next commits may fail."""
_SCARCE = _GIB
_OTHER_FILES = 64
"""Files that a server has open beside its connections, with some to spare."""
_DAY = 86_400.0
_SOON = 30 * _DAY
_AHEAD = 60.0
"""Seconds by which what is stored may be of the future, as clocks are adjusted."""
_SKEW = 1.0


class Level(IntEnum):
    """How bad it is, in rising order."""

    OK = 0
    WARN = 1
    """It works now; it is risky, or will not go on for ever."""
    FAIL = 2
    """A server does not start, or does not do its work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What it is, in a word or two.
        level: How bad it is.
        said: What was found.
        advice: What to do; "" where there is nothing to be done.
    """

    subject: str
    level: Level
    said: str
    advice: str = ""


def ok(subject: str, said: str) -> Finding:
    """All is well."""
    return Finding(subject, Level.OK, said)


def warn(subject: str, said: str, advice: str) -> Finding:
    """Something should be done."""
    return Finding(subject, Level.WARN, said, advice)


def fail(subject: str, said: str, advice: str) -> Finding:
    """Something must be done."""
    return Finding(subject, Level.FAIL, said, advice)


def disk(free: int, inodes: int | None, stored: int, where: str) -> Finding:
    """Judge the room on the disk.

    Args:
        free: Bytes that this user may still write.
        inodes: Files that may still be made; None where there is no such limit.
        stored: Bytes of what the data directory has.
        where: The data directory.
    """
    said = f"{size(free)} free for {where}, which has {size(stored)}"
    if inodes is not None and inodes < _OTHER_FILES:
        return fail("disk", f"only {inodes} more files can be made in {where}", "Remove files.")
    if free < _FULL:
        return fail("disk", said, "Make room: items are not acknowledged on a full disk.")
    if free < max(_SCARCE, 2 * stored):
        return warn("disk", said, "Make room before it is needed.")
    return ok("disk", said)


def open_files(limit: int, connections: int, whose: str) -> Finding:
    """Judge the limit on open files against `limits.max_connections`."""
    said = f"{whose} may have {limit} files open, for {connections} connections"
    if limit < connections + _OTHER_FILES:
        return warn(
            "open files",
            said,
            f"Raise the limit (LimitNOFILE=, ulimit -n) to {connections + _OTHER_FILES}, or lower "
            "limits.max_connections.",
        )
    return ok("open files", said)


def clock(synchronised: bool | None, now: float, newest: float | None) -> Iterator[Finding]:
    """Judge the clock: items expire by it.

    Args:
        synchronised: Whether the system says that it follows a time server; None if it does not say.
        now: Unix seconds.
        newest: When the newest stored item was accepted, in Unix seconds; None without one.
    """
    if newest is not None and newest > now + _AHEAD:
        yield fail(
            "clock",
            f"it is {newest - now:.0f} s behind the newest item in the store",
            "Set the clock: new items would pass for older than those.",
        )
    elif synchronised is False:
        yield warn(
            "clock",
            "it follows no time server",
            "Run one of chrony, systemd-timesyncd or ntpd: items expire by the clock.",
        )
    else:
        yield ok(
            "clock", "synchronised" if synchronised else "plausible; whether it is right is unknown"
        )


def skew(seconds: float, of: str) -> Finding | None:
    """Judge how far another machine's clock is from ours; None if near enough."""
    if abs(seconds) <= _SKEW:
        return None
    side = "ahead of" if seconds > 0 else "behind"
    return warn(
        "clock",
        f"that of {of} is {abs(seconds):.1f} s {side} ours",
        "Let both follow a time server.",
    )


def validity(setting: str, subject: str, begins: float, ends: float, now: float) -> Finding:
    """Judge the validity of a certificate; all times are Unix seconds."""
    whose = f"{setting} ({subject})" if subject else setting
    if now < begins:
        return fail("certificate", f"{whose} is not valid yet", "Check the clock, or wait.")
    if now >= ends:
        return fail("certificate", f"{whose} has expired", "Renew it and send the server SIGHUP.")
    days = (ends - now) / _DAY
    said = f"{whose} is valid for {days:.0f} more days"
    if ends - now < _SOON:
        return warn("certificate", said, "Renew it and send the server SIGHUP.")
    return ok("certificate", said)


def directory(path: str, mode: int, *, own: bool, writable: bool) -> Iterator[Finding]:
    """Judge the rights of the data directory.

    Args:
        path: Its path.
        mode: Its permission bits.
        own: Whether it belongs to this user.
        writable: Whether this user can write in it.
    """
    if mode & 0o077:
        yield warn(
            "data directory",
            f"other users can enter {path} (mode {mode:o})",
            f"chmod 700 {path}: who reads it may administer the server.",
        )
    elif not own:
        yield warn(
            "data directory", f"{path} belongs to another user", "Run this as the server's user."
        )
    elif not writable:
        yield fail("data directory", f"{path} cannot be written", f"chmod 700 {path}")
    else:
        yield ok("data directory", f"{path}, of this user alone")


def unbound(address: str, setting: str, error: OSError) -> Finding:
    """Say why an address cannot be listened on."""
    why = os.strerror(error.errno) if error.errno else str(error)
    advice = {
        errno.EADDRINUSE: f"Stop the program that listens there, or choose another {setting}.",
        errno.EACCES: f"Ports below 1024 need a right of their own: choose another {setting}.",
        errno.EADDRNOTAVAIL: f"This machine has no such address: correct {setting}.",
    }.get(error.errno or 0, f"Correct {setting}.")
    return fail("port", f"{address} cannot be listened on ({why})", advice)


def versions(installed: dict[str, str], pinned: dict[str, str]) -> Finding:
    """Judge what is installed, by name, against what it must be exactly."""
    said = ", ".join(f"{name} {number}" for name, number in installed.items())
    wrong = [name for name, number in pinned.items() if installed.get(name) != number]
    if wrong:
        wanted = " ".join(f"{name}=={pinned[name]}" for name in wrong)
        return fail("versions", said, f"Install {wanted}: no other was tried.")
    return ok("versions", said)


def pins(requirements: list[str]) -> dict[str, str]:
    """The requirements that name one version alone, by name."""
    found = (re.fullmatch(r"([A-Za-z0-9._-]+)==([^;,\s]+)", each) for each in requirements)
    return {match[1]: match[2] for match in found if match}


def size(count: int) -> str:
    """Write a number of bytes for people."""
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1024:.0f} KiB"
