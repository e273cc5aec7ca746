"""What a client has sent comes out packet by packet, and nothing behind the first broken one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.lane.intake import Intake
from devices.packets import Packet, PacketError, Pingreq, Puback, Publish, encode

packets = st.one_of(
    st.builds(Publish, st.just("home"), st.binary(max_size=3000)),
    st.builds(Puback, st.integers(1, 65_535)),
    st.just(Pingreq()),
)


def taken(intake: Intake) -> list[Packet]:
    found = []
    while (packet := intake.next()) is not None:
        found.append(packet)
    return found


@given(sent=st.lists(packets, max_size=12), cuts=st.lists(st.integers(1, 5000), max_size=30))
def test_packets_come_out_as_they_were_sent_however_they_were_cut(
    sent: list[Packet], cuts: list[int]
) -> None:
    intake, whole, found = Intake(10_000), b"".join(map(encode, sent)), []
    for cut in [*cuts, len(whole)]:
        piece, whole = whole[:cut], whole[cut:]
        if piece:
            intake.feed(piece)
            # Some are left for later now and then.
            found += taken(intake) if cut % 2 else filter(None, [intake.next()])
    found += taken(intake)
    assert found == sent
    assert intake.idle
    assert not intake.waiting


@given(before=st.lists(packets, max_size=5), behind=st.lists(packets, min_size=1, max_size=5))
def test_nothing_behind_a_broken_packet_comes_out(
    before: list[Packet], behind: list[Packet]
) -> None:
    intake = Intake(10_000)
    intake.feed(b"".join(map(encode, before)) + b"\xf0\x00" + b"".join(map(encode, behind)))
    assert taken(intake) == before
    assert intake.broken is not None
    assert intake.broken.reason is PacketError.UNEXPECTED_TYPE
    intake.feed(encode(Pingreq()))
    assert intake.next() is None
    assert not intake.idle


def test_a_beginning_that_waits_for_its_end_is_not_idle() -> None:
    intake = Intake(10_000)
    assert intake.idle
    intake.feed(b"\x40\x02\x00")
    assert intake.next() is None
    assert not intake.idle
    intake.feed(b"\x01")
    assert taken(intake) == [Puback(1)]
    assert intake.idle
