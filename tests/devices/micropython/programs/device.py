# ruff: noqa: T201
# MicroPython: a device that does what a test says on its standard input and reports each change.
# Its one argument is JSON: port, device, robust (or simple), user, password, and feed, what Feed takes.
import json
import select
import sys

from fleetfeed import Feed

config = json.loads(sys.argv[1])
if config.get("robust"):
    from umqtt.robust import MQTTClient
else:
    from umqtt.simple import MQTTClient


def say(what, value):
    print(json.dumps([what, value]))


def window():
    return [[n, payload] for n, _, _, payload in feed.window]


mqtt = MQTTClient(
    config["device"], "127.0.0.1", config["port"], config.get("user"), config.get("password")
)
feed = Feed(mqtt, **config.get("feed", {}))
orders = select.poll()
orders.register(sys.stdin, select.POLLIN)
error = None
say("window", window())
while True:
    if feed.step(20):
        say("window", window())
    if feed.error is not error:
        error = feed.error
        say("error", repr(error))
    if orders.poll(0):
        line = sys.stdin.readline()
        if not line:
            break
        do, *values = json.loads(line)
        getattr(feed, do)(*values)
        if do == "bye":
            break
        if do == "feedback":
            say("dropped", feed.dropped)
