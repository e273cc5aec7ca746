"""Where Redis is, as one URL says it.

    redis://[user:password@]host[:port][/db]                           one server
    rediss://…                                                         the same, with TLS
    redis+cluster://[user:password@]host:port[,host:port…]             a Redis Cluster
    redis+sentinel://[user:password@]host:port[,host:port…]/name[/db]  the master that sentinels know by name

`rediss+cluster` and `rediss+sentinel` are these with TLS. User and password are those of the servers;
sentinels are asked without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

from feedgen.store.base import StoreError

Kind = Literal["server", "cluster", "sentinel"]
Server = tuple[str, int]
"""Host and port."""

_KINDS: dict[str, Kind] = {"": "server", "cluster": "cluster", "sentinel": "sentinel"}
_PORTS = {"server": 6379, "cluster": 6379, "sentinel": 26379}


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL. Neither its `repr` nor its `str` has the password.

    Attributes:
        kind: of what is there.
        servers: where to begin.
        master: the name of the master, for sentinels.
        user: "" for the default user.
        password: "" for none.
        tls: whether connections are encrypted.
        db: of the server.
    """

    kind: Kind
    servers: tuple[Server, ...]
    master: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    db: int = 0

    def __str__(self) -> str:
        scheme = ("rediss" if self.tls else "redis") + (
            "" if self.kind == "server" else f"+{self.kind}"
        )
        servers = ",".join(named(server) for server in self.servers)
        return f"{scheme}://{servers}" + (f"/{self.master}" if self.master else "")

    def as_kind(self, kind: Kind) -> str:
        """The URL of the same servers taken for something else."""
        scheme = ("rediss" if self.tls else "redis") + ("" if kind == "server" else f"+{kind}")
        return f"{scheme}://{','.join(named(server) for server in self.servers)}"


def named(server: Server) -> str:
    """`host:port`, with an IPv6 address in brackets."""
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse(url: str) -> Address:
    """Read a URL.

    Raises:
        StoreError: It is none of the forms above. The message does not quote it: it may have a password.
    """
    scheme, mark, rest = url.partition("://")
    base, _, variant = scheme.partition("+")
    if not mark or base not in ("redis", "rediss") or variant not in _KINDS:
        raise StoreError(
            "The store's URL begins with redis://, rediss://, redis+cluster:// or redis+sentinel://."
        )
    kind = _KINDS[variant]
    before, _, path = rest.partition("/")
    credentials, _, hosts = before.rpartition("@")
    user, colon, password = credentials.partition(":")
    if not colon:  # as redis-py and redis-cli read it: a name alone is a user
        user, password = credentials, ""
    parts = [part for part in path.split("/") if part]
    master = parts.pop(0) if kind == "sentinel" and parts else ""
    if kind == "sentinel" and not master:
        raise StoreError("The store's URL ends with the name of the master that sentinels watch.")
    if kind == "cluster" and parts:
        raise StoreError(
            "A Redis Cluster has no numbered databases: leave them out of the store's URL."
        )
    if len(parts) > 1 or (parts and not parts[0].isascii()) or (parts and not parts[0].isdigit()):
        raise StoreError("The store's URL ends with /db, a number, or with nothing.")
    servers = tuple(_server(host, _PORTS[kind]) for host in hosts.split(","))
    if kind == "server" and len(servers) > 1:
        raise StoreError(
            "The store's URL names several servers: write redis+cluster:// or redis+sentinel://."
        )
    return Address(
        kind=kind,
        servers=servers,
        master=unquote(master),
        user=unquote(user),
        password=unquote(password),
        tls=base == "rediss",
        db=int(parts[0]) if parts else 0,
    )


def _server(text: str, default: int) -> Server:
    host, bracket, rest = text.removeprefix("[").partition("]")
    if text.startswith("[") and bracket:
        port = rest.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise StoreError("The port in the store's URL is no number from 1 to 65535.")
    return host or "127.0.0.1", int(port) if port else default
