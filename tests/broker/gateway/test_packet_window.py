from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broker.gateway.packet_window import PACKET_IDS, PacketWindow
from devices.packets import publish_head, topic_field

TOPIC = topic_field("f/d")


def packet(packet_id: int, size: int = 3) -> bytes:
    return publish_head(TOPIC, size, 1, packet_id) + b"x" * size


class WindowMachine(RuleBasedStateMachine):
    """Packets that are sent, acknowledged in any order, and sent again."""

    @initialize(used=st.sampled_from([0, PACKET_IDS - 5]))
    def some_identifiers_were_used_before(self, used: int) -> None:
        self.window = PacketWindow()
        self.sent: dict[int, bytes] = {}
        if used:
            self.window.acknowledge(self.window.take(used))

    @rule(count=st.integers(1, 6), size=st.integers(0, 9))
    def packets_are_sent(self, count: int, size: int) -> None:
        ids = self.window.take(count)
        assert not set(ids.tolist()) & set(self.sent)
        packets = [packet(packet_id, size) for packet_id in ids.tolist()]
        self.window.sent(ids, packets)
        self.sent |= dict(zip(ids.tolist(), packets, strict=True))

    @rule(which=st.lists(st.integers(0, 20), max_size=6), unknown=st.booleans())
    def some_are_acknowledged(self, which: list[int], unknown: bool) -> None:
        waiting = list(self.sent)
        ids = [waiting[index] for index in which if index < len(waiting)]
        assert self.window.acknowledge(
            np.array([*ids, *([0, 40_000] if unknown else [])], np.uint16)
        ) == len(set(ids))
        for packet_id in ids:
            self.sent.pop(packet_id, None)

    @invariant()
    def what_is_unacknowledged_is_known_in_order(self) -> None:
        if hasattr(self, "window"):
            again = [bytes((data[0] & ~8,)) + data[1:] for data in self.window.again()]
            assert again == list(self.sent.values())
            assert all(data[0] & 8 for data in self.window.again())
            assert self.window.waiting == sum(map(len, self.sent.values()))
            assert self.window.unacknowledged == len(self.sent)


WindowMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestWindowMachine = WindowMachine.TestCase


def test_all_identifiers_but_one_can_be_in_use_and_no_more() -> None:
    window = PacketWindow()
    assert sorted(window.take(PACKET_IDS).tolist()) == list(range(1, 65_535))
    with pytest.raises(ValueError, match="0 free"):
        window.take(1)


def test_one_unacknowledged_packet_holds_back_those_behind_it_until_it_is_acknowledged() -> None:
    window = PacketWindow()
    ids = window.take(100)
    window.acknowledge(ids[1:])
    assert window.free == PACKET_IDS - 100
    window.acknowledge(ids[:1])
    assert window.free == PACKET_IDS


def test_a_forgotten_session_has_nothing_to_send_again() -> None:
    window = PacketWindow()
    ids = window.take(2)
    window.sent(ids, [packet(packet_id) for packet_id in ids.tolist()])
    window.forget()
    assert window.again() == []
    assert (window.free, window.waiting) == (PACKET_IDS, 0)
