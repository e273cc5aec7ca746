# ruff: noqa: ARG005, T201
# MicroPython: umqtt alone, for the memory that it takes. Arguments: port, device.
import sys

from umqtt.simple import MQTTClient

frames = []
mqtt = MQTTClient(sys.argv[2], "127.0.0.1", int(sys.argv[1]))
mqtt.set_callback(lambda topic, data: frames.append(topic))
mqtt.connect()
mqtt.subscribe("f/" + sys.argv[2], 1)
while len(frames) < 8:
    mqtt.wait_msg()
print("enough")
