"""A server's data in one file, and back: the store, and what the ranking has learned.

Not in it: the decision log, which is large and only looked back at, and anything of a store that several
servers share, which Redis keeps.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING

from broker import ranking_state
from devices.profile import Profile
from feedgen.store import sqlite_backup
from feedgen.store.base import StoreError
from feedgen.store.sqlite_file import FILE

if TYPE_CHECKING:
    from pathlib import Path

    from broker.config import Config
    from feedgen.store.sqlite_backup import Contents

EPOCHS_SKIPPED = 64
"""Epochs of a device that count as begun since a backup was made. One begins with each end of the server
without warning; a device that is ahead even of these says so in its hello."""

_LAST_EPOCH = (1 << 32) - (1 << 16)
_MAX_STATE = 500_000_000
"""Bytes of learned state that go into a backup; SQLite's own limit of a value is 10^9."""


def back_up(config: Config, target: Path, *, replace: bool = False) -> Contents:
    """Copy what a server keeps in its data directory to `target`, whether it runs or not.

    Raises:
        StoreError: There is nothing to copy, it belongs to another user, or `target` cannot be written.
    """
    _check_own(config)
    _check_owner(config.data)
    return sqlite_backup.back_up(
        config.data,
        target,
        program=version("fleetfeed"),
        files=_learned(config.data),
        replace=replace,
    )


def restore(config: Config, path: Path, *, replace: bool = False) -> Contents:
    """Put a backup in the place of what is in the data directory, while no server runs on it.

    Raises:
        StoreError: The backup or the directory cannot be used; nothing has changed.
    """
    _check_own(config)
    _check_owner(config.data)
    return sqlite_backup.restore(
        path,
        config.data,
        renew=renewed,
        take=lambda name: name == ranking_state.FILE,
        replace=replace,
    )


def renewed(device: str, packed: bytes) -> bytes:
    """A profile as it may go on after a backup: no position holds, and no epoch comes twice.

    Raises:
        BadProfile: It cannot be read.
    """
    profile = Profile.unpack(device, packed)
    profile.session = None
    if profile.epoch:
        profile.epoch = min(profile.epoch + EPOCHS_SKIPPED, _LAST_EPOCH)
    return profile.pack()


def _learned(data: Path) -> dict[str, bytes]:
    path = data / ranking_state.FILE
    try:
        if path.stat().st_size > _MAX_STATE:
            raise StoreError(
                f"{path} is too large for a backup: the server can do without, move it."
            )
        return {path.name: path.read_bytes()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error


def _check_own(config: Config) -> None:
    if config.store.url is not None:
        raise StoreError(
            "Items and devices are in the Redis of store.url: back that up (its append-only file and its"
            " snapshots)."
        )


def _check_owner(data: Path) -> None:
    """Another user, root too, would leave files there that the server cannot open."""
    for path in (data / FILE, data):
        try:
            owner = path.stat().st_uid
        except OSError:
            continue  # whoever uses it next says what is wrong
        if owner != os.geteuid():
            raise StoreError(
                f"{path} belongs to another user (uid {owner}): run this as that user, as the server does."
            )
        return
