"""The normative statements of MQTT 3.1.1 (its appendix B) in our words, and what we make of each.

`table.py` makes `docs/conformance.md` of this and of the names of the tests. The wording of the standard
itself decides; this one is only there so that a reader need not look up each.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Verdict(enum.Enum):
    """How one part of the server stands to a statement."""

    MEETS = "meets"
    DIFFERS = "differs"
    """On purpose; the note says why, and a test pins what happens instead."""
    NOTHING = "\u2013"
    """There is nothing here that the statement could be about."""


MEETS, DIFFERS, NOTHING = Verdict.MEETS, Verdict.DIFFERS, Verdict.NOTHING


@dataclass(frozen=True)
class Statement:
    """One normative statement.

    Attributes:
        number: As in the standard, without `MQTT-`.
        says: What it demands.
        feed: Of `items/`, `f/` and `u/`.
        others: Of all other topics.
        note: What a reader must know besides.
        client: It binds clients alone, and a server cannot see whether they keep it.
    """

    number: str
    says: str
    feed: Verdict = MEETS
    others: Verdict = MEETS
    note: str = ""
    client: bool = False

    @property
    def section(self) -> str:
        return self.number.partition("-")[0]


def _client(number: str, says: str, note: str = "") -> Statement:
    return Statement(number, says, NOTHING, NOTHING, note, client=True)


NO_RETAIN = (
    "Nothing is retained on the feed's topics: an item is kept for its `ttl`, RETAIN or not."
)
NO_WEBSOCKET = "The port speaks MQTT over TCP or TLS. WebSocket is not offered."

STATEMENTS = (
    # 1.5.3 Strings
    Statement("1.5.3-1", "A string that is no UTF-8, or holds a surrogate, closes the connection."),
    Statement("1.5.3-2", "A string with U+0000 closes the connection."),
    Statement("1.5.3-3", "U+FEFF is a character like others, wherever it stands."),
    # 2.2.2 Flags
    Statement("2.2.2-1", "Reserved flags of a packet have the value that the standard gives."),
    Statement("2.2.2-2", "A packet with other flags closes the connection."),
    # 2.3.1 Packet identifiers
    Statement("2.3.1-1", "SUBSCRIBE, UNSUBSCRIBE and PUBLISH above QoS 0 have a packet id, not 0."),
    _client("2.3.1-2", "A client gives each of these packets an id that is not in use."),
    _client("2.3.1-3", "A client that sends a packet again keeps its id until it is answered."),
    Statement("2.3.1-4", "The same holds for what the server publishes above QoS 0."),
    Statement("2.3.1-5", "PUBLISH at QoS 0 has no packet id."),
    Statement("2.3.1-6", "PUBACK, PUBREC and PUBREL carry the id of their PUBLISH."),
    Statement("2.3.1-7", "SUBACK and UNSUBACK carry the id of their request."),
    # 3.1 CONNECT
    Statement("3.1.0-1", "The first packet of a client is CONNECT.", note="Others are closed."),
    Statement("3.1.0-2", "A second CONNECT closes the connection."),
    Statement("3.1.2-1", "A server need not serve another protocol name, and not by these rules."),
    Statement("3.1.2-2", "Another protocol level is answered with code 1, and closed."),
    Statement("3.1.2-3", "The reserved flag of CONNECT is 0, else the connection is closed."),
    Statement(
        "3.1.2-4",
        "Without clean session, the session of this client is resumed, or made, and kept.",
    ),
    Statement(
        "3.1.2-5",
        "Messages of QoS 1 and 2 for a kept session wait while its client is away.",
        DIFFERS,
        DIFFERS,
        "Of the feed, one net difference waits instead of messages. Of other topics, at most "
        "`topics.max_queued` messages wait; further ones are dropped and counted.",
    ),
    Statement("3.1.2-6", "A clean session begins with nothing, and nothing of it is used again."),
    Statement(
        "3.1.2-7",
        "Retained messages outlive the session of who sent them.",
        NOTHING,
        note=NO_RETAIN,
    ),
    Statement(
        "3.1.2-8",
        "A will is published when its connection ends in any way but DISCONNECT.",
        DIFFERS,
        DIFFERS,
        "Not when the server itself stops in order: the client did not fail. A will that its client "
        "may not publish refuses the connection.",
    ),
    Statement("3.1.2-9", "With the will flag there is a will, with its QoS and RETAIN."),
    Statement("3.1.2-10", "A will is forgotten once published, or at DISCONNECT."),
    Statement("3.1.2-11", "Without the will flag there is no will, no will QoS, no will RETAIN."),
    Statement("3.1.2-12", "Without a will nothing is published when the connection ends."),
    Statement("3.1.2-13", "Without the will flag the will QoS is 0."),
    Statement("3.1.2-14", "The will QoS is never 3."),
    Statement("3.1.2-15", "Without the will flag will RETAIN is 0."),
    Statement("3.1.2-16", "A will without RETAIN is not retained."),
    Statement("3.1.2-17", "A will with RETAIN is retained.", DIFFERS, note=NO_RETAIN),
    Statement("3.1.2-18", "Without its flag there is no user name."),
    Statement("3.1.2-19", "With its flag there is a user name."),
    Statement("3.1.2-20", "Without its flag there is no password."),
    Statement("3.1.2-21", "With its flag there is a password."),
    Statement("3.1.2-22", "Without a user name there is no password."),
    _client("3.1.2-23", "A client that has nothing else to say pings within its keep-alive time."),
    Statement("3.1.2-24", "A client silent for one and a half keep-alive times is closed."),
    Statement("3.1.3-1", "Client id, will topic, will, user name, password stand in this order."),
    Statement(
        "3.1.3-2",
        "The client id says whose session it is.",
        DIFFERS,
        DIFFERS,
        "A session belongs to the authenticated user and the client id together, so that no user "
        "gets another's by its client id. Where nobody authenticates this is the client id alone.",
    ),
    Statement("3.1.3-3", "CONNECT has a client id, before all else in its payload."),
    Statement("3.1.3-4", "A client id is UTF-8."),
    Statement("3.1.3-5", "Client ids of 1 to 23 letters and digits are allowed."),
    Statement("3.1.3-6", "A client with an empty client id is served under one made for it."),
    _client("3.1.3-7", "A client with an empty client id asks for a clean session."),
    Statement("3.1.3-8", "One that does not is answered with code 2, and closed."),
    Statement(
        "3.1.3-9", "A client id that the server refuses is answered with code 2, and closed."
    ),
    Statement("3.1.3-10", "A will topic is UTF-8."),
    Statement("3.1.3-11", "A user name is UTF-8."),
    Statement("3.1.4-1", "A CONNECT that breaks a rule is closed without an answer."),
    Statement(
        "3.1.4-2",
        "A client that connects again ends its connection of before.",
        DIFFERS,
        DIFFERS,
        "As 3.1.3-2: the same client id of another user is another client.",
    ),
    Statement("3.1.4-3", "Clean session is carried out as 3.1.2 says, also then."),
    Statement("3.1.4-4", "A CONNECT in order is answered with code 0."),
    Statement("3.1.4-5", "What follows a refused CONNECT is not processed."),
    # 3.2 CONNACK
    Statement("3.2.0-1", "The first packet of the server is CONNACK."),
    Statement("3.2.2-1", "A clean session is never present."),
    Statement("3.2.2-2", "A stored session is present."),
    Statement("3.2.2-3", "Where there is none, none is present."),
    Statement("3.2.2-4", "A refusal never says session present."),
    Statement("3.2.2-5", "A refused connection is closed."),
    Statement("3.2.2-6", "Where no code fits, the connection is closed without one."),
    # 3.3 PUBLISH
    Statement("3.3.1-1", "What is sent again has DUP."),
    Statement("3.3.1-2", "At QoS 0 there is no DUP."),
    Statement("3.3.1-3", "DUP of a publisher is not passed on."),
    Statement("3.3.1-4", "QoS 3 closes the connection."),
    Statement(
        "3.3.1-5",
        "A message with RETAIN is kept, with its QoS, for later subscribers.",
        DIFFERS,
        DIFFERS,
        NO_RETAIN + " Of other topics at most `topics.max_retained` messages are kept, and "
        "`topics.max_retained_bytes`; what finds no room is passed on and counted.",
    ),
    Statement(
        "3.3.1-6",
        "A new subscription is sent the last retained message of each topic that it matches.",
        DIFFERS,
        note="A device that subscribes is sent its window.",
    ),
    Statement(
        "3.3.1-7",
        "A retained message of QoS 0 ends the one before, and may be kept itself.",
        NOTHING,
        note=NO_RETAIN,
    ),
    Statement(
        "3.3.1-8",
        "What a new subscription brings has RETAIN.",
        DIFFERS,
        note="Frames never have RETAIN: none of them is the last word on a topic.",
    ),
    Statement("3.3.1-9", "What an established subscription brings has no RETAIN."),
    Statement(
        "3.3.1-10",
        "An empty message with RETAIN is passed on, and ends the retained one.",
        DIFFERS,
        note="An empty item is acknowledged, counted, and changes nothing. `retract` ends an item.",
    ),
    Statement(
        "3.3.1-11", "An empty message is never kept as a retained one.", NOTHING, note=NO_RETAIN
    ),
    Statement(
        "3.3.1-12",
        "A message without RETAIN is not kept, and leaves the retained one alone.",
        DIFFERS,
        note=NO_RETAIN,
    ),
    Statement("3.3.2-1", "PUBLISH begins with a topic name, in UTF-8."),
    Statement("3.3.2-2", "A topic name has no wildcards."),
    Statement("3.3.2-3", "A message comes on a topic that the filter matches."),
    Statement("3.3.4-1", "A message is answered as its QoS demands: not, PUBACK, or PUBREC."),
    Statement(
        "3.3.5-1",
        "Where several subscriptions match, a message comes at the highest of their QoS.",
        note="Once. On the feed a device has one subscription, and no other can overlap it.",
    ),
    Statement(
        "3.3.5-2",
        "A message that is not permitted is acknowledged as others are, or closes the connection.",
        note="Acknowledged, dropped and counted.",
    ),
    # 3.6 PUBREL
    Statement("3.6.1-1", "PUBREL with other flags closes the connection."),
    # 3.8 SUBSCRIBE
    Statement("3.8.1-1", "SUBSCRIBE with other flags closes the connection."),
    Statement("3.8.3-1", "A filter is UTF-8."),
    Statement(
        "3.8.3-2",
        "A server that serves no wildcards refuses them.",
        note="Wildcards are served but for those over the feed's topics, which are refused.",
    ),
    Statement("3.8.3-3", "SUBSCRIBE has at least one filter, else the connection is closed."),
    Statement("3.8.3-4", "Reserved bits beside the QoS, or QoS 3, close the connection."),
    Statement("3.8.4-1", "SUBSCRIBE is answered with SUBACK."),
    Statement("3.8.4-2", "SUBACK has the packet id of its SUBSCRIBE."),
    Statement(
        "3.8.4-3",
        "The same filter again replaces the subscription, and brings what is retained again.",
        DIFFERS,
        note="Nothing is retained. SUBSCRIBE alone brings the window again; after a hello on the "
        "same connection it brings nothing, as the server knows what the device holds.",
    ),
    Statement(
        "3.8.4-4",
        "Several filters in one packet are as good as one packet for each.",
        note="What is retained comes once for a filter that one packet names several times, lest 1 kB ask for "
        "millions of messages. Filters behind the 512th are refused.",
    ),
    Statement(
        "3.8.4-5",
        "SUBACK has a code for each filter: the QoS that is granted, or failure.",
        note="Failure: what is not permitted, and more than `topics.max_subscriptions` filters.",
    ),
    Statement(
        "3.8.4-6",
        "A message comes at the lower of its own QoS and the one granted.",
        note="A frame's own QoS is given by `feed.qos_by_priority` and by the device.",
    ),
    # 3.9 SUBACK
    Statement("3.9.3-1", "Its codes stand in the order of the filters."),
    Statement("3.9.3-2", "There are the codes 0, 1, 2 and 0x80, and no others."),
    # 3.10 UNSUBSCRIBE
    Statement("3.10.1-1", "UNSUBSCRIBE with other flags closes the connection."),
    Statement("3.10.3-1", "Its filters are UTF-8, one right after the other."),
    Statement("3.10.3-2", "It has at least one filter, else the connection is closed."),
    Statement("3.10.4-1", "A subscription ends whose filter is the same, character by character."),
    Statement("3.10.4-2", "From then on nothing new is added for the client."),
    Statement(
        "3.10.4-3",
        "What it was begun to be sent at QoS 1 or 2 is completed.",
        DIFFERS,
        note="As long as the connection lasts. A frame still open then is not sent again to a "
        "device without a feed: subscribing brings a whole window.",
    ),
    Statement("3.10.4-4", "UNSUBSCRIBE is answered with UNSUBACK, which has its packet id."),
    Statement("3.10.4-5", "Also where no subscription has ended."),
    Statement("3.10.4-6", "Several filters are as good as several packets, but for one UNSUBACK."),
    # 3.12 PINGREQ, 3.14 DISCONNECT
    Statement("3.12.4-1", "PINGREQ is answered with PINGRESP."),
    Statement("3.14.1-1", "DISCONNECT with flags closes the connection.", note="Its will counts."),
    Statement("3.14.4-1", "A client closes after DISCONNECT.", note="If it does not, we do."),
    Statement(
        "3.14.4-2", "It sends nothing after DISCONNECT.", note="If it does, nobody reads it."
    ),
    Statement("3.14.4-3", "At DISCONNECT the will is discarded."),
    # 4.1 Sessions
    Statement(
        "4.1.0-1",
        "Session state is stored as long as the session lasts.",
        others=DIFFERS,
        note="Sessions and retained messages of other topics are in memory and end with the server; "
        "CONNACK says so. Positions of the feed outlive a stop in order; after a crash a device gets "
        "a snapshot. A kept session ends after `limits.session_expiry` without its client.",
    ),
    Statement("4.1.0-2", "A session lasts at least as long as its connection."),
    # 4.3 Quality of service
    Statement("4.3.1-1", "QoS 0 is sent with QoS 0 and without DUP."),
    Statement("4.3.2-1", "QoS 1: a packet id that is free, no DUP, open until PUBACK."),
    Statement(
        "4.3.2-2",
        "QoS 1: PUBACK when taken over; after it the same id is a new message.",
        note="PUBACK of an item comes when it is on disk. A new message that repeats an item "
        "changes nothing.",
    ),
    Statement("4.3.3-1", "QoS 2, sender: PUBLISH until PUBREC, then PUBREL until PUBCOMP."),
    Statement("4.3.3-2", "QoS 2, receiver: PUBREC for each PUBLISH, one delivery, then PUBCOMP."),
    # 4.4 to 4.6
    Statement(
        "4.4.0-1",
        "A client that comes back is sent what is open, PUBLISH and PUBREL, with the same ids.",
        note="Nothing is sent again on one and the same connection.",
    ),
    Statement("4.5.0-1", "A message that is taken over goes to every session that it matches."),
    _client("4.5.0-2", "A client acknowledges what it receives, whether it uses it or not."),
    Statement("4.6.0-1", "What is sent again is sent in the order of the first time."),
    Statement("4.6.0-2", "PUBACKs come in the order of their messages.", note="Ours as well."),
    Statement("4.6.0-3", "PUBRECs come in the order of their messages.", note="Ours as well."),
    Statement("4.6.0-4", "PUBRELs come in the order of their PUBRECs."),
    Statement("4.6.0-5", "Every topic keeps its order, unless set otherwise."),
    Statement(
        "4.6.0-6",
        "Messages of one client on one topic arrive in their order.",
        DIFFERS,
        note="Frames arrive in theirs. What they show is ordered by worth, not by arrival.",
    ),
    # 4.7 Topics
    Statement("4.7.1-1", "Wildcards stand in filters alone."),
    Statement("4.7.1-2", "`#` is the last level of a filter, and a whole one."),
    Statement("4.7.1-3", "`+` is a whole level of a filter, wherever it stands."),
    Statement(
        "4.7.2-1",
        "A filter that begins with a wildcard matches no topic that begins with `$`.",
        NOTHING,
        note="Clients cannot publish on such topics; those of `$SYS` are the server's.",
    ),
    Statement("4.7.3-1", "Topic names and filters have at least one character."),
    Statement("4.7.3-2", "They have no U+0000."),
    Statement(
        "4.7.3-3",
        "They have at most 65 535 bytes.",
        note="Limits of ours: topics have 128 levels, filters 32 and 1,024 bytes. More are refused, and "
        "more than 200 levels close the connection. An item needs a channel that fits its device's frames.",
    ),
    Statement("4.7.3-4", "They are compared as they are, without any normalization."),
    # 4.8 Errors
    Statement("4.8.0-1", "A protocol violation closes the connection that it came on."),
    Statement(
        "4.8.0-2",
        "So does an error that only passes, met while a packet is processed.",
        note="Where a bound is reached that waiting does not help. A full disk is waited for: "
        "nothing is acknowledged meanwhile.",
    ),
    # 6 WebSocket
    Statement(
        "6.0.0-1", "Over WebSocket, packets come in binary frames.", NOTHING, NOTHING, NO_WEBSOCKET
    ),
    Statement(
        "6.0.0-2", "A frame may hold several packets, or a piece.", NOTHING, NOTHING, NO_WEBSOCKET
    ),
    _client("6.0.0-3", "A client offers the subprotocol `mqtt`."),
    Statement("6.0.0-4", "A server selects it.", NOTHING, NOTHING, NO_WEBSOCKET),
    # 7 Conformance
    Statement(
        "7.0.0-1",
        "A server that connects to others conforms as a client too.",
        NOTHING,
        NOTHING,
        "It connects to none.",
    ),
    Statement("7.0.0-2", "No extension is needed to speak with another implementation."),
    Statement("7.1.1-1", "A server works on a transport that keeps order and loses nothing."),
    _client("7.1.2-1", "So does a client."),
)

CHAPTERS = {
    "1": "1 Strings",
    "2": "2 Packet format",
    "3": "3 Control packets",
    "4": "4 Operational behaviour",
    "6": "6 WebSocket",
    "7": "7 Conformance",
}
