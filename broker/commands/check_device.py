"""`fleetfeed check-device`."""

from pathlib import Path
from typing import Annotated

import typer

from broker.commands import shell
from broker.commands.shell import Code, Failure


def check_device(
    *,
    listen: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Where to wait for a device that you point here."),
    ] = "127.0.0.1:1883",
    command: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Instead: start and kill this client by ourselves. "
            "{host}, {port}, {device}, {state} (a file of its own) and {keep_alive} are filled in.",
        ),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Speak TLS, from 1.2 on, with this certificate (PEM); devices have to trust it.",
            show_default="plain text",
        ),
    ] = None,
    key: shell.Key = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="CASE", help="This case alone; repeatable.", show_default="all"),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="CASE", help="Not this case; repeatable.", show_default="none"),
    ] = None,
    list_cases: Annotated[
        bool, typer.Option("--list", help="Only say which cases there are.")
    ] = False,
    fast: Annotated[
        bool, typer.Option("--fast", help="Wait and look for shorter times; half a minute in all.")
    ] = False,
    outside: Annotated[
        bool, typer.Option("--outside", help="The rules beside an outside broker: acks, bye.")
    ] = False,
    prefix: shell.Prefix = "",
    window: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-",
            help="Also compare windows: lines of JSON that the client appends to FILE, or prints (-).",
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            min=1, max=32, help="With --command: clients at once, each with its own id and state."
        ),
    ] = 6,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write JUnit XML for your CI.")
    ] = None,
    show_hex: Annotated[
        bool, typer.Option("--hex", help="Show the bytes of packets, too.")
    ] = False,
    as_json: shell.AsJson = False,
) -> None:
    """Play server and network to a real device or client, and judge what it does, case by case.

    Either waits for a device that you point at --listen, and says when to cut its power; or starts and kills a client
    by itself (--command), several at once. What failed is shown with its packets. The exit code is 1 if
    a case failed. With --cert the port speaks TLS alone, and any user name and
    password are let in.
    """
    from simulator.device_check.cases import CASES, chosen  # noqa: PLC0415 - not for --help

    try:
        cases = chosen(only or (), skip or (), outside=outside)
    except KeyError as error:
        raise Failure(_no_case(error.args[0], [case.id for case in CASES]), Code.INVALID) from None
    if list_cases:
        from simulator.device_check.view import listing  # noqa: PLC0415 - likewise

        shell.console().print(listing(CASES))
        return
    if not cases:
        raise Failure("--only and --skip leave no case to run", Code.INVALID)
    from broker.commands.certificates import server_context  # noqa: PLC0415 - likewise
    from broker.commands.check_device_run import Wanted, run  # noqa: PLC0415 - likewise

    if key and not cert:
        raise Failure("--key needs --cert: the certificate that it is the key of", Code.INVALID)
    host, port = _address(listen)
    wanted = Wanted(
        cases=cases,
        host=host,
        port=port,
        command=command,
        window=window,
        jobs=jobs,
        fast=fast,
        outside=outside,
        prefix=shell.topic_prefix(prefix),
        tls=None if cert is None else server_context(cert, key),
    )
    raise typer.Exit(run(wanted, junit=junit, show_hex=show_hex, as_json=as_json))


def _no_case(name: str, known: list[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only here

    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; --list shows all"
    return f"there is no case {name!r}{hint}"


def _address(listen: str) -> tuple[str, int]:
    """Host and port of --listen.

    Raises:
        Failure: it is not HOST:PORT.
    """
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise Failure(f"--listen {listen!r} is not HOST:PORT, like 127.0.0.1:1883", Code.INVALID)
    return host.strip("[]"), int(port)
