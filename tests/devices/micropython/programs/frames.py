# ruff: noqa: T201
# MicroPython: a replica that a test feeds line by line; each answer is one line of JSON.
import json
import sys

from feedreplica import Replica
from feedwire import encode


def shown(payload):
    return ["b", payload.hex()] if isinstance(payload, bytes) else ["s", payload.encode().hex()]


replica = Replica()
while True:
    line = sys.stdin.readline()
    if not line:
        break
    do, _, rest = line.strip().partition(" ")
    if do == "new":
        replica = Replica(int(rest))
        answer = None
    elif do == "frame":
        word = replica.receive(bytes.fromhex(rest))
        window = [
            [n, expires, priority, shown(what)] for n, expires, priority, what in replica.window
        ]
        answer = [word, replica.epoch, replica.seq, replica.k, window]
    elif do == "kept":
        answer = b"".join(list(replica._snapshot())).hex()
    elif do == "encode":
        answer = encode(eval(rest)).hex()
    print(json.dumps(answer))
