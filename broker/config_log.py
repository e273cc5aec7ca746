"""The settings of the log."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LogSettings(BaseModel):
    """The log on stderr; log_level says how much of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["text", "json"] = Field(
        default="text",
        description="'text' for people, 'json' for programs: one object on each line, with time, level, "
        "logger, message, and device, seq and reason where they are known.",
    )
    burst: int = Field(
        default=20,
        ge=1,
        le=100_000,
        description="Lines of one kind of message (whatever is filled in) that may follow each other "
        "without a limit.",
    )
    per_minute: float = Field(
        default=60.0,
        ge=0.1,
        le=1_000_000,
        description="Lines per minute of one kind beyond that; the others are left out, and the next "
        "line says how many.",
    )
