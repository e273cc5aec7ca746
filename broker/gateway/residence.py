"""What becomes of a worker's devices when others take, change or remove them: the directory's `Resident`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.gateway.gateway_service import GatewayService
    from broker.gateway.presence import Presence
    from devices.profile import Profile


class GatewayResidence:
    """Moves devices in and out.

    Args:
        service: Who serves them.
        presence: Who of them is there.
    """

    def __init__(self, service: GatewayService, presence: Presence) -> None:
        self._service = service
        self._presence = presence

    def came(self, device: str, dismissed: tuple[int, ...]) -> None:
        """A device is held from now on."""
        self._service.roster.bar(device, dismissed)

    def leaves(self, profile: Profile) -> None:
        """A device is let go: its position goes into its profile."""
        live = self._service.roster.get(profile.device)
        if live is not None:
            self._service.sending.take_acks()
            self._service.pack(live)
        self._clear(profile.device)

    def left(self, device: str) -> None:
        """Another worker has it, or nobody: nothing of it is kept."""
        self._presence.release(device)
        self._clear(device)

    def wanted(self, device: str) -> None:
        """Another worker wants it, and goes on where we leave off."""
        self._presence.release(device)

    def changed(self, profile: Profile, reason: str) -> None:
        """A profile was changed elsewhere."""
        if reason:
            self._presence.forget(profile.device, reason)
        self._service.follow(profile)

    def removed(self, device: str) -> None:
        """The operator has removed a device elsewhere."""
        self._presence.forget(device, "device_removed")

    def _clear(self, device: str) -> None:
        live = self._service.roster.get(device)
        if live is not None:
            self._service.roster.unseat(live)
        self._service.roster.forget_device(device)
