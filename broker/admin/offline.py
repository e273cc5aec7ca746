"""The commands on profiles, on a data directory that no server uses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from broker.admin.live import commands
from broker.control import ControlError
from feedgen.store.base import DropDevice, PutDevice
from feedgen.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from broker.admin.arguments import Handler
    from broker.config import Config
    from devices.profile import Profile
    from devices.registry import Registry


class Offline:
    """Holds a data directory, as a server would, for as long as the `with` lasts.

    Attributes:
        registry: The profiles in it.

    Raises:
        StoreError: On entering: the data directory cannot be used. On leaving: not all was written.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._store = SqliteStore(config.data)
        self._runner = asyncio.Runner()
        self._commands: dict[str, Handler] = {}
        self._clean = False
        self.registry: Registry

    def __enter__(self) -> Self:
        try:
            self._runner.run(self._open())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # What the last server left open stays so: only it could say that positions are safe.
            self._runner.run(self._store.close(clean=self._clean))
        finally:
            self._runner.close()

    def call(self, do: str, **args: Any) -> Any:
        """Carries out one command.

        Raises:
            ControlError: It was refused, or needs a running server.
        """
        command = self._commands.get(do)
        if command is None:
            raise ControlError(f"{do!r} needs a running server on {self._config.data}")
        return self._runner.run(_awaited(command, args))

    async def _open(self) -> None:
        from broker.server import load_registry  # noqa: PLC0415 - it imports this package

        loaded = self._store.open()
        self._clean = loaded.clean
        try:
            self.registry, _ = load_registry(self._config, loaded.devices, clean=True)
        except BaseException:
            await self._store.close(clean=loaded.clean)
            raise
        self._commands = commands(
            self.registry, loaded.key, _StoreKeeper(self._store, self._config.data)
        )


class _StoreKeeper:
    """Changes are stored, nothing is live."""

    def __init__(self, store: SqliteStore, data: Path) -> None:
        self._store = store
        self._data = data

    async def changed(self, profile: Profile) -> None:
        await self._store.submit((PutDevice(profile.device, profile.pack()),))

    async def ended(self, profile: Profile, _reason: str) -> None:
        await self.changed(profile)

    async def removed(self, profile: Profile) -> None:
        from broker.decisions import DIRECTORY  # noqa: PLC0415 - numpy is slow to import
        from feedgen.ranking.tokens import device_token  # noqa: PLC0415 - likewise
        from feedgen.store.decision_log import erase  # noqa: PLC0415 - likewise

        try:
            erase(self._data / DIRECTORY, device_token(profile.device))
        finally:
            await self._store.submit((DropDevice(profile.device),))


async def _awaited(command: Handler, args: dict[str, Any]) -> Any:
    """A coroutine, which is what a runner takes, where a command may be any awaitable."""
    return await command(args)
