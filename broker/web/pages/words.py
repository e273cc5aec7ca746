"""Drops in words: a closed list of what the code counts, so that nobody has to look a reason up.

A reason that is not in it, as those are that name what a foreign packet did wrong, is told by its beginning,
and the rest as it is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Family:
    """Counts that stand together.

    Attributes:
        figure: The counter, by name.
        title: What is dropped, in a word.
        words: What its reasons mean; the reason "" is that of a counter without any.
        elsewhere: Reasons that another family has, too.
    """

    figure: str
    title: str
    words: Mapping[str, str]
    elsewhere: frozenset[str] = frozenset()

    def counts(self, numbers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Its counts of a reading by reason."""
        found = numbers.get(self.figure, {})
        return {reason: count for reason, count in found.items() if reason not in self.elsewhere}

    def of(self, reason: str) -> str:
        """What a reason means."""
        known = self.words.get(reason)
        if known is not None:
            return known
        plain = reason.replace("_", " ")
        for beginning, words in _BEGINNINGS.items():
            if reason.startswith(beginning):
                return f"{words}: {plain[len(beginning) :]}"
        return plain

    def fault(self, reason: str) -> bool:
        """Whether somebody did something wrong; if not, it happens all day."""
        return reason not in _ALL_DAY


_BEGINNINGS = {
    "connect_refused_": "client not let in",
    "feedback_": "feedback that is not learned from",
    "hello_": "hello without effect",
    "malformed_": "client broke MQTT",
    "profile_": "part of a profile that is not allowed",
    "up_": "message of a device that cannot be read",
    "decisions_": "decision not in the log",
    "http_": "request to this port",
}

_ALL_DAY = frozenset(
    {
        "asleep",
        "feedback_after_the_end",
        "feedback_closed_early",
        "feedback_correction_limited",
        "feedback_forgotten",
        "feedback_late",
        "feedback_limited",
        "feedback_repeated",
        "qos_0_away",
        "server_stopped",
        "session_expired",
        "superseded",
        "taken_over",
    }
)

FAMILIES = (
    Family(
        "fleetfeed_items_rejected_total",
        "item",
        {
            "too_large": "larger than 64 KiB",
            "too_deep": "nested too deep",
            "bad_channel": "not a channel that items may have",
            "bad_json": "begins as JSON and is none",
            "bad_msgpack": "begins as msgpack and is none",
            "duplicate_key": "has a key twice",
            "unknown_key": "has a key that no item has",
            "bad_type": "a value of another type than its key asks for",
            "bad_value": "a value out of its range",
            "missing_payload": "neither payload nor retract",
            "missing_id": "retracts without saying which",
        },
    ),
    Family(
        "fleetfeed_items_oversize_total",
        "item",
        {"": "fits no frame of a device, even in brief"},
    ),
    Family(
        "fleetfeed_overload_items_total",
        "item",
        {
            "expired": "over before the overload was",
            "superseded": "overtaken by its newer content on the way",
        },
    ),
    Family(
        "fleetfeed_overload_connects_refused_total",
        "client",
        {"": "told to come back later"},
    ),
    Family(
        "fleetfeed_errors_total",
        "failure",
        {
            "store": "of the store to commit",
            "ranking_save_failed": "of saving what was learned",
        },
        frozenset({"accept_failed"}),
    ),
    Family(
        "fleetfeed_dropped_total",
        "message",
        {
            "accept_failed": "could not be taken in",
            "amqtt_too_slow": "message for an amqtt plugin that is too slow",
            "counts_after_the_end": "count of another node, after the item was over",
            "counts_unreadable": "count of another node that cannot be read",
            "dismissal_unreadable": "dismissal of another node that cannot be read",
            "feedback_after_the_end": "feedback on an item that is over",
            "feedback_closed_early": "outcome learned before its window ended, for want of room",
            "feedback_correction_limited": "late feedback of a device beyond its rate",
            "feedback_forgotten": "impression too long ago to be corrected",
            "feedback_late": "feedback after the window of its impression",
            "feedback_limited": "outcome of a device beyond its rate, not learned from",
            "feedback_repeated": "feedback that was heard before",
            "feedback_too_old": "feedback on what happened too long ago",
            "feedback_unknown_item": "feedback on an item that was not sent there",
            "hello_bad_epoch": "hello from an epoch that cannot be",
            "hello_without_frames": "hello of a device that is gone already",
            "http_foreign": "request to this port that another site asked for",
            "http_host": "request to this port by a name that is not ours",
            "http_malformed": "request to this port that is not HTTP",
            "http_not_read": "answer of this port that nobody took",
            "http_too_large": "request to this port with too long a head",
            "http_too_many": "connection to this port beyond its limit",
            "http_wrong_token": "wrong token for this port",
            "late_bye": "bye of an earlier connection",
            "outbox_full": "message for a client whose queue is full",
            "outcome_of_forgotten_item": "outcome of an item that the model forgot",
            "poison": "item that a device failed at again and again",
            "publish_not_permitted": "publish to a topic that is not allowed",
            "qos_0_away": "message at QoS 0 for a client that is away",
            "retain_flag": "item or up message with RETAIN",
            "retained": "retained message of the outside broker",
            "retained_full": "retained message, and no room for more",
            "revoked": "message of a revoked device",
            "session_ended": "message of a session that was ended",
            "session_expired": "session that nobody came back to",
            "subscribe_not_permitted": "subscription that is not allowed",
            "tls_handshake_failed": "TLS handshake failed",
            "too_many_subscriptions": "subscription beyond a client's limit",
            "unclaimed_device": "message of a device that another worker has",
            "unknown_device": "message of a device that is not registered",
            "will_store_away": "will, while the store was away",
            "word_not_remembered": "word of a device that could not be kept",
        },
    ),
    Family(
        "fleetfeed_closed_total",
        "connection",
        {
            "asleep": "device fell asleep",
            "connect_timeout": "sent no CONNECT in time",
            "device_removed": "device was removed",
            "keep_alive": "silent for longer than its keep-alive",
            "no_connect": "began with another packet than CONNECT",
            "password_changed": "password was changed",
            "refused": "was not let in",
            "revoked": "device was revoked",
            "rights_changed": "rights were changed",
            "second_connect": "sent CONNECT twice",
            "server_stopped": "server stops",
            "stalled": "left frames unacknowledged for too long",
            "store_away": "store is away",
            "taken_over": "client came back on another connection",
            "token_expired": "token ran out",
            "too_many_connections": "no room for more connections",
            "too_many_unreleased": "too many QoS 2 messages without PUBREL",
            "write_buffer_full": "does not read what it asks for",
        },
    ),
)
"""In the order in which they matter to whoever looks."""

LEVELS = (
    "everything as it should be",
    "larger batches; changes of a device that come close together become one frame",
    "windows without diversity, nothing new is tried out",
    "items rank the same for every device",
    "items of low and normal priority wait",
    "publishers that send most are not read",
)
"""What the server does at each level of overload."""

RUNGS = ("learned", "a former version", "popularity", "newest first")
"""What ranks, best first."""
