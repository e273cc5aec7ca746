from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest

CONF = (Path(__file__).resolve().parents[2] / "mosquitto.conf").read_text()


@pytest.mark.mosquitto
def test_mosquitto_accepts_the_configuration_and_keeps_the_largest_item_for_a_sleeper(
    mosquitto, tmp_path
):
    """Run it as it is in the repository but for port and directory, which are this machine's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    # Started by root, mosquitto becomes its own user, who may not enter pytest's directories.
    text = CONF.replace("listener 1883 127.0.0.1", f"listener {port} 127.0.0.1\nuser root")
    text = text.replace("/var/lib/mosquitto/", f"{tmp_path}/")
    assert text.count(port) == text.count(f"{tmp_path}/") == 1
    conf = tmp_path / "mosquitto.conf"
    conf.write_text(text + "log_type information\n")
    server = subprocess.Popen(
        [mosquitto.server, "-c", conf], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        said = ""
        while "running" not in said:
            line = server.stderr.readline()
            assert line, said  # it ended: not accepted
            said += line
        others = said.replace("Warning: Mosquitto should not be run as root", "")
        assert "Error" not in others
        assert "Warning" not in others
        topic = ("-h", "127.0.0.1", "-p", port, "-t", "items/news", "-q", "1")
        device = [mosquitto.sub, *topic, "-c", "-i", "kitchen"]
        subprocess.run([*device, "-E"], check=True, timeout=20)
        subprocess.run([mosquitto.pub, *topic, "-m", "x" * 65_536], check=True, timeout=20)
        heard = subprocess.run([*device, "-C", "1"], check=True, timeout=20, capture_output=True)
        assert heard.stdout == b"x" * 65_536 + b"\n"
    finally:
        server.terminate()
        server.communicate(timeout=20)
    assert server.returncode == 0
    assert (tmp_path / "mosquitto.db").exists()


def test_only_loopback_is_listened_on():
    active = [
        line for line in CONF.splitlines() if re.match(r"(listener|port|bind_address)\b", line)
    ]
    assert active == ["listener 1883 127.0.0.1"]


def test_the_acl_in_the_comments_names_the_topics_of_the_protocol():
    patterns = re.findall(r"pattern (\w+) (\S+)", CONF)
    assert patterns == [("read", "f/%u"), ("write", "u/%u")]
