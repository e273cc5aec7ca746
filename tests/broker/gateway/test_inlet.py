from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.gateway.inlet import Inlet
from devices.packets import (
    Connack,
    MalformedPacket,
    Packet,
    Pingresp,
    Puback,
    Publish,
    Suback,
    encode,
)

packet_ids = st.integers(1, 65_535)
packets = st.one_of(
    packet_ids.map(Puback),
    packet_ids.map(Puback),
    st.builds(
        Publish,
        st.just("u/kitchen"),
        # Also what looks like PUBACKs, and longer than one byte of length can say.
        st.binary(max_size=8) | st.integers(1, 60).map(lambda n: b"\x40\x02\x00\x07" * n),
        st.just(1),
        packet_ids,
    ),
    packet_ids.map(lambda packet_id: Suback(packet_id, (1,))),
    st.just(Pingresp()),
)


def fed(inlet: Inlet, data: bytes) -> list[Packet]:
    """What comes out, PUBACKs as packets again."""
    found: list[Packet] = []
    for each in inlet.feed(data):
        found += map(Puback, each.tolist()) if isinstance(each, np.ndarray) else [each]
    return found


@given(st.lists(packets, max_size=12), st.data())
@settings(max_examples=200)
def test_whatever_the_chunks_the_same_packets_come_out_in_order(
    sent: list[Packet], data: st.DataObject
) -> None:
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    inlet = Inlet(70_000)
    found: list[Packet] = []
    for first, last in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += fed(inlet, stream[first:last])
    assert found == sent


def test_a_thousand_pubacks_are_one_array() -> None:
    stream = b"".join(encode(Puback(packet_id)) for packet_id in range(1, 1001))
    [run] = Inlet(70_000).feed(stream)
    assert isinstance(run, np.ndarray)
    assert run.tolist() == list(range(1, 1001))


@pytest.mark.parametrize(
    "broken",
    [
        b"\x40\x03\x00\x07\x00",
        b"\x40\x01\x07",
        b"\x30\xff\xff\xff\xff\x01",
        b"\x82\x05\x00\x01\x00\x00\x00",
        b"\x30\xff\xff\x7f",
    ],
)
def test_what_breaks_mqtt_is_refused_after_what_came_before(broken: bytes) -> None:
    coming = Inlet(1_000).feed(encode(Connack(False, 0)) + encode(Pingresp()) + broken)
    assert [next(coming), next(coming)] == [Connack(False, 0), Pingresp()]
    with pytest.raises(MalformedPacket):
        next(coming)
