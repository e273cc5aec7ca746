"""`fleetfeed broker-files`: the registry as files that Mosquitto reads, in the places of mosquitto.conf."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.commands import shell
from broker.commands.shell import Code, Failure

if TYPE_CHECKING:
    from broker.config import Config
    from broker.outside.mosquitto_passwords import Passwords
    from broker.outside.secrets_table import Given
    from broker.outside.stored import Stored

PASSWORDS = "passwords"
ACL = "acl"
GATEWAY_PASSWORD = "gateway-password"  # noqa: S105 - the name of a file

_SHOWN = 20


def broker_files(
    *,
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Directory that Mosquitto is started in.")
    ],
    secrets: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV with the columns device and secret, as device import gave it out; - is stdin.",
        ),
    ] = None,
    gateway: Annotated[
        str, typer.Option(metavar="USER", help="The gateway's own user.")
    ] = "gateway",
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Write the passwords and access rules of an outside Mosquitto: files passwords and acl.

    The server has only hashes of secrets, so give each in plain text once, with
    --secrets: it is checked, and nothing is written if one is wrong. Lines that
    hold are kept; whoever was revoked, rotated or removed loses its line. Then
    send Mosquitto a HUP. The gateway's password is in gateway-password.
    """
    if not to.is_dir():
        raise Failure(f"there is no directory {to}: make it, for Mosquitto's user", Code.INVALID)
    settings = shell.configuration(config, data=data)
    stored = _stored(settings, gateway)
    passwords = _passwords(stored, to, secrets)
    if passwords.faults:
        _tell_faults(secrets, passwords.faults)
        raise typer.Exit(Code.INVALID)
    rules = _rules(stored, settings, gateway)
    passwords.hashes[gateway] = _of_gateway(to, gateway, settings.data)
    from broker.outside.mosquitto_passwords import render  # noqa: PLC0415 - the registry

    _write(to / PASSWORDS, render(passwords.hashes), like=to)
    _write(to / ACL, rules, like=to)
    _report(passwords, to, as_json=as_json)


def _stored(settings: "Config", gateway: str) -> "Stored":
    from broker.outside.stored import read  # noqa: PLC0415 - the store and the registry
    from devices.profile import valid_device_id  # noqa: PLC0415 - likewise
    from feedgen.store.base import StoreError  # noqa: PLC0415 - likewise

    if settings.store.url is not None:
        sentence = "broker-files reads a data directory, and not what nodes share (store.url)"
        raise Failure(sentence, Code.INVALID)
    try:
        stored = read(settings.data)
    except StoreError as error:
        raise Failure(str(error)) from error
    if gateway in stored.profiles:
        sentence = f"{gateway} is a device or user already: name another with --gateway"
        raise Failure(sentence, Code.INVALID)
    if not valid_device_id(gateway) or ":" in gateway:
        raise Failure("--gateway takes 1 to 64 of [A-Za-z0-9_.-]", Code.INVALID)
    return stored


def _passwords(stored: "Stored", to: Path, secrets: Path | None) -> "Passwords":
    """Make the password file of the one that is there and of the secrets given."""
    from broker.admin.fleet_file import BadTable  # noqa: PLC0415 - the registry
    from broker.outside.mosquitto_passwords import parse, renew  # noqa: PLC0415 - likewise

    old = parse(_text(to / PASSWORDS))
    try:
        with _given(secrets) as given:
            return renew(stored.profiles, stored.key, old, given)
    except BadTable as error:
        raise Failure(f"{secrets}: {error}", Code.INVALID) from error


def _rules(stored: "Stored", settings: "Config", gateway: str) -> str:
    from broker.outside.mosquitto_acl import Unwritable, render  # noqa: PLC0415 - the registry

    topics = settings.topics
    try:
        return render(
            stored.profiles.values(),
            gateway=gateway,
            prefix=settings.feed.prefix,
            read=topics.read or (),
            write=topics.write or (),
        )
    except Unwritable as error:
        raise Failure(f"{error}; nothing was written", Code.INVALID) from error


@contextlib.contextmanager
def _given(path: Path | None) -> "Iterator[Iterable[Given]]":
    from broker.outside.secrets_table import read  # noqa: PLC0415 - the registry

    if path is None:
        yield ()
    elif str(path) == "-":
        yield read(sys.stdin)
    else:
        try:
            file = path.open(encoding="utf-8-sig", newline="")
        except OSError as error:
            raise Failure(f"{path} cannot be read: {error.strerror}", Code.INVALID) from error
        with file:
            yield read(file)


def _text(path: Path) -> str:
    """What a file holds; nothing if it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Failure(f"{path} cannot be read: {why}") from error


def _of_gateway(to: Path, gateway: str, data: Path) -> str:
    """Return the hash of the gateway's password; one is made if there is none or its file is gone."""
    from broker.outside.mosquitto_passwords import (  # noqa: PLC0415 - the registry
        SECRET_ITERATIONS,
        hash_password,
        parse,
    )
    from devices.registry import new_secret  # noqa: PLC0415 - likewise

    before = parse(_text(to / PASSWORDS)).get(gateway)
    file = to / GATEWAY_PASSWORD
    secret = _text(file).partition("\n")[0]
    if secret and before is not None:
        return before
    if not secret:
        secret = new_secret()
        _write(file, f"{secret}\n", like=data)  # the gateway reads it, as the user of its data
    return hash_password(secret, iterations=SECRET_ITERATIONS)


def _write(path: Path, text: str, *, like: Path) -> None:
    """Put a file in the place of another, all of it or nothing; only the owner of `like` may read it."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                if os.geteuid() == 0:
                    owner = like.stat()
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error


def _tell_faults(path: Path | None, faults: list[tuple[int, str]]) -> None:
    for line, reason in faults[:_SHOWN]:
        typer.echo(f"fleetfeed: {path}:{line}: {reason}", err=True)
    more = len(faults) - _SHOWN
    rest = f"{more} more lines are wrong; " if more > 0 else ""
    typer.echo(f"fleetfeed: {rest}nothing was written", err=True)


def _report(passwords: "Passwords", to: Path, *, as_json: bool) -> None:
    missing = passwords.missing
    if as_json:
        result = {
            "lines": len(passwords.hashes),
            "given": passwords.given,
            "left_out": passwords.left_out,
            "missing": missing,
        }
        typer.echo(json.dumps(result))
        return
    typer.echo(f"{len(passwords.hashes)} users in {to / PASSWORDS}, their rules in {to / ACL}")
    if passwords.left_out:
        typer.echo(
            f"{passwords.left_out} secrets are of nobody here, or of revoked devices", err=True
        )
    if missing:
        names = ", ".join(missing[:_SHOWN]) + (", …" if missing[_SHOWN:] else "")
        typer.echo(
            f"{len(missing)} cannot log in, as no secret of theirs was given yet: {names}", err=True
        )
