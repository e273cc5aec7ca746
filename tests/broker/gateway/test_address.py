from __future__ import annotations

from pathlib import Path

import pytest

from broker.gateway.address import BadAddress, BrokerAddress, parse_address


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mqtt://10.0.0.1", BrokerAddress("10.0.0.1", 1883)),
        ("mqtts://broker.example", BrokerAddress("broker.example", 8883, tls=True)),
        ("mqtt://[::1]:1884/", BrokerAddress("::1", 1884)),
        ("mqtt://feed@host:1", BrokerAddress("host", 1, user="feed")),
        ("mqtt://feed:p%40ss%3Aword@host", BrokerAddress("host", 1883, False, "feed", "p@ss:word")),
    ],
)
def test_an_address_is_read(text: str, found: BrokerAddress) -> None:
    assert parse_address(text) == found


def test_a_password_from_elsewhere_wins() -> None:
    assert parse_address("mqtt://feed:old@host", password="new").password == "new"


@pytest.mark.parametrize(
    "text",
    [
        "host:1883",
        "http://feed:hunter2@host",
        "mqtt://",
        "mqtt://feed:hunter2@host:port",
        "mqtt://feed:hunter2@host:70000",
        "mqtt://feed:hunter2@host/topic",
        "mqtt://:hunter2@host",
        "mqtt://feed:hunter2@[::1",
        "mqtt://feed:hunter2@ho st",
    ],
)
def test_a_wrong_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadAddress) as refused:
        parse_address(text)
    assert "hunter2" not in str(refused.value)


def test_authorities_are_for_encrypted_connections() -> None:
    with pytest.raises(BadAddress, match="mqtts"):
        parse_address("mqtt://host", ca=Path("ca.pem"))


def test_nothing_that_is_printed_has_the_password() -> None:
    address = parse_address("mqtts://feed:hunter2@[::1]:9999")
    assert str(address) == "mqtts://[::1]:9999"
    assert "hunter2" not in repr(address)
