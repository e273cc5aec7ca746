"""What a radio takes from its battery: an estimate, from the figures of data sheets and the time spent in each state.

It ranks ways to speak ("does a ping a minute cost more than a connection an hour?") and gives the order of magnitude
of a battery's life. It is no measurement: coverage alone changes the energy of a byte by a factor of ten (repetitions,
power control), and each operator sets the timers differently. Measure your own module, and put its figures into a
`Radio`.

The states are those of 3GPP, under short names:

- transmit, receive: bytes are on the air;
- connected: RRC connected without bytes, for `tail` seconds after the last of them, until the network's inactivity
  timer releases the radio (2G: the READY timer);
- idle: registered and listening for paging now and then (DRX, eDRX);
- asleep: PSM, or switched off. A device with an open connection is never asleep: nobody could reach it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

DAY = 86_400.0
"""Seconds."""

TWO_AA = 10_800.0
"""Joules of two AA cells down to the voltage at which modules give up: 3 V, 1 Ah."""


@dataclass(frozen=True, slots=True)
class Radio:
    """What a radio takes.

    Attributes:
        source: Where the figures come from.
        transmit, receive, connected, idle, asleep: Watts in each state.
        tail: Seconds from the last byte to idle.
        linger: Seconds from idle to asleep once there is no connection (in PSM the active timer, T3324).
    """

    source: str
    transmit: float = 0.0
    receive: float = 0.0
    connected: float = 0.0
    idle: float = 0.0
    asleep: float = 0.0
    tail: float = 0.0
    linger: float = 0.0


MAINS = Radio("no radio, or none that runs on a battery")
"""Takes nothing."""

GSM = Radio(
    # Class 10 with two slots up; one slot up and four down; idle mode; sleep mode (BS-PA-MFRMS 5); power down. All at
    # 3.8 V, EGSM 900. In READY without data the module is in idle mode. READY timer: default of TS 24.008, 11.2.2.
    # EDGE takes nearly the same (u-blox SARA-R4/N4 System Integration Manual, UBX-16029218, 1.5.1.3).
    "SIMCom SIM800H & SIM800L Hardware Design V2.02, table 49",
    transmit=3.8 * 0.386,
    receive=3.8 * 0.250,
    connected=3.8 * 0.0174,
    idle=3.8 * 0.00114,
    asleep=3.8 * 0.00015,
    tail=44.0,
)

NB_IOT = Radio(
    # At 3.6 V: transmitting at 23 dBm 220 mA, receiving 46 mA, active 6 mA, deep sleep 3 µA. Idle is "in the ~mA range"
    # (System Integration Manual, UBX-17005143, 1.4). Ours: in connected DRX it receives for a quarter of the time; an
    # inactivity timer of 20 s (networks set 5 to 20 s) and an active timer of 10 s.
    "u-blox SARA-N2 Data Sheet, UBX-15025564",
    transmit=3.6 * 0.220,
    receive=3.6 * 0.046,
    connected=3.6 * (0.25 * 0.046 + 0.75 * 0.006),
    idle=3.6 * 0.001,
    asleep=3.6 * 0.000003,
    tail=20.0,
    linger=10.0,
)

LTE_M = Radio(
    # At 3.8 V: data at 23 dBm 167 mA and at 10 dBm 109 mA, idle on LTE 11 mA, sleep 1 mA, PSM 9 µA. It has no figure for
    # receiving alone: that at 10 dBm stands for it, which is too much. The tail of LTE is 11.6 s in Huang et al., "A
    # close examination of performance and power characteristics of 4G LTE networks", MobiSys 2012. Ours: a quarter of
    # it is spent receiving; an active timer of 10 s.
    "SIMCom SIM7000 Hardware Design V1.05",
    transmit=3.8 * 0.167,
    receive=3.8 * 0.109,
    connected=3.8 * (0.25 * 0.109 + 0.75 * 0.011),
    idle=3.8 * 0.001,
    asleep=3.8 * 0.000009,
    tail=11.6,
    linger=10.0,
)

WIFI = Radio(
    # At 3.3 V: transmitting 802.11n MCS7 180 mA, receiving 95 mA, associated in light sleep at DTIM 3 0.9 mA, deep sleep
    # 10 µA. It listens for one beacon interval of 102.4 ms after the last packet.
    "Espressif ESP32 Series Datasheet; ESP-WROOM-32, table 5",
    transmit=3.3 * 0.180,
    receive=3.3 * 0.095,
    connected=3.3 * 0.095,
    idle=3.3 * 0.0009,
    asleep=3.3 * 0.00001,
    tail=0.1,
)


@dataclass(slots=True)
class Activity:
    """How long a radio was in each state; what is not named here is idle.

    Times are seconds of the caller's clock and do not go back. The pauses of a schedule, while there is no connection,
    may pass `speed` times as fast as that clock; what the network does (bytes, tails) never does.

    Attributes:
        transmit, receive, connected, asleep: Seconds.
        until: The end of the last byte, or of the wait for the network; before the first, the beginning.
        open: Whether there is a connection.
        off: Whether the radio was asleep already at `until`, as it is before its first connection.
    """

    transmit: float = 0.0
    receive: float = 0.0
    connected: float = 0.0
    asleep: float = 0.0
    until: float = 0.0
    open: bool = False
    off: bool = True

    def transmits(self, at: float, seconds: float, radio: Radio) -> None:
        """Bytes go out for so long."""
        self._busy(at, seconds, radio)
        self.transmit += seconds

    def receives(self, at: float, seconds: float, radio: Radio) -> None:
        """Bytes come in for so long, or the radio listens as if they did."""
        self._busy(at, seconds, radio)
        self.receive += seconds

    def opens(self, at: float, radio: Radio, speed: float) -> bool:
        """A connection begins.

        Returns:
            Whether the radio has to be brought back to the network first.
        """
        cold = self.off or self._pause(at, speed) > radio.tail
        self.rests(at, radio, speed)
        self.open, self.off = True, False
        return cold

    def closes(self) -> None:
        """The connection has ended; what comes now is a tail, a while of idling, and sleep."""
        self.open = False

    def rests(self, at: float, radio: Radio, speed: float) -> None:
        """Without a byte up to now."""
        pause = self._pause(at, speed)
        self.until = max(self.until, at)
        if self.off:
            self.asleep += pause
            return
        self.connected += min(pause, radio.tail)
        if not self.open:
            slept = pause - radio.tail - radio.linger
            self.asleep += max(0.0, slept)
            self.off = slept > 0

    def settled(self, at: float, radio: Radio, speed: float) -> Activity:
        """The same with the pause up to now in it."""
        copy = replace(self)
        copy.rests(at, radio, speed)
        return copy

    def joules(self, radio: Radio, elapsed: float, awake: float = inf) -> float:
        """Energy of `elapsed` seconds, of which all that is not named here was idle.

        A connection that was busier than the elapsed time says is charged for what it did.

        Args:
            radio: Whose it is.
            elapsed: Seconds.
            awake: Seconds of them for which a schedule lets the radio be awake. Where its pauses run faster than
                its connections, these seem to last for hours that it sleeps through in truth.
        """
        busy = self.transmit + self.receive + self.connected
        rest = max(0.0, elapsed - busy - self.asleep)
        idle = min(rest, max(0.0, awake - busy))
        return (
            self.transmit * radio.transmit
            + self.receive * radio.receive
            + self.connected * radio.connected
            + (self.asleep + rest - idle) * radio.asleep
            + idle * radio.idle
        )

    def _busy(self, at: float, seconds: float, radio: Radio) -> None:
        if at > self.until:
            self.connected += min(at - self.until, radio.tail)
            self.until = at
        self.until += seconds

    def _pause(self, at: float, speed: float) -> float:
        """Seconds without a byte, up to now."""
        return max(0.0, at - self.until) * (1.0 if self.open else speed)


def per_day(joules: float, device_seconds: float) -> float | None:
    """Joules per device and day, from those of so many seconds times devices; None without any."""
    return joules * DAY / device_seconds if device_seconds > 0 else None


def battery_days(joules_per_day: float, battery: float = TWO_AA) -> float:
    """Days that a battery of so many joules lasts, for the radio alone and without self-discharge."""
    return battery / joules_per_day if joules_per_day > 0 else inf
