"""What the errors of Redis mean: which of them pass, and what an operator does about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedgen.store.redis.address import named
from feedgen.store.redis.link import ReplyError

if TYPE_CHECKING:
    from feedgen.store.redis.address import Server

_ADVICE = {
    "LOADING": "It reads its data after a start: this takes a while.",
    "BUSY": "A script of somebody else keeps it busy.",
    "OOM": "Its memory is full: raise its maxmemory, or shorten the ttl of items.",
    "MISCONF": "It cannot save its data: check its disk.",
    "READONLY": "It is a replica: name the master, or use redis+sentinel:// or redis+cluster://.",
    "MASTERDOWN": "It is a replica without a master.",
    "CLUSTERDOWN": "Part of the cluster is down: see CLUSTER INFO.",
    "TRYAGAIN": "Its slots are on their way to another server.",
    "NOREPLICAS": "Too few replicas confirm what is written: bring them back, or lower wait_replicas.",
    "NOMASTER": "Check the name of the master.",
    "NOAUTH": "It wants a password: put one into the store's URL.",
    "WRONGPASS": "It refuses the user name or the password in the store's URL.",
    "NOPERM": "Its access rules (ACL) forbid a command that is needed.",
    "UNBLOCKED": "It has become a replica.",
}
PASSING = frozenset(_ADVICE) | {"MOVED", "ASK", "NOSCRIPT", "ERR_WAIT"}
"""First words of the errors that are worth another attempt."""


def explain(error: Exception, server: Server) -> str:
    """A sentence or two for an operator. Redis does not put passwords into its errors, nor do we."""
    where = f"Redis at {named(server)}"
    if isinstance(error, ReplyError):
        return f"{where} says: {error}. {_ADVICE.get(error.word, '')}".rstrip()
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refuses connections: start it, or correct the address."
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{where} cannot be used ({reason}): check the address, the network and the server."
