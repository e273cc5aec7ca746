"""The store that nodes share, by the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from broker.config import StoreSettings
    from feedgen.store.shared import SharedStore


def shared_store(settings: StoreSettings) -> SharedStore:
    """The store behind `store.url`, not open yet.

    Raises:
        StoreError: The url is none; the message does not repeat it, as it may hold a password.
    """
    from feedgen.store.redis import RedisSettings, RedisStore  # noqa: PLC0415 - only nodes need its client

    assert settings.url is not None
    chosen = RedisSettings(
        prefix=settings.prefix,
        wait_replicas=settings.wait_replicas,
        wait_timeout=settings.wait_timeout,
        timeout=settings.timeout,
        ca_file=settings.ca,
    )
    return RedisStore(settings.url, chosen)


@runtime_checkable
class _Durable(Protocol):
    def durability(self) -> str: ...


def durability(store: SharedStore) -> str:
    """What can be lost of what was acknowledged, as a sentence; "" where there is nothing to say."""
    return store.durability() if isinstance(store, _Durable) else ""
