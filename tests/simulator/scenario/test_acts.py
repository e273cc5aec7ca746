"""Faults at work."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from simulator.facts import ServerClock
from simulator.fleet import DeviceSpec, Fleet
from simulator.scenario.acts import Acts
from simulator.scenario.loading import parse
from simulator.scenario.timeline import timeline
from tests.broker.support import eventually

if TYPE_CHECKING:
    from simulator.scenario.model import Scenario

TEXT = """
[scenario]
name = "try"
about = "To try it."
feedback = 0.02
[[class]]
name = "bulb"
[[publisher]]
name = "news"
rate = 5
[[phase]]
name = "one"
seconds = 10
[[fault]]
do = "spike"
who = {who}
at = 0
seconds = 0.2
factor = 5
"""


def scenario(who: str) -> Scenario:
    return parse(TEXT.replace("{who}", who), "try.toml")


@pytest.mark.parametrize(
    ("who", "factor"), [('"feedback"', 5), ('["news", "feedback"]', 5), ('"*"', 5), ('"news"', 1)]
)
async def test_a_spike_of_feedback_makes_devices_say_more_until_it_is_over(
    who: str, factor: int
) -> None:
    fleet = Fleet([DeviceSpec("bulb-1", kind="bulb")], host="127.0.0.1", port=1, feedback=0.02)
    nobody: Any = None  # a spike needs neither publishers nor a server
    line = timeline(scenario(who))
    acts = Acts(line, fleet, nobody, nobody, ServerClock(), {"bulb": ["bulb-1"]}, 1)
    running = asyncio.create_task(acts.run(time.monotonic()))
    await eventually(lambda: acts.working)
    assert fleet.feedback == pytest.approx(0.02 * factor)
    await running
    assert fleet.feedback == pytest.approx(0.02)
    (span,) = acts.spans
    assert span.name.startswith("spike of")


def test_a_spike_of_who_is_not_there_is_refused() -> None:
    with pytest.raises(Exception, match="there is no publisher 'noise'"):
        scenario('["noise", "feedback"]')
