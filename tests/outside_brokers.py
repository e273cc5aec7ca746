"""Real brokers that are not ours, for tests: Mosquitto, the NATS server and rumqttd.

Each is started with a configuration for the gateway on free ports of 127.0.0.1:

    with mosquitto(devices=("kitchen",)) as broker:
        broker.url                # mqtt://gateway:…@127.0.0.1:40123, for the gateway
        broker.login("kitchen")   # ("kitchen", "…"), for a device; (None, None) where all may enter
        broker.kill(); broker.start()

Mosquitto runs with the repository's `mosquitto.conf` as it is, in a network namespace of its own.
`Features` says what each can do, as `tests/broker/test_outside_brokers.py` finds by trying.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from broker.commands.fault_process import free_port
from broker.outside.mosquitto_passwords import hash_password

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[1]
_OWN_NETWORK = Path(__file__).with_name("own_network.py")
PATIENCE = 20.0
HOST = "127.0.0.1"

GATEWAY = "gateway"
PUBLISHER = "publisher"
OPERATOR = "operator"
DEVICES = tuple(f"d{number}" for number in range(64))
"""Devices that every broker here lets in unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Features:
    """What a broker does, as far as a gateway cares; the defaults are what one would wish for.

    Attributes:
        shared_subscriptions: `$share/<group>/<filter>` divides messages among the group's clients.
        share_waits: What falls to a client of the group that is away waits until that one returns,
            though others are there.
        max_qos: Highest QoS that it takes and delivers with.
        lower_qos: A message goes out with the lower QoS of publisher and subscription, and not always
            with that of the subscription.
        durable_sessions: Sessions and what waits in them survive a stop and a start of the broker.
        synced: ... and `kill -9` of it, with everything that it had acknowledged.
        resend_after: Seconds until what was not acknowledged comes again in a resumed session.
        marks_resent: ... and that has DUP and the packet ids of before.
        acks_any_order: It takes PUBACKs in another order than that of its messages. Otherwise such a
            one ends the connection, and a message that was not acknowledged is lost.
        will_of_replaced: When a client comes in again, the will of its older connection is published.
            Otherwise there is none; or, with rumqttd, that of the newer one, which then has none more.
        dotted_ids: Ids with a dot can be used in topics.
        logins: It asks for user name and password here, and binds topics to them.
        max_inflight: Messages of QoS 1 that it sends ahead of their PUBACKs, here.
    """

    shared_subscriptions: bool = True
    share_waits: bool = False
    max_qos: int = 2
    lower_qos: bool = True
    durable_sessions: bool = True
    synced: bool = True
    resend_after: float = 0.0
    marks_resent: bool = True
    acks_any_order: bool = True
    will_of_replaced: bool = True
    dotted_ids: bool = True
    logins: bool = False
    max_inflight: int = 1000


class OutsideBroker(ABC):
    """One broker that can be stopped, killed and started again on the same ports.

    Attributes:
        name: Of the broker.
        features: What it can do.
        host: Where it listens.
        port: Its port without encryption; for the gateway, and open to all users here.
        tls_port: Its port for devices with TLS, if it has one, and
        certificate: the certificate to trust there.
        pid: Of its process; 0 while it does not run.
        directory: Where it keeps everything.
    """

    name: str
    features: Features
    host = HOST

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self.directory = directory
        self.names = tuple(names)
        self.port = 0
        self.tls_port: int | None = None
        self.certificate: Path | None = None
        self.pid = 0
        self._process: subprocess.Popen[str] | None = None

    def __repr__(self) -> str:
        return f"<{self.name} on {self.host}:{self.port}>"

    @property
    def url(self) -> str:
        """Where the gateway finds it, with its credentials."""
        user, password = self.login(GATEWAY)
        return f"mqtt://{user}:{password}@{self.address}" if user else f"mqtt://{self.address}"

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def login(self, name: str) -> tuple[str, str] | tuple[None, None]:
        """User name and password of somebody; Nones where everybody may enter."""
        if not self.features.logins:
            return None, None
        assert name in self.names, f"{name} was not named when this broker was started"
        return name, f"secret-of-{name}"

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        assert self._process is None
        with (self.directory / "log").open("a") as log:
            self._process = self._launch(log)
        deadline = time.monotonic() + PATIENCE
        while not _answers(self.host, self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not start:\n{self.log()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Let it end in order, as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once; it writes nothing more."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it in order and start it again, on the same ports."""
        self.stop()
        self.start()

    def log(self) -> str:
        """All that it has said."""
        return (self.directory / "log").read_text(errors="replace")

    @abstractmethod
    def _launch(self, log: IO[str]) -> subprocess.Popen[str]:
        """Start the process; sets `pid`, and `port` the first time."""

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        self.pid = 0
        try:
            process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


class Mosquitto(OutsideBroker):
    """Mosquitto, with `mosquitto.conf` of the repository as it is.

    Where this system gives nobody a network namespace, the numbers of its ports are replaced.

    Attributes:
        ports: Where its listeners are, by the port in the configuration.
        as_it_is: The configuration is the repository's, byte for byte.
    """

    name = "mosquitto"
    features = Features(share_waits=True, synced=False, logins=True)

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        super().__init__(directory, names)
        self._program = _program("mosquitto")
        self.ports: dict[int, int] = dict.fromkeys((1883, 8883, 8884), 0)
        self.as_it_is = _own_network_possible()
        text = (ROOT / "mosquitto.conf").read_text()
        if not self.as_it_is:
            self.ports = {port: free_port() for port in self.ports}
            text = re.sub(
                r"(?m)^listener (\d+)", lambda m: f"listener {self.ports[int(m[1])]}", text
            )
        (directory / "mosquitto.conf").write_text(text)
        for name in ("certs", "data"):
            (directory / name).mkdir()
        self.certificate = directory / "certs" / "authority.crt"
        make_certificate(directory / "certs" / "server.crt", directory / "certs" / "server.key")
        lines = (f"{name}:{hash_password(f'secret-of-{name}', iterations=1)}\n" for name in names)
        (directory / "passwords").write_text("".join(lines))
        (directory / "acl").write_text(_ACL)
        give_to_mosquitto(directory)

    def hang_up(self) -> None:
        """Have it read its files again (SIGHUP)."""
        os.kill(self.pid, signal.SIGHUP)

    def _launch(self, log: IO[str]) -> subprocess.Popen[str]:
        command = [self._program, "-c", "mosquitto.conf"]
        if self.as_it_is:
            forwarded = [f"{inside}:{here}" for inside, here in self.ports.items()]
            command = [sys.executable, str(_OWN_NETWORK), *forwarded, "--", *command]
        process = subprocess.Popen(
            command, cwd=self.directory, stdout=subprocess.PIPE, stderr=log, text=True
        )
        if not self.as_it_is:
            self.pid, self.port, self.tls_port = process.pid, self.ports[1883], self.ports[8883]
            return process
        assert process.stdout is not None
        said = process.stdout.readline()
        if not said:
            raise AssertionError(f"mosquitto did not start:\n{self.log()}")
        answer = json.loads(said)
        self.pid = answer["pid"]
        self.ports = {int(inside): here for inside, here in answer["ports"].items()}
        self.port, self.tls_port = self.ports[1883], self.ports[8883]
        return process


class Nats(OutsideBroker):
    """The NATS server with its MQTT port; sessions and retained messages are in JetStream."""

    name = "nats"
    features = Features(
        shared_subscriptions=False,
        max_qos=1,
        resend_after=1,
        will_of_replaced=False,
        dotted_ids=False,
    )

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        super().__init__(directory, names)
        self._program = _program("nats-server")
        self.port = free_port()
        (directory / "nats.conf").write_text(
            _NATS.format(client=free_port(), mqtt=self.port, store=directory / "jetstream")
        )

    def _launch(self, log: IO[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self._program, "-c", "nats.conf"], cwd=self.directory, stderr=log, text=True
        )
        self.pid = process.pid
        return process


_NATS = """\
listen: "127.0.0.1:{client}"
server_name: fleetfeed-tests
jetstream {{ store_dir: "{store}" }}
mqtt {{ listen: "127.0.0.1:{mqtt}", max_ack_pending: 1000, ack_wait: "1s" }}
"""


class Rumqttd(OutsideBroker):
    """rumqttd as the package iotcore brings it; everything is in memory."""

    name = "rumqttd"
    features = Features(
        lower_qos=False,
        durable_sessions=False,
        synced=False,
        marks_resent=False,
        acks_any_order=False,
        will_of_replaced=False,
        max_inflight=100,
    )

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        super().__init__(directory, names)
        self.port = free_port()
        (directory / "rumqttd.toml").write_text(_RUMQTTD.format(mqtt=self.port))

    def _launch(self, log: IO[str]) -> subprocess.Popen[str]:
        # Of its log only what ends it: as spans of tracing it logs each packet as an error.
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "iotcore",
                "--config",
                "rumqttd.toml",
                "--log-level",
                "CRITICAL",
            ],
            cwd=self.directory,
            stdout=log,
            stderr=log,
            text=True,
        )
        self.pid = process.pid
        return process


_RUMQTTD = """\
id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 1000
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "plain"
listen = "127.0.0.1:{mqtt}"
next_connection_delay_ms = 0
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 70000
max_inflight_count = 1000
dynamic_filters = true
"""


@contextlib.contextmanager
def _started(
    kind: Callable[[Path, Sequence[str]], OutsideBroker], names: Sequence[str]
) -> Iterator[Any]:
    # Not in pytest's directories: only their owner may enter those, and Mosquitto becomes another.
    with tempfile.TemporaryDirectory(prefix="fleetfeed-broker-") as place:
        broker = kind(Path(place), (GATEWAY, PUBLISHER, OPERATOR, *names))
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()


def mosquitto(devices: Sequence[str] = DEVICES) -> AbstractContextManager[Mosquitto]:
    """Mosquitto, which lets in these devices and the three users."""
    return _started(Mosquitto, devices)


def nats(devices: Sequence[str] = DEVICES) -> AbstractContextManager[Nats]:
    """The NATS server, which lets everybody in here."""
    return _started(Nats, devices)


def rumqttd(devices: Sequence[str] = DEVICES) -> AbstractContextManager[Rumqttd]:
    """rumqttd, which lets everybody in here."""
    return _started(Rumqttd, devices)


BROKERS: Mapping[str, Callable[..., AbstractContextManager[OutsideBroker]]] = {
    "mosquitto": mosquitto,
    "nats": nats,
    "rumqttd": rumqttd,
}
"""By name, to parametrise a fixture: `with BROKERS[request.param]() as broker: yield broker`."""


def make_certificate(certificate: Path, key: Path) -> None:
    """A certificate for 127.0.0.1 and localhost that is its own authority."""
    import trustme  # noqa: PLC0415 - slow to import

    authority = trustme.CA()
    issued = authority.issue_cert(HOST, "localhost")
    issued.private_key_pem.write_to_path(key)
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(certificate, append=number > 0)
    authority.cert_pem.write_to_path(certificate.with_name("authority.crt"))


def give_to_mosquitto(directory: Path) -> None:
    """Started by root, Mosquitto becomes its own user: let it in, and let that be the owner."""
    if os.geteuid() != 0:
        return
    user = pwd.getpwnam("mosquitto")
    for path in (directory, *directory.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)


@cache
def _own_network_possible() -> bool:
    command = [sys.executable, str(_OWN_NETWORK), "--", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _program(name: str) -> str:
    # Debian has servers in /usr/sbin, which an ordinary user's PATH lacks.
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which(name, path=path)
    assert found is not None, f"not installed: {name}"
    return found


_CONNECT = bytes.fromhex("101100044d5154540402000a0005") + b"probe"


def _answers(host: str, port: int) -> bool:
    """Whether a CONNECT is answered there, be it by a refusal."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), PATIENCE) as sock:
        sock.sendall(_CONNECT)
        return sock.recv(1) == b"\x20"
    return False


_ACL = f"""\
user {GATEWAY}
topic write feed/sys/#
topic write f/#
topic read u/#
topic read items/#

user {PUBLISHER}
topic write items/#

user {OPERATOR}
topic read $SYS/#
topic read feed/sys/#

pattern read f/%u
pattern write u/%u
"""
