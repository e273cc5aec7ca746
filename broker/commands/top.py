"""`fleetfeed top`: a server's figures on the terminal, as any MQTT client hears them."""

from typing import Annotated

import typer

from broker.commands import shell


def top(
    *,
    host: shell.Host = "127.0.0.1",
    port: shell.Port = None,
    tls: shell.Tls = False,
    ca: shell.Ca = None,
    cert: shell.Cert = None,
    key: shell.Key = None,
    username: shell.Username = None,
    password: shell.Password = None,
    prefix: shell.Prefix = "",
    gateway: Annotated[
        str | None,
        typer.Option(
            metavar="INSTANCE",
            help="Of several gateways beside one broker, this one.",
            show_default="the first by name",
        ),
    ] = None,
    interval: Annotated[
        float,
        typer.Option(min=0.1, max=3600, help="Seconds between two pictures or lines, at most."),
    ] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="One picture, or one line, and end.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON each interval instead.")
    ] = False,
) -> None:
    """Watch a server's figures, live, until Ctrl-C.

    It reads $SYS over MQTT: no access to the server's machine is needed, but
    in a closed server the rights of an operator (fleetfeed user add --operator).
    Figures come each topics.sys_interval seconds, however often they are drawn.
    Of any broker it shows what that tells, and beside one a gateway's figures.
    """
    from broker.commands.reaching import server  # noqa: PLC0415 - only where it is reached
    from broker.commands.top_live import Wanted  # noqa: PLC0415 - paho and rich
    from broker.commands.top_live import top as run  # noqa: PLC0415 - likewise

    at = server(
        *(host, port), username=username, password=password, tls=tls, ca=ca, cert=cert, key=key
    )
    wanted = Wanted(shell.topic_prefix(prefix), gateway, interval)
    run(at, wanted, once=once, as_json=as_json)
