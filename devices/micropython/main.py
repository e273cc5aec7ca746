# MicroPython: no packages, no pathlib, no contextlib, and modules that CPython has not.
# ruff: noqa: INP001, T201
# mypy: ignore-errors
"""An example: show a device's feed, one line of JSON for each window.

    micropython main.py HOST PORT DEVICE [FILE [KEEPALIVE [outside]]]

A board has no arguments: write them here, and join the network before.
"""

import json
import sys

from fleetfeed import Feed
from umqtt.simple import MQTTClient

host, port, device, *more = sys.argv[1:]
feed = Feed(
    MQTTClient(device, host, int(port)),
    path=more[0] if more else None,
    keepalive=int(more[1]) if len(more) > 1 else 60,
    outside="outside" in more,
)
while True:
    if feed.step(1000):
        print(json.dumps([[n, payload] for n, _, _, payload in feed.window]))
