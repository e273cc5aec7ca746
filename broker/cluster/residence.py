"""The devices that live at a node: who is connected, and how one moves in and out.

`Residence` is what the directory asks about devices; `Host` stands between lane and service, and notes
who comes and goes.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.cluster.directory import Directory
    from broker.lane.connection import Connection
    from broker.lane.session import Session
    from broker.service import Service
    from devices.profile import Profile


class Residence:
    """What becomes of the lane's devices when others take, change or remove them.

    Args:
        node: The name of this node.
        directory: What it holds.
        service: Who serves devices.
    """

    def __init__(self, node: str, directory: Directory, service: Service) -> None:
        self.node = node
        self._directory = directory
        self._service = service
        self._connections: defaultdict[str, set[Connection]] = defaultdict(set)

    # ---- What the directory asks

    def came(self, device: str, dismissed: tuple[int, ...]) -> None:
        """A device is held from now on."""
        self._service.roster.bar(device, dismissed)

    def leaves(self, profile: Profile) -> None:
        """A device is let go: its position goes into its profile, and its row to the next one."""
        service, device = self._service, profile.device
        live = service.roster.get(device)
        if live is not None:
            service.sending.take_acks()
            service.pack(live)
            profile.failures = int(service.roster.ledger(live).failures[live.seat.row])
            if live.session_ended:
                profile.session = None
            service.roster.unseat(live)
        service.roster.forget_device(device)
        profile.kept_at = ""
        for session in list(self._sessions(device)):
            if session.holds_state:
                profile.kept_at = self.node
            else:
                service.lane.let_go(session)

    def left(self, device: str) -> None:
        """Another node has it, or nobody."""
        self.wanted(device)
        service = self._service
        live = service.roster.get(device)
        if live is not None:
            service.roster.unseat(live)
        service.roster.forget_device(device)
        for session in list(self._sessions(device)):
            service.lane.let_go(session)

    def wanted(self, device: str) -> None:
        """Another node wants it: as where a client connects a second time [MQTT-3.1.4-2]."""
        for connection in list(self._connections.get(device, ())):
            identity = connection.identity
            if identity is not None and identity.device == device:
                connection.close("taken_over")

    def changed(self, profile: Profile, reason: str) -> None:
        """A profile was changed at another node."""
        if reason:
            self._service.lane.forget(profile.device, reason)
        self._service.follow(profile)

    def removed(self, device: str) -> None:
        """The operator has removed a device at another node."""
        self._service.lane.forget(device, "device_removed", keep_will=False)

    def _sessions(self, device: str) -> Iterator[Session]:
        """The lane's sessions of a device, which comes with a proof of who it is or without."""
        for key in (("", device), (device, device)):
            session = self._service.lane.sessions.get(key)
            if session is not None:
                yield session

    # ---- Connections

    def connected(self, connection: Connection) -> None:
        """A client was let in: its profile is used as long as it is here."""
        for name in _names(connection):
            self._directory.use(name)
            self._connections[name].add(connection)

    def disconnected(self, connection: Connection) -> None:
        """A connection has ended."""
        for name in _names(connection):
            there = self._connections.get(name)
            if there is None or connection not in there:
                continue
            there.discard(connection)
            if not there:
                del self._connections[name]
            self._directory.leave(name)


class Host:
    """What the lane tells the service, with note of who comes and goes.

    Args:
        service: Who answers.
        residence: Who takes note.
    """

    def __init__(self, service: Service, residence: Residence) -> None:
        self._service = service
        self._residence = residence

    def session_present(self, connection: Connection, session: Session | None) -> bool:
        """Whether state of a persistent session is at hand, here or with its device.

        What a session holds beside its feed stays at the node where it was. A device that comes to
        another one has a new session there, and what it held ends.
        """
        service = self._service
        profile = service.roster.profile_of(connection)
        if profile is not None and service.roster.get(profile.device) is None:
            if profile.kept_at != self._residence.node and session is not None:
                service.lane.let_go(session)
                session = None
            if profile.kept_at and session is None:
                profile.session = None
        return service.session_present(connection, session)

    def discard_session(self, connection: Connection) -> None:
        """The client asks for a new session."""
        self._service.discard_session(connection)

    def connected(self, connection: Connection) -> None:
        """The client was accepted and has its CONNACK."""
        self._residence.connected(connection)
        self._service.connected(connection)

    def disconnected(self, connection: Connection) -> None:
        """The client's connection has ended."""
        self._service.disconnected(connection)
        self._residence.disconnected(connection)

    def session_over(self, session: Session) -> None:
        """A persistent session has expired."""
        self._service.session_over(session)

    def session_revoked(self, session: Session) -> None:
        """The operator has ended a session."""
        self._service.session_revoked(session)


def _names(connection: Connection) -> tuple[str, ...]:
    """Whose profiles a client is here by."""
    identity = connection.identity
    if identity is None:
        return ()
    return tuple(dict.fromkeys(name for name in (identity.user, identity.device) if name))
