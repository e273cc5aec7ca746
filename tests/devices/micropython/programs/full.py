# ruff: noqa: T201
# MicroPython: the whole client until its window is full. Arguments: port, device, file.
import sys

from fleetfeed import OPENED, Feed
from umqtt.simple import MQTTClient

feed = Feed(MQTTClient(sys.argv[2], "127.0.0.1", int(sys.argv[1])), path=sys.argv[3])
while len(feed.window) < 8 and not feed.error:
    feed.step(1000)
feed.feedback(feed.window[0][0], OPENED)
feed.bye()
print(repr(feed.error) if feed.error else "enough")
