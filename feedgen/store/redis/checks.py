"""Whether a Redis can keep what was acknowledged, looked at before anything is entrusted to it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feedgen.store.base import StoreError
from feedgen.store.redis.address import named
from feedgen.store.redis.faults import explain
from feedgen.store.redis.link import ReplyError, ask

if TYPE_CHECKING:
    from feedgen.store.redis.address import Address, Server
    from feedgen.store.redis.settings import RedisSettings
    from feedgen.store.redis.topology import Topology

OLDEST = (6, 2)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """What one master says about itself.

    Attributes:
        appends: whether it keeps an append-only file.
        fsync: when it forces that to the disk: "always", "everysec", "no"; "" if it does not say.
        saves: whether it writes snapshots by itself; None if it does not say.
        replicas: how many follow it.
    """

    appends: bool
    fsync: str
    saves: bool | None
    replicas: int


async def check(topology: Topology, address: Address, settings: RedisSettings) -> str:
    """Look at every master; returns one sentence on what can be lost, for `durability`.

    Raises:
        StoreError: It cannot be used; the message says why and what to do.
    """
    try:
        await topology.refresh()
    except (OSError, ReplyError) as error:
        raise StoreError(_unreachable(error, address)) from error
    facts = [await _look(server, address, settings) for server in topology.masters]
    sentence = durability(facts, settings.wait_replicas)
    if not all(each.appends for each in facts):
        _log.warning("%s Set appendonly yes, and see docs/scale.md for the settings.", sentence)
    fewest = min(each.replicas for each in facts)
    if fewest < settings.wait_replicas:
        _log.warning(
            "wait_replicas is %d, but a master has %d replicas now: until it has more, nothing is"
            " acknowledged.",
            settings.wait_replicas,
            fewest,
        )
    return sentence


def durability(facts: list[Facts], wait_replicas: int) -> str:
    """What is lost when a Redis server dies, as one sentence about the weakest of the masters."""
    confirmed = (
        f" Before it is acknowledged, {wait_replicas} replicas have it in memory."
        if wait_replicas
        else " A failover may lose what the replica had not received yet."
        if any(each.replicas for each in facts)
        else ""
    )
    if not all(each.appends for each in facts):
        saves = any(each.saves for each in facts)
        lost = (
            "what was acknowledged since the last snapshot"
            if saves
            else "all that was acknowledged"
        )
        return f"Redis keeps no append-only file: when it dies, {lost} is lost.{confirmed}"
    fsyncs = {each.fsync for each in facts}
    if fsyncs == {"always"}:
        return f"Redis forces every write to the disk: when it dies, nothing acknowledged is lost.{confirmed}"
    if "no" in fsyncs:
        window = "what the system had not written to the disk"
    elif "" in fsyncs:
        window = "what was not on the disk (it does not say how often it is forced there)"
    else:
        window = "up to about the last second of what was acknowledged"
    return f"When the machine of Redis dies, {window} is lost; when only its process dies, nothing.{confirmed}"


async def _look(server: Server, address: Address, settings: RedisSettings) -> Facts:
    try:
        info, configuration = await ask(
            server, address, settings, ("INFO", "everything"), ("CONFIG", "GET", "*")
        )
    except (OSError, ReplyError) as error:
        raise StoreError(explain(error, server)) from error
    if isinstance(info, ReplyError):
        raise StoreError(explain(info, server))
    said = _fields(info)
    known = {} if isinstance(configuration, ReplyError) else _pairs(configuration)
    _refuse(said, known, server, address)
    return Facts(
        appends=said.get("aof_enabled") == "1",
        fsync=known.get("appendfsync", ""),
        saves=bool(known["save"]) if "save" in known else None,
        replicas=int(said.get("connected_slaves", 0)),
    )


def _refuse(said: dict[str, str], known: dict[str, str], server: Server, address: Address) -> None:
    where, mode = f"Redis at {named(server)}", said.get("redis_mode", "standalone")
    version = said.get("redis_version", "0")
    if mode == "sentinel":
        url = f"{address.as_kind('sentinel')}/<name of the master>"
        raise StoreError(f"{where} is a sentinel: write {url} as the store's URL.")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise StoreError(f"{where} is version {version}: at least 6.2 is needed.")
    if mode == "cluster" and address.kind != "cluster":
        url = address.as_kind("cluster")
        raise StoreError(f"{where} is part of a Redis Cluster: write {url} as the store's URL.")
    if said.get("role") == "slave":
        master = f"{said.get('master_host')}:{said.get('master_port')}"
        raise StoreError(
            f"{where} is a replica of {master}: name that one in the store's URL, or write"
            " redis+sentinel:// with the addresses of the sentinels."
        )
    policy = said.get("maxmemory_policy") or known.get("maxmemory-policy", "")
    if not policy:
        _log.warning("%s does not say what it does when its memory is full.", where)
    elif policy != "noeviction":
        raise StoreError(
            f"{where} throws data away when its memory is full (maxmemory-policy {policy}), also items"
            " that were acknowledged: set it to noeviction."
        )


def _unreachable(error: Exception, address: Address) -> str:
    if isinstance(error, ReplyError) and "cluster support disabled" in str(error):
        return f"{named(address.servers[0])} is no Redis Cluster: write {address.as_kind('server')} as the store's URL."
    return explain(error, address.servers[0])


def _fields(info: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in pairs if colon}


def _pairs(reply: Any) -> dict[str, str]:
    texts = [value.decode("utf-8", "replace") for value in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))
