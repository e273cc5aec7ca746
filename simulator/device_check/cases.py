"""All cases, in the order in which they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.device_check import frame_cases as frame
from simulator.device_check import mqtt_cases as mqtt
from simulator.device_check import outside_cases as outside
from simulator.device_check import reconnect_cases as reconnect
from simulator.device_check.case import Case, Where

if TYPE_CHECKING:
    from collections.abc import Collection

OUTSIDE, EMBEDDED = Where.OUTSIDE, Where.EMBEDDED

CASES = (
    Case("connect", "CONNECT names the device", "Topics; MQTT 3.1", mqtt.connect),
    Case("subscribe", "subscribes to f/<itself> alone", "Topics", mqtt.subscribes_to_itself),
    Case("hello", "the first hello is well formed", "Up messages", mqtt.hello),
    Case("puback-qos1", "PUBACK for each frame of QoS 1", "MQTT 4.3.2", mqtt.puback),
    Case("qos2", "QoS 2 where it said so, and whole", "Delivery; MQTT 4.3.3", mqtt.qos2),
    Case("slow-server", "a frame byte by byte", "MQTT 4.2", mqtt.slow_server),
    Case("fragments", "frames in pieces", "MQTT 4.2", mqtt.fragments),
    Case("one-segment", "several packets in one segment", "MQTT 4.2", mqtt.one_segment),
    Case("burst", "four frames in flight", "Delivery", frame.burst),
    Case("budget-frame", "a frame of exactly the budget", "Frames", frame.budget_frame),
    Case("gap", "a gap is answered by hello", "Frames", frame.gap),
    Case("hello-pace", "one hello for a gap, not more", "Up messages", frame.hello_pace, seconds=11),
    Case("hello-again", "a lost hello is repeated", "Up messages", frame.hello_again, seconds=50),
    Case("duplicate", "a duplicate changes nothing", "Frames; G4", frame.duplicate),
    Case("stale", "older frames change nothing", "Frames", frame.stale),
    Case("unknown-type", "unknown frame type ignored", "Frames", frame.unknown_type),
    Case("trailing", "trailing elements ignored", "Frames", frame.trailing),
    Case("unknown-op", "unknown op not taken for applied", "Frames", frame.unknown_op),
    Case("impossible-op", "impossible op: hello at 0.0", "Frames", frame.impossible_op),
    Case("no-frame", "garbage acknowledged and ignored", "Frames", frame.no_frame),
    Case("new-epoch", "snapshot of a new epoch taken", "Frames", frame.new_epoch),
    Case("lower-epoch", "a lower epoch ignored", "Frames", frame.lower_epoch),
    Case("expiry", "no expiry, and places of what expired", "Frames", frame.expiry),
    Case("retained", "a retained frame does no harm", "Topics", frame.retained),
    Case("window-length", "a full window drops its last", "Frames", frame.window_length),
    Case("held-item", "an item that is held is replaced", "Frames", frame.held_item),
    Case("late-rank", "a put past the end appends", "Frames", frame.late_rank),
    Case("keep-alive", "PINGREQ in time", "MQTT 3.1.2.10", mqtt.keep_alive, seconds=8),
    Case("no-pingresp", "no PINGRESP: connects anew", "MQTT 3.12.4", mqtt.no_pingresp, seconds=15),
    Case("wait-after-close", "a second's wait after a close", "good manners", reconnect.waits_after_close, fresh=True, seconds=4),
    Case("session-present", "a resumed session goes on", "Delivery; MQTT 4.4", reconnect.session_present, fresh=True, seconds=4),
    Case("session-expired", "a lost session: subscribes again", "MQTT 3.2.2.2", reconnect.session_expired, fresh=True, seconds=4),
    Case("reset-in-frame", "half a frame leaves no trace", "MQTT 4.2", reconnect.reset_in_frame, fresh=True, seconds=4),
    Case("power-loss", "what it says after a loss of power holds", "Frames; Up messages", reconnect.power_loss, seconds=3),
    Case("backoff-closed", "jittered backoff, connections closed", "good manners", reconnect.backoff_closed, fresh=True, seconds=30),
    Case("backoff-refused", "jittered backoff, connections refused", "good manners", reconnect.backoff_refused, fresh=True, seconds=30),
    Case("outside-hello", "hello after each SUBACK", "Up messages", outside.outside_hello, where=OUTSIDE),
    Case("outside-bye", "the will is a bye", "Up messages", outside.outside_bye, where=OUTSIDE),
    Case("outside-ack", "acks within a second", "Up messages", outside.outside_ack, where=OUTSIDE, seconds=2),
    Case("up-messages", "all that it sent is valid", "Up messages", mqtt.up_messages),
)  # fmt: skip
"""The backoff cases let a device's pauses grow, and `up-messages` looks at everything from before: hence so late."""


def chosen(
    only: Collection[str] = (), skip: Collection[str] = (), *, outside: bool = False
) -> list[Case]:
    """The cases to run: those of `only`, or all that make sense there, without those of `skip`.

    Raises:
        KeyError: There is no case of that name; its first argument is the name.
    """
    known = {case.id: case for case in CASES}
    for name in (*only, *skip):
        if name not in known:
            raise KeyError(name)
    here = {Where.ANYWHERE, OUTSIDE if outside else EMBEDDED}
    return [
        case
        for case in CASES
        if (case.id in only if only else case.where in here) and case.id not in skip
    ]
