"""Cases of connections that end: pauses, sessions, frames cut in two, power that is lost."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from devices.frames import Put
from devices.packets import Connack, Connect
from devices.refusals import UNAVAILABLE
from devices.replica import Replica
from simulator.device_check.backoff import FEWEST, Shape, shape
from simulator.device_check.case import failed, not_applicable, warned
from simulator.device_check.line import of_kind

if TYPE_CHECKING:
    from simulator.device_check.bench import Bench
    from simulator.device_check.line import Line

_AT_LEAST = 1.0
"""Seconds before a device may come again, after a server closed its connection."""
_BEFORE_DARK = (0.0, 0.004, 0.02)
"""Seconds between the last frame and the loss of power, to meet a client while it writes."""
_MEASURED = 0.02
"""By how much that may be mismeasured."""


async def backoff_closed(bench: Bench) -> str:
    """Pauses grow and are random where every connection is closed before CONNACK."""
    return await _backoff(bench, code=None)


async def backoff_refused(bench: Bench) -> str:
    """The same where the server says that it is unavailable."""
    return await _backoff(bench, code=UNAVAILABLE)


async def _backoff(bench: Bench, code: int | None) -> str:
    """Turn the device away until its pauses say enough."""
    loop = asyncio.get_running_loop()
    line = await bench.connected()
    bench.drop(line)
    closed = loop.time()
    until = closed + bench.limits.backoff
    pauses: list[float] = []
    found = Shape.FEW
    while loop.time() < until and len(pauses) < 2 * bench.limits.pauses:
        next_line = await bench.arrival(until - loop.time())
        if next_line is None:
            break
        pauses.append(next_line.opened_at - closed)
        await _turn_away(bench, next_line, code)
        closed = loop.time()
        found = shape(pauses, bench.limits.noise)
        if len(pauses) >= bench.limits.pauses and found is Shape.JITTERED:
            break
    return _judged(bench, pauses, found)


async def _turn_away(bench: Bench, line: Line, code: int | None) -> None:
    await line.expect(of_kind(Connect), "CONNECT", bench.limits.answer)
    if code is not None:
        line.send(Connack(session_present=False, code=code))
    bench.drop(line)


def _judged(bench: Bench, pauses: list[float], found: Shape) -> str:
    seconds = ", ".join(f"{pause:.1f}" for pause in pauses)
    if found is Shape.FEW:
        if (words := bench.device.ended()) is not None:
            raise failed(f"the program gave up: {words}")
        few = f"{len(pauses)} tries in {bench.limits.backoff:g} s, {FEWEST} are needed"
        if pauses:
            raise warned(f"{few}: pauses of {seconds} s look long, but cannot be judged")
        raise failed(f"{few}: it does not come again")
    if found is Shape.CONSTANT or (found is Shape.LINEAR and len(pauses) > FEWEST):
        raise failed(
            f"its pauses are {found.value} ({seconds} s): a fleet would hammer a server that starts"
        )
    if found is not Shape.JITTERED:
        raise warned(f"its pauses are {found.value} ({seconds} s)")
    return f"pauses of {seconds} s: growing, and random"


async def waits_after_close(bench: Bench) -> str:
    """A device whose connection the server closed waits for a second or more."""
    line = await bench.settled()
    bench.drop(line)
    again = await bench.back()
    waited = again.opened_at - line.closed_at
    if waited < _AT_LEAST - _MEASURED:
        raise failed(
            f"it came again after {waited:.2f} s; a server that restarts would meet its whole fleet"
        )
    return f"it came again after {waited:.1f} s"


async def session_present(bench: Bench) -> str:
    """A session that is resumed goes on: repeated frames are taken, nothing waits for a SUBSCRIBE."""
    line = await bench.settled(items=2)
    if bench.connect.clean_session:
        raise not_applicable("it asks for a clean session")
    packet = bench.packet(bench.delta(Put(0, bench.item())))
    line.send(packet)
    bench.model.receive(packet.payload)
    bench.drop(line)
    line = await bench.admitted(present=True)
    line.send(replace(packet, dup=bool(packet.qos)))
    await bench.acknowledged(packet)
    await bench.deliver(bench.delta())
    await bench.confirm("the session was resumed, and the frame in flight repeated")
    assert bench.greeting is not None
    if bench.greeting.subscribe is not None:
        return "goes on (it subscribes again, which costs two packets)"
    return "goes on without a SUBSCRIBE"


async def session_expired(bench: Bench) -> str:
    """A session that the server has lost: it subscribes again."""
    line = await bench.settled(items=2)
    bench.drop(line)
    await bench.admitted(present=False)  # fails without SUBSCRIBE
    await bench.settled(items=1)
    await bench.confirm("the server had lost its session")
    return "subscribed again"


async def reset_in_frame(bench: Bench) -> str:
    """A connection that breaks inside a frame: nothing of it is taken, and it comes whole later."""
    line = await bench.settled(items=2)
    delta = bench.delta(Put(0, bench.item()))
    line.send_beginning(bench.packet(delta))
    bench.drop(line, reset=True)
    await bench.admitted()
    assert bench.greeting is not None
    hello = bench.greeting.hello
    if hello is not None and (hello.epoch, hello.seq) not in {bench.model.position, (0, 0)}:
        epoch, seq = bench.model.position
        raise failed(
            f"hello at {hello.epoch}.{hello.seq} after half a frame; it was at {epoch}.{seq}"
        )
    if hello is None or not hello.epoch:
        await bench.deliver(bench.snapshot(2))
    else:
        await bench.deliver(delta)
    await bench.confirm("a frame was cut in two by a reset and came again")
    return "half a frame left no trace"


async def power_loss(bench: Bench) -> str:
    """Power goes while frames come: what it says afterwards it truly holds."""
    said = []
    for wait in _BEFORE_DARK if bench.device.restarts else _BEFORE_DARK[:1]:
        held = await _feed(bench)
        await asyncio.sleep(wait)
        await _cut_power(bench)
        await bench.admitted()
        position = await _holds_what_it_says(bench, held)
        if position is None:
            return "it keeps nothing over a loss of power, and starts with a snapshot each time"
        said.append(f"{position[0]}.{position[1]} of {list(held)[-1][1]}")
    return f"it resumes at {', '.join(said)}"


async def _feed(bench: Bench) -> dict[tuple[int, int], dict[str, Any]]:
    """Send frames, the last ones without waiting for their acknowledgement; returns the state after each."""
    line = await bench.settled(items=1)
    held = {bench.model.position: bench.model.state()}
    room = min(bench.k, 8) - 1
    for sent in range(room):
        packet = bench.packet(bench.delta(Put(0, bench.item())))
        line.send(packet)
        bench.model.receive(packet.payload)
        held[bench.model.position] = bench.model.state()
        if sent < room // 2:
            await bench.acknowledged(packet)
    return held


async def _holds_what_it_says(
    bench: Bench, held: dict[tuple[int, int], dict[str, Any]]
) -> tuple[int, int] | None:
    """See that the device's window is the one of the position in its hello; None = it starts empty."""
    assert bench.greeting is not None
    hello = bench.greeting.hello
    if hello is None or not hello.epoch:
        await bench.deliver(bench.snapshot(1))
        await bench.confirm("power was lost, and a snapshot came")
        return None
    position = hello.epoch, hello.seq
    if position not in held:
        raise failed(f"hello at {hello.epoch}.{hello.seq} after a loss of power: never given that")
    bench.model = Replica.from_state(held[position])
    await bench.deliver(bench.delta(Put(0, bench.item())))
    await bench.confirm_length(f"it said {hello.epoch}.{hello.seq} after a loss of power")
    return position


async def _cut_power(bench: Bench) -> None:
    if bench.device.restarts:
        await bench.restart()
        return
    await bench.device.cut_power()
    if not await bench.comes():
        raise not_applicable(f"nobody cut its power within {bench.limits.reconnect:g} s")
