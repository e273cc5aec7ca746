"""What devices do of themselves: come, go, change their minds, tell what people did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from devices.frames import Event, Kind
from simulator.faults.devices import FOLLOWS
from simulator.faults.firmware import Firmware

if TYPE_CHECKING:
    from random import Random

    from simulator.checker import Checker
    from simulator.faults.devices import FaultyDevice

_KS = (1, 3, 8, 9, 16, 20, 40, 64, 64)
_BUDGETS = (128, 256, 256, 600, 4_000)
_PERSISTENT = 0.6
_FED_BACK = 20


def firmware(rng: Random) -> Firmware:
    """A firmware like any other."""
    return Firmware(
        k=rng.choice(_KS),
        budget=rng.choice(_BUDGETS),
        max_qos=rng.choice((0, 1, 1, 2)),
        clock=rng.random() < 0.3,
        qos=rng.choice((0, 1, 1, 2)),
        persistent=rng.random() < _PERSISTENT,
    )


def act(device: FaultyDevice, checker: Checker, rng: Random) -> None:
    """Does one thing, drawn at random."""
    draw = rng.random()
    if not device.connected or draw < 0.25:
        _come_back(device, rng)
    elif draw < 0.4:
        device.drop()
    elif draw < 0.52:
        device.update(_changed(device.firmware, rng))
        device.say_hello()
    elif draw < 0.6:
        device.say_hello()
    elif draw < 0.7:
        device.say_profile(rng.choice(FOLLOWS), {"region": rng.choice("ns")})
    elif draw < 0.8:
        dismiss(device, checker, rng)
    elif draw < 0.85:
        device.subscribe()
    elif draw < 0.88:
        device.unsubscribe()
    elif draw < 0.92:
        feed_back(device, rng)
    elif draw < 0.96:
        device.lose_inside_a_packet()
    else:
        device.back_up()


def say_all(device: FaultyDevice, checker: Checker, rng: Random) -> None:
    """Says everything that the server may have missed, and what happened to the items that it shows now."""
    if rng.random() < 0.3:
        dismiss(device, checker, rng)
    else:
        feed_back(device, rng)
    device.say_again()


def feed_back(device: FaultyDevice, rng: Random) -> None:
    """Items were shown and opened."""
    kinds = (Kind.SHOWN, Kind.OPENED)
    device.say_feedback(*(Event(one.n, rng.choice(kinds)) for one in device.items[:_FED_BACK]))


def dismiss(device: FaultyDevice, checker: Checker, rng: Random) -> None:
    """An item is not wanted any more."""
    if device.items:
        n = rng.choice(device.items).n
        checker.dismissed(device.name, n)
        device.say_feedback(Event(n, Kind.DISMISSED))


def _come_back(device: FaultyDevice, rng: Random) -> None:
    """Connects, now and then as another."""
    now = device.firmware
    if rng.random() < 0.2:
        now = replace(now, persistent=rng.random() < _PERSISTENT)
    if rng.random() < 0.5:
        now = replace(now, qos=rng.choice((0, 1, 1, 2)))
    if rng.random() < 0.15:
        now = _changed(now, rng)
    if now != device.firmware:
        device.update(now)
    device.connect_soon()


def _changed(now: Firmware, rng: Random) -> Firmware:
    """A firmware that differs in one thing of its hello."""
    draw = rng.random()
    if draw < 0.6:
        return replace(now, k=rng.choice(_KS))
    if draw < 0.8:
        return replace(now, budget=rng.choice(_BUDGETS))
    if draw < 0.9:
        return replace(now, max_qos=rng.choice((0, 1, 2)))
    return replace(now, clock=not now.clock)
