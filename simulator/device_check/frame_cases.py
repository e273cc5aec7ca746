"""Cases of the feed's own protocol: what frames do to a device, and what they must not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import msgpack

from devices.frames import Delta, FeedItem, Put, Remove, Snapshot, encode_frame
from devices.packets import Publish, encode
from simulator.device_check.case import failed, not_applicable
from simulator.device_check.line import hello_of

if TYPE_CHECKING:
    from simulator.device_check.bench import Bench


async def budget_frame(bench: Bench) -> str:
    """A frame of exactly the budget is taken, again and again."""
    line = await bench.settled(items=0)
    for _ in range(2):
        packet = _filled(bench)
        line.send(packet)
        await bench.delivered(packet)
    await bench.confirm(f"two frames of exactly {bench.budget} bytes came")
    return f"two packets of {bench.budget} bytes applied"


def _filled(bench: Bench) -> Publish:
    """A packet of exactly the budget, that puts one item at the top."""
    item = bench.item()
    delta = bench.delta(Put(0, item))
    size = bench.budget - len(encode(replace(bench.packet(delta), payload=b"")))
    # Where its length takes more bytes, the payload has to be shorter; a few tries find it.
    for length in range(size, 0, -1):
        full = replace(delta, ops=(Put(0, replace(item, payload="x" * length)),))
        packet = Publish(bench.down_topic, encode_frame(full), bench.qos, bench.qos and 60_000)
        if len(encode(packet)) <= bench.budget:
            return packet
    raise AssertionError("the budget takes no item at all")


async def duplicate(bench: Bench) -> str:
    """The same frame again, with DUP, changes nothing and is acknowledged."""
    line = await bench.settled(items=2)
    packet = bench.packet(bench.delta(Remove(0)))
    line.send(packet)
    await bench.delivered(packet)
    again = replace(packet, dup=bool(packet.qos))
    line.send(again)
    await bench.delivered(again)
    await bench.no_hello("a duplicate asks for no answer")
    await bench.confirm("a frame came twice")
    await bench.deliver(bench.delta())
    await bench.confirm_length("of two items one was removed by a frame that came twice")
    return "acknowledged, and applied once"


async def stale(bench: Bench) -> str:
    """Older frames, which come late, change nothing."""
    await bench.settled(items=2)
    older = bench.delta(Remove(0))
    await bench.deliver(older)
    await bench.deliver(bench.delta(Put(0, bench.item())))
    await bench.deliver(older)
    old = Snapshot(bench.model.epoch, older.seq - 1, bench.k, (bench.item(),))
    await bench.deliver(old)
    await bench.no_hello("a frame that is older than the window asks for no answer")
    await bench.confirm("an older delta and an older snapshot came")
    return "older delta and older snapshot ignored"


async def gap(bench: Bench) -> str:
    """A frame that starts elsewhere changes nothing, and is answered by a hello."""
    await bench.settled(items=2)
    await bench.confirm("a frame came that starts elsewhere")
    return "hello at the position that it holds"


async def hello_pace(bench: Bench) -> str:
    """After a hello it waits; once a frame applies, the next gap is answered at once."""
    line = await bench.settled()
    await bench.ask()
    for _ in range(3):
        await bench.deliver(bench.delta_ahead())
    wait = bench.limits.quiet
    await bench.no_hello("the last one was not answered yet, and 30 s have not passed", wait)
    await bench.deliver(bench.snapshot(1))
    line.inbox.clear()
    await bench.ask()
    return f"no second hello in {wait:g} s, and the next one after a frame had applied"


async def hello_again(bench: Bench) -> str:
    """A hello that nobody answers is repeated after 30 s and some."""
    if bench.limits.hello_again is None:
        raise not_applicable("takes up to a minute: left out of a fast run")
    earliest, latest = bench.limits.hello_again
    await bench.settled()
    await bench.ask()
    loop = asyncio.get_running_loop()
    asked = loop.time()
    while loop.time() - asked < latest:
        if await bench.line.next(hello_of, latest / 12) is not None:
            waited = loop.time() - asked
            if waited < earliest:
                raise failed(f"a second hello {waited:.1f} s after one that was not answered yet")
            return f"repeated after {waited:.0f} s"
        await bench.deliver(bench.delta_ahead())  # some clients ask when they see a gap only
    raise failed(f"no second hello within {latest:g} s: a lost one leaves it with an old window")


async def unknown_type(bench: Bench) -> str:
    """A frame type of a later protocol is ignored."""
    await bench.settled(items=2)
    await bench.deliver(msgpack.packb([9, bench.model.epoch, 99, []]))
    await bench.no_hello("an unknown frame type is to be ignored")
    await bench.confirm("a frame of an unknown type came")
    return "ignored"


async def trailing(bench: Bench) -> str:
    """Elements after the known ones, in frames, ops and items, are ignored."""
    await bench.settled(items=2)
    delta = bench.delta()
    item = bench.item()
    op = [0, [item.n, 0, 1, item.payload, 7], 7]
    await bench.deliver(msgpack.packb([1, delta.epoch, delta.seq, [op], delta.start, 7, "later"]))
    snapshot = bench.snapshot(0)
    items = [[item.n, 0, 1, item.payload, 7]]
    await bench.deliver(msgpack.packb([0, snapshot.epoch, snapshot.seq, snapshot.k, items, 7]))
    await bench.confirm("a delta and a snapshot came with elements after the known ones")
    return "delta and snapshot applied without what is unknown"


async def unknown_op(bench: Bench) -> str:
    """A frame with an op that it does not know is not taken for applied."""
    await bench.settled(items=2)
    before = bench.model.position
    delta = bench.delta()
    await bench.deliver(msgpack.packb([1, delta.epoch, delta.seq, ["later"]]))
    hello = await bench.line.next(hello_of, bench.limits.grace)
    if hello is None:
        hello = await bench.ask()
    if (hello.epoch, hello.seq) not in {before, (0, 0)}:
        raise failed(
            f"it says that it is at {hello.epoch}.{hello.seq} after a frame that it cannot have"
            f" understood, and should be at {before[0]}.{before[1]} or 0.0"
        )
    return f"not applied: hello at {hello.epoch}.{hello.seq}"


async def impossible_op(bench: Bench) -> str:
    """An op that does not fit the window: hello at 0.0, and the next snapshot is taken."""
    await bench.settled(items=2)
    await bench.deliver(bench.delta(Remove(60)))
    hello = await bench.line.expect(hello_of, "hello after an impossible op", bench.limits.answer)
    if (hello.epoch, hello.seq) != (0, 0):
        raise failed(f"a hello at {hello.epoch}.{hello.seq} after an impossible op, not at 0.0")
    await bench.deliver(bench.snapshot(2))
    await bench.confirm("a snapshot came after an impossible op")
    return "hello at 0.0, and the next snapshot taken"


async def no_frame(bench: Bench) -> str:
    """Bytes that are no frame are acknowledged, so that they do not come again, and change nothing."""
    await bench.settled(items=2)
    epoch = bench.model.epoch
    for data in (
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\x95\x00",
        msgpack.packb([0, epoch, -1, 8, []]),
    ):
        await bench.deliver(data)
    await bench.no_hello("bytes that are no frame ask for no answer")
    await bench.confirm("bytes came that are no frame")
    return "five payloads that are no frames acknowledged and ignored"


async def new_epoch(bench: Bench) -> str:
    """A snapshot of a higher epoch is taken, whatever its number."""
    await bench.settled(items=2, seq=5_000)
    await bench.deliver(bench.snapshot(1, seq=1))
    await bench.confirm("a snapshot of a higher epoch came, with a lower seq")
    return "taken, with a lower seq"


async def lower_epoch(bench: Bench) -> str:
    """Frames of a lower epoch are ignored, whatever their number."""
    await bench.settled(items=2)
    epoch, seq = bench.model.position
    await bench.deliver(Snapshot(epoch - 1, seq + 500, bench.k, (bench.item(),)))
    await bench.deliver(Delta(epoch - 1, seq + 501, (Remove(0),), seq))
    await bench.no_hello("frames of a lower epoch are stale and ask for no answer")
    await bench.confirm("a snapshot and a delta of a lower epoch came")
    return "snapshot and delta ignored"


async def expiry(bench: Bench) -> str:
    """Items without an expiry are held; an expired one keeps its place until a frame removes it."""
    await bench.settled(items=3)  # room for three
    await bench.deliver(bench.snapshot(0))
    items = [bench.item(), bench.item(), bench.item()]
    past = 0
    if bench.options.clock:
        past = int(time.time()) - 60
        items[1] = replace(items[1], expires=past)
    for item in reversed(items):
        await bench.deliver(bench.delta(Put(0, item)))
    await bench.deliver(bench.delta(Remove(0)))
    await bench.confirm_length(
        "of three items one was removed" + (", one had expired" if past else "")
    )
    if past:
        return "expires 0 held, and an expired item keeps its place"
    return "expires 0 held, by a device without a clock"


async def retained(bench: Bench) -> str:
    """A retained frame, which some broker's store may deliver, does no harm."""
    line = await bench.settled(items=2)
    epoch, seq = bench.model.position
    old = Snapshot(epoch, seq - 1, bench.k, (bench.item(),))
    packet = bench.packet(encode_frame(old), retain=True)
    line.send(packet)
    await bench.delivered(packet)
    await bench.no_hello("an old frame, retained by a broker, asks for no answer")
    await bench.confirm("an old frame came with RETAIN")
    return "an old frame with RETAIN changes nothing"


async def window_length(bench: Bench) -> str:
    """A put into a full window drops the last item; k is the snapshot's, not the device's own."""
    await bench.settled(items=2, k=2)
    await bench.deliver(bench.delta(Put(0, bench.item())))
    await bench.confirm_length("k is 2 by the snapshot, and one item was put into the full window")
    return "k 2 from a snapshot kept"


async def held_item(bench: Bench) -> str:
    """A put of an item that is held replaces it, and moves it."""
    await bench.settled(items=3)
    last = bench.model.window[-1]
    update = FeedItem(last.n, 0, 2, "new")
    await bench.deliver(bench.delta(Put(0, update)))
    await bench.confirm_length("an item was put that is held already")
    return "held once, with its new content"


async def late_rank(bench: Bench) -> str:
    """A put past the end appends."""
    await bench.settled(items=1)
    await bench.deliver(bench.delta(Put(50, bench.item())))
    await bench.confirm("an item was put at a rank past the end")
    await bench.deliver(bench.delta())
    await bench.confirm_length("an item was put at a rank past the end")
    return "appended"


async def burst(bench: Bench) -> str:
    """Four frames at once, as many as a server has in flight, are all applied and acknowledged."""
    line = await bench.settled(items=1)
    packets = []
    for _ in range(4):
        packets.append(bench.packet(bench.delta(Put(0, bench.item()))))
        bench.model.receive(packets[-1].payload)
        line.send(packets[-1])
    for packet in packets:
        await bench.acknowledged(packet)
    await bench.confirm("four frames came at once")
    return "four of four"
