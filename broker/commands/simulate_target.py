"""What `fleetfeed simulate --target` is pointed at, and what its clients log in with."""

from __future__ import annotations

import csv
import io
import os
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.admin.fleet_file import BadTable
from broker.commands.certificates import client_context
from broker.commands.gateway import password_in
from broker.commands.shell import Code, Failure
from broker.gateway.address import BadAddress, BrokerAddress, parse_address
from broker.outside import secrets_table
from simulator.access import Access

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from simulator.fleet import DeviceSpec


@dataclass(frozen=True, slots=True)
class Target:
    """A server or broker that runs already.

    Attributes:
        address: Where it is.
        access: How clients come in.
        gateway: Whether a gateway works beside it.
        data: Data directory of the server or the gateway, if it may be asked.
        credentials: The file with the secrets of devices, if there is one.
        options: Of the command line that names it again; no password is among them.
    """

    address: BrokerAddress
    access: Access
    gateway: bool
    data: Path | None
    credentials: Path | None
    options: str

    def __str__(self) -> str:
        return str(self.address)


def target_of(
    url: str,
    *,
    ca: Path | None = None,
    password_file: Path | None = None,
    credentials: Path | None = None,
    gateway: bool = False,
    data: Path | None = None,
) -> Target:
    """Puts the options together; no sentence of a failure repeats the URL, which may hold a password.

    Raises:
        Failure: The address is none, or a file cannot be used.
    """
    password = None if password_file is None else password_in(password_file)
    try:
        address = parse_address(url, ca=ca)
        if password is None and address.user is not None:
            password = os.environ.get("FLEETFEED_PASSWORD") or None
        address = parse_address(url, password=password, ca=ca)
    except BadAddress as error:
        raise Failure(f"{error} (--target)", Code.INVALID) from error
    access = Access(
        client_context(ca) if address.tls else None,
        address.user,
        address.password,
        {} if credentials is None else secrets_in(credentials),
    )
    named = {
        "--ca": ca,
        "--password-file": password_file,
        "--credentials": credentials,
        "--data": data,
    }
    options = ["--target", _without_password(address)]
    options += [word for name, file in named.items() if file for word in (name, str(file))]
    options += ["--gateway"] * gateway
    return Target(address, access, gateway, data, credentials, shlex.join(options))


def _without_password(address: BrokerAddress) -> str:
    scheme, host = str(address).split("://")
    return f"{scheme}://{'' if address.user is None else f'{_encoded(address.user)}@'}{host}"


def _encoded(user: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 - only here

    return quote(user, safe="")


def secrets_in(file: Path) -> Mapping[str, str]:
    """The secrets of devices by id; where one stands there twice, the last holds.

    Raises:
        Failure: It is no table of secrets.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return {given.name: given.secret for given in secrets_table.read(lines)}
    except OSError as error:
        raise Failure(f"--credentials {file} cannot be read: {error.strerror or error}", Code.INVALID) from error  # fmt: skip
    except BadTable as error:
        raise Failure(f"--credentials {file}: {error}", Code.INVALID) from error


def see_secrets(target: Target, specs: Sequence[DeviceSpec], scenario: str) -> str | None:
    """Whether each device has a secret, where a file with secrets is given.

    Args:
        target: What they come to.
        specs: All devices.
        scenario: As it was named on the command line.

    Returns:
        What a reader must know of those that have none, and log in as the user of the address.

    Raises:
        Failure: There is no such user either.
    """
    if target.credentials is None:
        return None
    missing = [spec.device for spec in specs if spec.device not in target.access.secrets]
    if not missing:
        return None
    user = target.access.user
    said = (
        f"{target.credentials} has no secret for {len(missing)} of {len(specs)} simulated devices, "
        f"{missing[0]} the first"
    )
    if user is not None:
        return f"{said}: they log in as {user!r}."
    table = f"fleetfeed simulate {shlex.quote(scenario)} --devices {len(specs)} --print-devices"
    raise Failure(
        f"{said}. They are called {_names(specs)}. For a file with all of them: {table} > sim.csv, and then fleetfeed "
        "device import sim.csv --update --rotate --secrets sim-secrets.csv where the server is. Or name a user in "
        "--target that they may log in as",
        Code.INVALID,
    )


def _names(specs: Iterable[DeviceSpec]) -> str:
    """What devices are called, class by class."""
    sizes = Counter(spec.kind for spec in specs)
    return ", ".join(
        f"{kind}-1" if size == 1 else f"{kind}-1 to {kind}-{size}" for kind, size in sizes.items()
    )


def import_table(specs: Iterable[DeviceSpec]) -> str:
    """The devices as `fleetfeed device import` takes them: each gets a secret, and may follow what it will ask for.

    Raises:
        Failure: A filter has a space, which parts filters there.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("device", "may_follow"))
    for spec in specs:
        follow = spec.follow or ()
        if spaced := [name for name in follow if len(name.split()) != 1]:
            raise Failure(
                f"{spec.device} follows {spaced[0]!r}, and in a table of devices spaces part filters",
                Code.INVALID,
            )
        table.writerow((spec.device, " ".join(follow)))
    return text.getvalue()
