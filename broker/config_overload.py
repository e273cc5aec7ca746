"""The settings of overload control and of budgets."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_HOURLY = 1_000_000_000_000
Hourly = Annotated[int, Field(ge=0, le=_HOURLY)]


class OverloadSettings(BaseModel):
    """What the server does when more comes than it can take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=True,
        description="Do less of what matters less while the server is late. Off, nothing changes under "
        "load, and connections are not paced.",
    )
    loop_lag: float = Field(
        default=0.1,
        ge=0.005,
        le=10,
        description="Seconds that a timer may fire too late. Beyond, level 1 begins, and each level after "
        "it when it is a third more; so with the others.",
    )
    item_delay: float = Field(
        default=0.25,
        ge=0.01,
        le=60,
        description="Seconds that an item which is stored and not held may wait for the engine, and "
        "changes of feeds for their turn to be sent.",
    )
    store_delay: float = Field(
        default=0.75,
        ge=0.01,
        le=60,
        description="Seconds that an item may wait for the store. More than for the rest: one slow commit "
        "is no overload.",
    )
    bytes_waiting: int = Field(
        default=67_108_864,
        ge=65_536,
        le=1_099_511_627_776,
        description="Bytes that may wait: items on their way to the engine, and what clients do not read.",
    )
    jobs: int = Field(
        default=5_000,
        ge=10,
        le=10_000_000,
        description="Items that may wait in the engine.",
    )
    samples: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Looks in a row, ten a second, that must be over for the level to rise; by one at each.",
    )
    calm: float = Field(
        default=1.0,
        ge=0.1,
        le=600,
        description="Seconds that everything must be below half of the present level's beginning for the "
        "level to fall by one.",
    )
    max_held: int = Field(
        default=100_000,
        ge=0,
        le=10_000_000,
        description="Items of low and normal priority that may be held, stored and acknowledged, from "
        "level 4 on. When there are more, the most valuable of them wait for the engine like all others.",
    )
    held_seconds: float = Field(
        default=3.0,
        ge=0.1,
        le=3_600,
        description="Seconds of the engine's work that held items may be, by what it did of late: so long at the "
        "least does it take to be well again. However slow it is, 1 000 may be held, up to max_held.",
    )
    connect_rate: float = Field(
        default=500.0,
        ge=1,
        le=1_000_000,
        description="Clients that are let in each second, at first: more while the server is in time, "
        "fewer while it is late.",
    )
    connect_queue: int = Field(
        default=20_000,
        ge=0,
        le=1_000_000,
        description="Clients that may wait to be let in; further ones are told to come back later.",
    )
    connect_wait: float = Field(
        default=20.0,
        ge=0.1,
        le=600,
        description="Seconds that a client waits for that at the most.",
    )


class BudgetSettings(BaseModel):
    """What each device may be sent and each publisher may send in an hour; 0 sets no limit.

    Half of a budget can be spent at once, the other half comes back over the hour. So it holds for
    every sixty minutes, whenever they begin.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    device_frames: Hourly = Field(
        default=0,
        description="Frames to one device. What does not fit waits as one net difference, the least "
        "valuable longest; urgent items pass, and count.",
    )
    device_bytes: Hourly = Field(default=0, description="Bytes of these frames, likewise.")
    device_messages: Hourly = Field(
        default=0,
        description="What one device says: hellos, feedback, profiles. A device that has said more is not "
        "read until there is budget again, nor is what it acknowledges; nothing is dropped. Not "
        "beside an outside broker, where all of them share one connection.",
    )
    publisher_items: Hourly = Field(
        default=0,
        description="Items of one publisher, by user name, or by client id where nobody proves a name; "
        "beside an outside broker, which names nobody, of all together. "
        "Who has sent more is not read until there is budget again; nothing is dropped.",
    )
    publisher_bytes: Hourly = Field(
        default=0, description="Bytes of these items' payloads, likewise."
    )
    quiet_hours: bool = Field(
        default=True,
        description="Send a device nothing but urgent items in the hours of its attribute 'quiet', such "
        "as '22-7' or '22:30-06:15', in the time zone of its attribute 'tz', UTC without one.",
    )

    @model_validator(mode="after")
    def _check_enough(self) -> Self:
        for name in ("device_frames", "device_messages", "publisher_items"):
            if getattr(self, name) == 1:
                raise ValueError(
                    f"{name} is 0, for no limit, or at least 2: half of it can be spent at once"
                )
        return self
