"""`fleetfeed user …`: people and services, what they may do, and how they prove who they are."""

import sys
from typing import Annotated, Any

import typer

from broker.commands import shell
from broker.commands.administration import call, tell
from broker.commands.shell import Code, Failure

MIN_PASSWORD = 10
"""Characters of the shortest password that is taken."""

app = typer.Typer(
    no_args_is_help=True,
    help="Add, show and change people and services: in the running server, or in its data.",
)

Name = Annotated[str, typer.Argument(help="The user's name.")]
Publish = Annotated[
    list[str] | None,
    typer.Option(metavar="FILTER", help="Channels to publish items on; repeatable."),
]
Read = Annotated[
    list[str] | None,
    typer.Option(metavar="FILTER", help="Other topics to subscribe to; repeatable."),
]
Write = Annotated[
    list[str] | None,
    typer.Option(metavar="FILTER", help="Other topics to publish to; repeatable."),
]
Operator = Annotated[bool, typer.Option("--operator", help="It may read $SYS.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from stdin, one line.")
]
Secret = Annotated[
    bool, typer.Option("--secret", help="Make a secret instead, for a service; shown only now.")
]


@app.command()
def add(
    name: Name,
    *,
    publish: Publish = None,
    read: Read = None,
    write: Write = None,
    operator: Operator = False,
    password_stdin: FromStdin = False,
    secret: Secret = False,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Add a person, who chooses a password, or a service, which gets a secret."""
    result = call(
        *(data, config, "user.add"),
        user=name,
        password=_password(name, stdin=password_stdin, secret=secret),
        **_rights(publish, read, write, operator=operator),
    )
    made = f", secret {result['secret']}" if secret else ""
    tell(result, f"added {name}{made}", as_json=as_json)


@app.command()
def password(
    name: Name,
    *,
    password_stdin: FromStdin = False,
    secret: Secret = False,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Change a password; whoever is connected with the old one is disconnected."""
    result = call(
        *(data, config, "user.password"),
        user=name,
        password=_password(name, stdin=password_stdin, secret=secret),
    )
    made = f"{name}, new secret {result['secret']}" if secret else f"changed {name}'s password"
    tell(result, made, as_json=as_json)


@app.command()
def rights(
    name: Name,
    *,
    publish: Publish = None,
    read: Read = None,
    write: Write = None,
    operator: Operator = False,
    may_follow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILTER",
            help="Channels that a device may choose to follow; repeatable.",
            show_default="as before",
        ),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Take all rights away.")] = False,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Give a user or device exactly these rights, in place of those it has.

    It is disconnected, and has the new rights when it comes back.
    """
    given = bool(publish or read or write or operator or may_follow)
    if given == none:
        raise Failure("give all the rights that it is to have, or --none", Code.INVALID)
    wanted = _rights(publish, read, write, operator=operator)
    result = call(
        *(data, config, "user.rights"), user=name, may_follow=may_follow or None, **wanted
    )
    tell(result, f"{name}: {_described(result['rights'])}", as_json=as_json)


@app.command("list")
def list_(
    *,
    after: Annotated[str, typer.Option(help="Only names that sort after this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """List who has rights or a password, devices among them."""
    result = call(data, config, "user.list", after=after, limit=limit)
    if as_json:
        shell.print_json(result)
        return
    for user in result["users"]:
        proofs = "revoked" if user["revoked"] else " and ".join(user["credentials"])
        typer.echo(f"{user['user']} ({proofs or 'no credentials'}): {_described(user['rights'])}")
    if result["more"]:
        typer.echo("There are more: use --after with the last of these, or --limit.", err=True)


@app.command()
def remove(
    name: Name,
    *,
    data: shell.DataDir = None,
    config: shell.ConfigFile = None,
    as_json: shell.AsJson = False,
) -> None:
    """Remove a user, its credentials and everything stored of it."""
    result = call(data, config, "user.remove", user=name)
    tell(result, f"removed {name}", as_json=as_json)


def _rights(
    publish: list[str] | None, read: list[str] | None, write: list[str] | None, *, operator: bool
) -> dict[str, Any]:
    return {
        "publish": publish or [],
        "read": read or [],
        "write": write or [],
        "operator": operator,
    }


def _password(name: str, *, stdin: bool, secret: bool) -> str | None:
    """Return the hash of the password that was typed or piped in, or None for a secret.

    It is hashed here, in the command's own process: this is slow by design, and nobody else need
    ever see the password.
    """
    if secret and stdin:
        raise Failure("--secret makes one: it does not go with --password-stdin", Code.INVALID)
    if secret:
        return None
    chosen = _piped() if stdin else _typed(name)
    if len(chosen) < MIN_PASSWORD:
        raise Failure(f"a password has at least {MIN_PASSWORD} characters", Code.INVALID)
    from broker.access.passwords import hash_password  # noqa: PLC0415 - argon2 is slow to import

    return hash_password(chosen)


def _piped() -> str:
    try:
        return sys.stdin.buffer.readline().decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise Failure("the password on stdin is no UTF-8 text", Code.INVALID) from error


def _typed(name: str) -> str:
    if not sys.stdin.isatty():
        raise Failure(
            "there is no terminal to ask for a password: use --password-stdin or --secret",
            Code.INVALID,
        )
    prompted: str = typer.prompt(
        f"Password for {name}", hide_input=True, confirmation_prompt=True, err=True
    )
    return prompted


def _described(rights: dict[str, Any]) -> str:
    said = [
        name.replace("_", " ") if value is True else f"{name.replace('_', ' ')} {' '.join(value)}"
        for name, value in rights.items()
    ]
    return ", ".join(said) or "no rights"
