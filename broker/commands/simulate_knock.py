"""Whether a target lets the clients of a simulation in: a few of them knock before all come.

Thousands who are refused would tell no more than four, and their failed logins would lock out whoever shares their
address.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from typing import TYPE_CHECKING, NoReturn

from broker.commands.shell import Code, Failure
from devices.packets import REFUSED, Connect, Suback, Subscribe, encode
from devices.refusals import UNAVAILABLE, TlsFault, refusal, tls_fault
from simulator.connection import Client, Refused, aside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker.commands.simulate_target import Target
    from devices.packets import Packet
    from simulator.fleet import DeviceSpec

_PATIENCE = 20.0
"""Seconds for one client to come in."""
_FEW = 3
"""Devices of each kind of login that knock."""

_ADVICE = {
    TlsFault.UNTRUSTED: "give the authority that signed it with --ca",
    TlsFault.NOT_NOW: "renew it, or set the clock of this machine",
    TlsFault.OTHER_NAME: "write a name that stands in it into --target",
    TlsFault.NO_TLS: "write its port for TLS into --target, or mqtt:// if it has none",
    TlsFault.REFUSED: "it may want client certificates, which simulated devices do not have",
    TlsFault.NO_AGREEMENT: "have it speak TLS 1.2 or 1.3",
}


class _Visitor(Client):
    """A client that comes in, subscribes if it has something to subscribe to, and goes.

    Args:
        connect: Its CONNECT.
        topic: What it subscribes to; None: nothing.

    Attributes:
        granted: Whether it may subscribe, once that is known; fails with what came in between.
    """

    __slots__ = ("_topic", "granted")

    def __init__(self, connect: Connect, topic: str | None = None) -> None:
        super().__init__(connect)
        self._topic = topic
        self.granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connected(self) -> None:
        """It asks for its frames."""
        if self._topic is None:
            self.granted.set_result(True)
        else:
            self.send(encode(Subscribe(self.next_packet_id(), ((self._topic, 1),))))

    def received(self, packet: Packet, size: int) -> None:  # noqa: ARG002 - a hook's signature
        """Only the answer counts: frames come again when the device is there in earnest."""
        if isinstance(packet, Suback) and not self.granted.done():
            self.granted.set_result(REFUSED not in packet.codes)

    def lost(self, why: Exception) -> None:
        """Nobody answers any more."""
        if not self.granted.done():
            self.granted.set_exception(why)
            self.granted.exception()  # where `open_connection` raised the same, nobody else asks


async def knock(target: Target, specs: Sequence[DeviceSpec]) -> None:
    """Sees that a client which is no device, and a few of the devices, may come in.

    Args:
        target: What they come to.
        specs: All devices.

    Raises:
        Failure: It is not there, there is no encryption, or one of them is refused: which one, why, and what to do.
    """
    access = target.access
    guest = Connect(aside("knock"), clean_session=True, keep_alive=30)
    await _let_in(target, _Visitor(access.signed(guest)), access.user)
    own = [spec for spec in specs if spec.device in access.secrets]
    others = [spec for spec in specs if spec.device not in access.secrets]
    for spec in (*_drawn(own), *_drawn(others)):
        user, password = access.login(spec.device) or (None, None)
        secret = None if password is None else password.encode()
        connect = Connect(spec.device, spec.clean, spec.keep_alive, user, secret)
        await _let_in(target, _Visitor(connect, f"f/{spec.device}"), user)


def _drawn(specs: Sequence[DeviceSpec]) -> list[DeviceSpec]:
    """The first, the last and some between them."""
    few = min(len(specs), _FEW)
    return [specs[place * (len(specs) - 1) // max(few - 1, 1)] for place in range(few)]


async def _let_in(target: Target, visitor: _Visitor, user: str | None) -> None:
    address = target.address
    try:
        async with asyncio.timeout(_PATIENCE):
            await visitor.open_connection(address.host, address.port, tls=target.access.tls)
            granted = await visitor.granted
    except Refused as error:
        raise _refused(target, visitor.client_id, user, error.code) from error
    except OSError as error:  # a TimeoutError is one
        _unreached(target, visitor.client_id, error)
    finally:
        visitor.close()
    if not granted:
        raise Failure(
            f"{target} lets {_who(visitor.client_id, user)} in, and does not let it subscribe to "
            f"f/{visitor.client_id} (SUBACK 0x80): {_remedy(target, visitor.client_id, user)}"
        )


def _refused(target: Target, client_id: str, user: str | None, code: int) -> Failure:
    said = f"{target} refuses {_who(client_id, user)}: {refusal(code)} (return code {code})"
    if code == UNAVAILABLE:
        return Failure(f"{said}; try again in a minute", Code.UNREACHABLE)
    return Failure(f"{said}; {_remedy(target, client_id, user)}")


def _who(client_id: str, user: str | None) -> str:
    return f"{client_id} without a user name" if user is None else f"{client_id} as user {user!r}"


def _remedy(target: Target, client_id: str, user: str | None) -> str:
    """What to do about a client that is not let in, or not to its feed."""
    if user == client_id:
        return (
            f"check its secret in {target.credentials}: fleetfeed device import … --update --rotate --secrets writes "
            "new ones"
        )
    if client_id == aside("knock"):
        if user is None:
            return f"publishers need a user in --target, like {_like(target)}, with --password-file"
        return "check the user of --target, and what is in --password-file or FLEETFEED_PASSWORD"
    return "give each device a secret of its own with --credentials; --print-devices helps to make them"


def _like(target: Target) -> str:
    scheme, host = str(target.address).split("://")
    return f"{scheme}://user@{host}"


def _unreached(target: Target, client_id: str, error: OSError) -> NoReturn:
    fault = tls_fault(error) if target.access.tls is not None else None
    if fault is not None:
        advice = _ADVICE.get(fault, f"OpenSSL says {getattr(error, 'reason', None) or error}")
        if fault is TlsFault.UNTRUSTED and target.address.ca is not None:
            advice = f"--ca {target.address.ca} is of another authority: give that which signed it"
        detail = (
            f" ({error.verify_message})" if isinstance(error, ssl.SSLCertVerificationError) else ""
        )
        raise Failure(f"no TLS connection to {target}: {fault.value}{detail}; {advice}") from error
    if isinstance(error, TimeoutError):
        raise Failure(
            f"{target} does not answer {client_id} within {_PATIENCE:.0f} s: is that its MQTT port?",
            Code.UNREACHABLE,
        ) from error
    if isinstance(error, ConnectionError) and error.errno in {None, errno.ECONNRESET}:
        encryption = (
            "if that is its port for TLS, write mqtts://"
            if target.access.tls is None
            else "it may want client certificates, which simulated devices do not have"
        )
        raise Failure(
            f"{target} closed the connection of {client_id} before it answered: {encryption}"
        ) from error
    raise Failure(
        f"nobody answers at {target} ({error.strerror or error}): check --target", Code.UNREACHABLE
    ) from error
