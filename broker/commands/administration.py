"""How commands reach the profiles: through the running server, or in its data while none runs."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from broker.commands import shell
from broker.commands.shell import Code, Failure

if TYPE_CHECKING:
    from broker.admin.offline import Offline

# Preparing devices and people before the first start makes the data directory; looking does not.
_CREATING = frozenset({"device.add", "device.import", "user.add"})


class Administration:
    """Where commands go: to the server on a data directory, or to the directory itself.

    Once it was found without a server the directory is held until the `with` ends, so that none
    starts in between.
    """

    def __init__(self, data: Path | None, config: Path | None) -> None:
        self.settings = shell.configuration(config, data=data)
        self._offline: Offline | None = None
        self._held = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        from feedgen.store.base import StoreError  # noqa: PLC0415 - the store is slow to import

        try:
            self._held.close()
        except StoreError as fault:
            raise Failure(str(fault)) from fault

    def call(self, do: str, **args: Any) -> Any:
        """Carry out one command and return its result.

        Raises:
            Failure: it was refused, or the data directory cannot be used.
        """
        from broker.control import (  # noqa: PLC0415 - asyncio is slow to import
            SOCKET_NAME,
            ControlClient,
            ControlError,
            NoServer,
        )

        try:
            if self._offline is None:
                return ControlClient(self.settings.data / SOCKET_NAME).call(do, **args)
            return self._offline.call(do, **args)
        except NoServer:
            self._offline = self._hold(do)
            return self.call(do, **args)
        except ControlError as error:
            raise Failure(str(error)) from error

    def _hold(self, do: str) -> "Offline":
        data = self.settings.data
        if self.settings.store.url is not None:
            raise Failure(
                f"no server runs on {data}, and what is shared (store.url) is changed by running servers "
                "alone: start one, or give the data directory of one on this machine with --data",
                Code.UNREACHABLE,
            )
        if do not in _CREATING and not data.is_dir():
            raise Failure(f"there is no data directory {data}: give the server's with --data")
        from broker.admin.offline import Offline  # noqa: PLC0415 - the store and the registry
        from feedgen.store.base import StoreError  # noqa: PLC0415 - likewise

        try:
            return self._held.enter_context(Offline(self.settings))
        except StoreError as error:
            raise Failure(str(error)) from error


def call(data: Path | None, config: Path | None, do: str, **args: Any) -> Any:
    """Carry out one command and return its result.

    Raises:
        Failure: it was refused, or the data directory cannot be used.
    """
    with Administration(data, config) as administration:
        return administration.call(do, **args)


def tell(result: Any, sentence: str, *, as_json: bool) -> None:
    """Say what was done: a sentence, or the result as JSON."""
    if as_json:
        shell.print_json(result)
    else:
        typer.echo(sentence)
