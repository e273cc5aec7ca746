"""How an installation is measured: the system, the store's file, certificates, ports. Nothing is changed."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import resource
import socket
import sqlite3
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devices.packets import Connack, Connect, Decoder, MalformedPacket, encode
from feedgen.items import BadRecord, unpack_record
from feedgen.store.sqlite_file import FILE, LOCK
from feedgen.store.sqlite_migrations import version_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.config import StoreSettings

_PATIENCE = 5.0
"""Seconds that anything asked has to answer."""

_TIME_ERROR = 5
"""What adjtimex(2) returns while the clock is not synchronised."""
_TIMEX = 512
"""Bytes, more than any layout of its structure has; all 0 asks only."""


def synchronised() -> bool | None:
    """Whether the kernel says that its clock follows a time server; None if it does not say."""
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjtimex is None:
        return None
    state = adjtimex(ctypes.create_string_buffer(_TIMEX))
    return None if state < 0 else state != _TIME_ERROR


def holder(data: Path) -> int | None:
    """The process that last took the data directory; it may have ended."""
    try:
        return int((data / LOCK).read_text())
    except (OSError, ValueError):
        return None


def open_files(pid: int | None) -> int:
    """How many files a process may have open; None for what one started from here could have."""
    if pid is not None:
        try:
            lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
            found = next(line.split() for line in lines if line.startswith("Max open files"))
            return int(found[-2])  # what it may raise it to, as a server does when it starts
        except (OSError, ValueError, StopIteration):
            pass
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@dataclass(frozen=True, slots=True)
class StoreFile:
    """The store as it is on the disk.

    Attributes:
        version: Of its schema; 0 if nothing is in it yet.
        size: Its bytes.
        newest: When its newest item was accepted, in Unix seconds; None without one.
    """

    version: int
    size: int
    newest: float | None


def store_file(data: Path) -> StoreFile | None:
    """Look at the store of a data directory, whether it is in use or not; None if there is none.

    Raises:
        StoreError: It is another program's, or of a newer version.
        sqlite3.Error: It cannot be read.
    """
    path = data / FILE
    if not path.is_file():
        return None
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE)) as reader:
        version = version_of(reader, FILE)
        newest = None
        if version:
            row = reader.execute("SELECT record FROM items ORDER BY n DESC LIMIT 1").fetchone()
            newest = None if row is None else _accepted(row[0])
        return StoreFile(version, path.stat().st_size, newest)


def _accepted(record: bytes) -> float | None:
    try:
        return unpack_record(record).published_ms / 1000
    except BadRecord:  # whoever reads all of them says so
        return None


def certificates(file: Path) -> Iterator[tuple[str, float, float, bytes]]:
    """Each certificate in a PEM file: whose it is, from when and until when, and its DER form.

    Raises:
        OSError: The file cannot be read.
        ValueError: There is none in it.
    """
    from cryptography import x509  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - likewise

    for each in x509.load_pem_x509_certificates(file.read_bytes()):
        begins, ends = each.not_valid_before_utc, each.not_valid_after_utc
        name = each.subject.rfc4514_string()
        yield name, begins.timestamp(), ends.timestamp(), each.public_bytes(Encoding.DER)


def certificate_served(host: str, port: int) -> bytes | None:
    """The certificate that a port shows, in DER form.

    Raises:
        OSError: Nobody answers, or not in TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # what it is worth is another question
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((reachable(host), port), _PATIENCE) as plain,
        context.wrap_socket(plain) as encrypted,
    ):
        return encrypted.getpeercert(binary_form=True)


def mqtt_answer(
    host: str, port: int, connect: Connect, context: ssl.SSLContext | None = None
) -> int:
    """What a broker answers to a CONNECT: the code of its CONNACK (MQTT 3.1.1, 3.2.2.3).

    Raises:
        OSError: Nobody answers, or not in MQTT.
    """
    with socket.create_connection((reachable(host), port), _PATIENCE) as plain:
        connection = plain if context is None else context.wrap_socket(plain, server_hostname=host)
        with connection:
            connection.sendall(encode(connect))
            decoder = Decoder(role="client", max_packet=1 << 16)
            while data := connection.recv(4_096):
                try:
                    for packet, _ in decoder.feed(data):
                        if isinstance(packet, Connack):
                            return packet.code
                        raise OSError("it does not answer in MQTT")
                except MalformedPacket as error:
                    raise OSError("it does not answer in MQTT") from error
    raise OSError("it hangs up without an answer")


def listen(host: str, port: int) -> None:
    """Listen for a moment where a server would.

    Raises:
        OSError: It could not.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    socket.create_server(address, family=family).close()


def reachable(host: str) -> str:
    """Where to connect to a server that listens on `host`: every interface has this machine's own."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not to listen on


@dataclass(frozen=True, slots=True)
class Redis:
    """What the Redis of a shared store says.

    Attributes:
        durability: What can be lost, one sentence.
        warnings: What else is wrong with it, a sentence each.
        skew: Seconds by which its clock is ahead of ours.
    """

    durability: str
    warnings: tuple[str, ...]
    skew: float


def redis(settings: StoreSettings) -> Redis:
    """Look at the Redis of a shared store, without joining those that use it.

    Raises:
        StoreError: It cannot be used.
    """
    return asyncio.run(_redis(settings))


async def _redis(settings: StoreSettings) -> Redis:
    from feedgen.store.redis import RedisSettings, checks  # noqa: PLC0415 - only nodes need its client
    from feedgen.store.redis.address import parse  # noqa: PLC0415 - likewise
    from feedgen.store.redis.link import ask  # noqa: PLC0415 - likewise
    from feedgen.store.redis.topology import Topology  # noqa: PLC0415 - likewise

    assert settings.url is not None
    address = parse(settings.url)
    chosen = RedisSettings(
        prefix=settings.prefix,
        wait_replicas=settings.wait_replicas,
        timeout=settings.timeout,
        ca_file=settings.ca,
    )
    topology, heard = Topology(address, chosen), _Heard()
    log = logging.getLogger(checks.__name__)
    log.addHandler(heard)
    log.propagate = False
    try:
        durability = await checks.check(topology, address, chosen)
    finally:
        log.removeHandler(heard)
        log.propagate = True
    before = time.time()
    (answer,) = await ask(topology.masters[0], address, chosen, ("TIME",))
    middle = (before + time.time()) / 2
    seconds = int(answer[0]) + int(answer[1]) / 1e6
    return Redis(durability, tuple(heard.sentences), seconds - middle)


class _Heard(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.sentences.append(record.getMessage())
