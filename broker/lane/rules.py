"""Who may connect, and what a client may do (PROTOCOL.md, topics).

Pure decisions on plain values: the lane asks, the rules answer.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from devices.packets import Connect
from devices.profile import valid_device_id
from devices.registry import Registry, check_secret

ACCEPTED = 0
IDENTIFIER_REJECTED = 2
BAD_CREDENTIALS = 4
NOT_AUTHORIZED = 5


class Topic(enum.Enum):
    """What a topic is to the feed."""

    ITEM = enum.auto()
    """An item on a channel."""
    UP = enum.auto()
    """An up message of the client itself."""
    FORBIDDEN = enum.auto()
    """A topic of the feed, or a `$` topic, that no client may publish to."""
    FOREIGN = enum.auto()
    """A topic that has nothing to do with the feed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is after CONNECT.

    Attributes:
        client_id: Its MQTT client id.
        device: The device id that it may use `f/` and `u/` as, or None.
        may_publish: Whether it may publish items.
    """

    client_id: str
    device: str | None
    may_publish: bool


class Rules:
    """The access rules of one server.

    Args:
        registry: Devices and their credentials.
        key: The server's key of the stored secrets.
        open_mode: Whether unknown clients are welcome.
        prefix: What stands before all topics of the feed.
    """

    def __init__(self, registry: Registry, *, key: bytes, open_mode: bool, prefix: str) -> None:
        self._registry = registry
        self._key = key
        self.open_mode = open_mode
        self.items = f"{prefix}items/"
        self.frames = f"{prefix}f/"
        self.ups = f"{prefix}u/"

    def identify(self, connect: Connect) -> Identity | int:
        """Who this client is, or the CONNACK code that refuses it.

        A name that has a secret needs it always. Without registration being open, every client needs
        one. The client id of a device equals its user name wherever it has credentials.
        """
        name = connect.username if connect.username is not None else connect.client_id
        profile = self._registry.get(name)
        authenticated = False
        if profile is not None and profile.secret_hash is not None:
            if connect.username is None or connect.password is None:
                return NOT_AUTHORIZED
            if not check_secret(connect.password, profile, self._key):
                return BAD_CREDENTIALS
            authenticated = True
        claimed = self._registry.get(connect.client_id)
        if claimed is not None and claimed.secret_hash is not None and claimed is not profile:
            return NOT_AUTHORIZED  # the client id of a device that has credentials of its own
        if not (authenticated or self.open_mode):
            return NOT_AUTHORIZED
        same = connect.username is None or connect.username == connect.client_id
        device = connect.client_id if same and valid_device_id(connect.client_id) else None
        may_publish = (profile.publish if profile and authenticated else False) or self.open_mode
        return Identity(connect.client_id, device, may_publish)

    def topic(self, identity: Identity, topic: str) -> Topic:
        """What publishing to this topic means for this client."""
        if topic.startswith(self.items):
            return Topic.ITEM if identity.may_publish else Topic.FORBIDDEN
        if topic.startswith(self.ups):
            own = identity.device is not None and topic == self.ups + identity.device
            return Topic.UP if own else Topic.FORBIDDEN
        if topic.startswith((self.frames, "$")):
            return Topic.FORBIDDEN
        return Topic.FOREIGN

    def is_own_feed(self, identity: Identity, topic_filter: str) -> bool:
        """Whether a subscription is to the client's own frames."""
        return identity.device is not None and topic_filter == self.frames + identity.device

    def is_feed_filter(self, topic_filter: str) -> bool:
        """Whether a filter lies within the topics of the feed, which no wildcard may reach into."""
        return topic_filter.startswith((self.frames, self.ups, self.items)) or topic_filter in {
            self.frames[:-1],
            self.ups[:-1],
            self.items[:-1],
        }
