"""Who logs in as whom."""

from __future__ import annotations

from devices.packets import Connect
from simulator.access import OPEN, Access


def test_a_device_with_a_secret_logs_in_as_itself_and_the_others_as_the_user() -> None:
    access = Access(user="staging", password="of all", secrets={"oven-1": "its own"})
    assert access.login("oven-1") == ("oven-1", "its own")
    assert access.login("oven-2") == ("staging", "of all")
    assert OPEN.login("oven-1") is None


def test_clients_that_are_no_devices_are_the_user() -> None:
    signed = Access(user="staging", password="of all").signed(Connect("news@simulator"))
    assert (signed.client_id, signed.username, signed.password) == (
        "news@simulator",
        "staging",
        b"of all",
    )
    assert OPEN.signed(Connect("news@simulator")) == Connect("news@simulator")


def test_no_repr_shows_a_password_or_a_secret() -> None:
    access = Access(user="staging", password="of all", secrets={"oven-1": "its own"})
    assert "of all" not in repr(access)
    assert "its own" not in repr(access)
