"""What `check-config` says about a configuration that leaves the door open."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config import Config
from broker.insecurities import insecurities

TLS = {"bind": "0.0.0.0:8883", "certificate": Path("c.pem"), "key": Path("k.pem")}
SAFE = {"bind": "off", "tls": TLS}


def found(**settings: object) -> list[str]:
    """The settings that are reported, in order."""
    return [each.setting for each in insecurities(Config(**settings), files=False)]


def test_a_server_that_only_this_machine_reaches_is_safe_as_it_comes():
    assert found() == []
    assert found(open=True, topics={"write": ("#",)}) == []


def test_an_encrypted_server_with_closed_registration_is_safe():
    assert found(**SAFE) == []
    assert found(bind="127.0.0.1:1883", tls=TLS) == []


@pytest.mark.parametrize(
    ("settings", "reported"),
    [
        ({"bind": "0.0.0.0:1883"}, ["bind", "tls.bind"]),
        ({"bind": "0.0.0.0:1883", "tls": TLS}, ["bind"]),
        ({"bind": "0.0.0.0:1883", "open": True, "tls": TLS}, ["bind", "open"]),
        (SAFE | {"open": True}, ["open"]),
        (SAFE | {"topics": {"read": ("#",)}}, ["topics.read"]),
        (SAFE | {"topics": {"write": ("+", "+/+/#")}}, ["topics.write"]),
        (SAFE | {"topics": {"write": ("home/#",)}}, []),
        (SAFE | {"topics": {"write": ("#",), "enabled": False}}, []),
        (SAFE | {"auth": {"login_failures": 0}}, ["auth.login_failures"]),
        (SAFE | {"auth": {"login_failures": 5_000}}, ["auth.login_failures"]),
        (SAFE | {"auth": {"login_refill": 6_000}}, ["auth.login_refill"]),
        (SAFE | {"token": {"key": "t.pem", "algorithm": "EdDSA"}}, ["token.audience"]),
        (SAFE | {"token": {"key": "t.pem", "algorithm": "EdDSA", "audience": "x"}}, []),
        (SAFE | {"limits": {"session_expiry": 31 * 86_400}}, ["limits.session_expiry"]),
        (SAFE | {"http": {"bind": "127.0.0.1:9464", "send": True}}, []),
        (SAFE | {"http": {"bind": "0.0.0.0:9464", "token_file": "t"}}, ["http.bind"]),
        (
            SAFE | {"http": {"bind": "0.0.0.0:9464", "token_file": "t", "send": True}},
            ["http.bind", "http.send"],
        ),
        (SAFE | {"log_level": "debug"}, ["log_level"]),
        (SAFE | {"store": {"url": "redis://127.0.0.1:6379,[::1]:6380"}}, []),
        (SAFE | {"store": {"url": "rediss://user:secret@redis.example:6379"}}, []),
        (SAFE | {"store": {"url": "redis://user:secret@redis.example:6379"}}, ["store.url"]),
        (SAFE | {"store": {"url": "redis+cluster://127.0.0.1:1,10.0.0.2:1"}}, ["store.url"]),
    ],
)
def test_each_weakness_is_named_by_its_setting(settings, reported):
    assert found(**settings) == reported


def test_each_says_what_it_is_and_what_to_do_in_one_sentence():
    config = Config(bind="0.0.0.0:1883", open=True, auth={"login_failures": 0}, log_level="debug")
    for each in insecurities(config, files=False):
        assert str(each).startswith(f"{each.setting} = {each.value}: ")
        assert each.advice.endswith(".")
        assert ". " not in each.advice


@pytest.fixture
def files(tmp_path: Path):
    """A data directory, a TLS key and a token secret, with these modes."""

    def make(data: int, key: int, secret: int, content: bytes = b"s" * 32 + b"\n") -> Config:
        (tmp_path / "data").mkdir()
        (tmp_path / "key.pem").touch()
        (tmp_path / "secret").write_bytes(content)
        for name, mode in (("data", data), ("key.pem", key), ("secret", secret)):
            (tmp_path / name).chmod(mode)
        return Config(
            bind="off",
            data=tmp_path / "data",
            tls=TLS | {"key": tmp_path / "key.pem"},
            token={"key": tmp_path / "secret", "algorithm": "HS256", "audience": "x"},
        )

    return make


@pytest.mark.parametrize(
    ("modes", "reported"),
    [
        ((0o700, 0o600, 0o600), []),
        ((0o700, 0o640, 0o640), []),  # a group may share a key
        ((0o750, 0o600, 0o600), ["data"]),
        ((0o700, 0o644, 0o600), ["tls.key"]),
        ((0o700, 0o620, 0o604), ["tls.key", "token.key"]),
    ],
)
def test_files_that_other_users_may_use_are_named(files, modes, reported):
    assert [each.setting for each in insecurities(files(*modes))] == reported


def test_a_short_shared_secret_is_named_and_not_shown(files):
    (each,) = insecurities(files(0o700, 0o600, 0o600, b"hunter2\n"))
    assert each.setting == "token.key"
    assert "7 bytes" in str(each)
    assert "hunter2" not in str(each)


def test_files_that_are_missing_are_no_weakness(tmp_path: Path):
    missing = tmp_path / "none"
    token = {"key": missing, "algorithm": "HS256", "audience": "x"}
    config = Config(bind="off", data=missing, tls=TLS | {"key": missing}, token=token)
    assert insecurities(config) == ()


def test_a_public_token_key_may_be_read_by_all(tmp_path: Path):
    (tmp_path / "public.pem").touch(mode=0o644)
    token = {"key": tmp_path / "public.pem", "algorithm": "EdDSA", "audience": "x"}
    assert insecurities(Config(**SAFE | {"token": token, "data": tmp_path / "none"})) == ()


def test_the_password_of_the_store_is_not_repeated():
    config = Config(store={"url": "redis://user:secret@redis.example:6379"})
    (each,) = insecurities(config, files=False)
    assert "redis.example" in str(each)
    assert "secret" not in str(each) + repr(config)
