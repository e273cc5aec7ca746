"""Questions that only a running server can answer."""

from pathlib import Path
from typing import Any

from broker.commands import shell
from broker.commands.shell import Code, Failure


def ask(data: Path | None, config: Path | None, do: str, **args: Any) -> Any:
    """Return what the server on a data directory answers.

    Raises:
        Failure: none runs there, or it refused.
    """
    from broker.control import (  # noqa: PLC0415 - asyncio is slow to import
        SOCKET_NAME,
        ControlClient,
        ControlError,
        NoServer,
    )

    directory = shell.configuration(config, data=data).data
    try:
        return ControlClient(directory / SOCKET_NAME).call(do, **args)
    except NoServer as error:
        raise Failure(
            f"no server runs on the data directory {directory}: start it, or give another with --data",
            Code.UNREACHABLE,
        ) from error
    except ControlError as error:
        raise Failure(str(error)) from error
