"""The Python client as a program, for `check-device --command`; docs/check-device.md shows the same."""

import argparse
import json
import ssl
from pathlib import Path

from devices.client import FeedClient

parser = argparse.ArgumentParser()
parser.add_argument("host")
parser.add_argument("port", type=int)
parser.add_argument("device")
parser.add_argument("state", type=Path)
parser.add_argument("--keep-alive", type=int, default=60)
parser.add_argument("--reconnect-after", type=float, default=2.0)
parser.add_argument("--outside", action="store_true")
parser.add_argument("--ca")
parser.add_argument("--username")
parser.add_argument("--password")
options = parser.parse_args()

with FeedClient(
    options.device,
    host=options.host,
    port=options.port,
    state=options.state,
    keep_alive=options.keep_alive,
    outside_broker=options.outside,
    reconnect_after=options.reconnect_after,
    username=options.username,
    password=options.password,
    tls=None if options.ca is None else ssl.create_default_context(cafile=options.ca),
) as feed:
    while True:
        if feed.wait_for_change(60.0):
            window = [{"n": item.n, "payload": item.payload} for item in feed.window]
            print(json.dumps({"window": window}), flush=True)  # noqa: T201 - what the check compares
