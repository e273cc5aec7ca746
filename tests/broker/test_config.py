from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from broker.config import (
    AuthSettings,
    Config,
    FeedSettings,
    LimitSettings,
    TlsSettings,
    TokenSettings,
    TopicSettings,
    is_loopback,
)
from broker.config_layers import InvalidConfig, Origin, example, load, resolve

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def toml(tmp_path):
    """Write a configuration file."""

    def write(text: str) -> Path:
        file = tmp_path / "fleetfeed.toml"
        file.write_text(text)
        return file

    return write


# The model


def test_the_defaults_listen_on_loopback_and_are_open_to_new_devices():
    config = Config()
    assert (config.host, config.port) == ("127.0.0.1", 1883)
    assert config.open_mode


def test_constructing_a_config_reads_no_environment(monkeypatch):
    monkeypatch.setenv("FLEETFEED_BIND", "127.0.0.1:7")
    monkeypatch.setenv("FLEETFEED_FEED__MAX_INFLIGHT", "7")
    assert Config() == Config(bind="127.0.0.1:1883", feed=FeedSettings(max_inflight=4))


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError):
        Config().bind = "0.0.0.0:1883"


@pytest.mark.parametrize(
    ("bind", "host", "port", "open_mode"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0, True),
        ("127.8.8.8:1883", "127.8.8.8", 1883, True),
        ("localhost:1883", "localhost", 1883, True),
        ("[::1]:1883", "::1", 1883, True),
        ("0.0.0.0:1883", "0.0.0.0", 1883, False),
        ("[::]:65535", "::", 65535, False),
        ("feed.example:1883", "feed.example", 1883, False),
    ],
)
def test_bind_gives_host_and_port_and_decides_on_open_registration(bind, host, port, open_mode):
    config = Config(bind=bind)
    assert (config.host, config.port, config.open_mode) == (host, port, open_mode)


@pytest.mark.parametrize(
    "bind",
    ["", "1883", ":1883", "host", "host:", "host:x", "host:65536", "::1:1883", "a b:1", "h:²"],
)
def test_a_bind_that_is_no_address_and_port_is_refused(bind):
    with pytest.raises(ValidationError, match="an address and a port"):
        Config(bind=bind)


FILES = {"certificate": Path("c.pem"), "key": Path("k.pem")}


@pytest.mark.parametrize(
    ("bind", "tls", "loopback", "open_mode"),
    [
        ("127.0.0.1:1883", "127.0.0.1:8883", True, True),
        ("127.0.0.1:1883", "0.0.0.0:8883", False, False),
        ("0.0.0.0:1883", "127.0.0.1:8883", False, False),
        ("off", "127.0.0.1:8883", True, False),
        ("off", "[::]:8883", False, False),
    ],
)
def test_registration_is_open_only_if_no_port_leaves_the_machine(bind, tls, loopback, open_mode):
    config = Config(bind=bind, tls={"bind": tls, **FILES})
    assert (config.loopback, config.open_mode) == (loopback, open_mode)
    assert config.plain == (bind != "off")


def test_each_port_has_an_address_or_none():
    plain = Config()
    assert (plain.plain, plain.tls.host, plain.tls.port) == (True, "", 0)
    encrypted = Config(bind="off", tls={"bind": "[::1]:8883", **FILES})
    assert (encrypted.host, encrypted.port) == ("", 0)
    assert (encrypted.tls.host, encrypted.tls.port) == ("::1", 8883)


def test_a_server_without_any_port_is_refused():
    with pytest.raises(ValidationError, match=r"with bind = 'off', tls\.bind is needed"):
        Config(bind="off")


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        (TlsSettings, {"bind": "0.0.0.0:8883"}, "needs certificate and key"),
        (TlsSettings, {"bind": "0.0.0.0:8883", "key": "k.pem"}, "needs certificate and key"),
        (TlsSettings, {"bind": "off", **FILES}, "an address and a port"),
        (TlsSettings, {"client_certificate": "required"}, "needs client_ca"),
        (TlsSettings, {"client_certificate": "optional", **FILES}, "needs client_ca"),
        (TlsSettings, {"minimum": "1.1"}, "1.2"),
        (TokenSettings, {"key": "k.pem"}, "need algorithm"),
        (TokenSettings, {"key": "k.pem", "algorithm": "none"}, "EdDSA"),
        (TokenSettings, {"leeway": -1}, "greater than or equal to 0"),
        (TokenSettings, {"audience": ""}, "at least 1 character"),
        (AuthSettings, {"login_refill": 0}, "greater than or equal to 0.1"),
        (AuthSettings, {"password_workers": 0}, "greater than or equal to 1"),
        (TopicSettings, {"read": ("a/#/b",)}, "no topic filter"),
        (TopicSettings, {"write": ("a+",)}, "no topic filter"),
        (TopicSettings, {"refused": ("",)}, "no topic filter"),
        (LimitSettings, {"session_expiry": 0}, "greater than or equal to 1"),
        (LimitSettings, {"max_sessions": -1}, "greater than or equal to 0"),
        (TopicSettings, {"max_subscriptions": 0}, "greater than or equal to 1"),
        (TopicSettings, {"max_inflight": 0}, "greater than or equal to 1"),
        (TopicSettings, {"max_queued": 0}, "greater than or equal to 1"),
        (TopicSettings, {"max_queued_bytes": 1_023}, "greater than or equal to 1024"),
    ],
)
def test_settings_that_cannot_work_are_refused(section, values, says):
    with pytest.raises(ValidationError, match=re.escape(says)):
        section(**values)


def test_what_every_client_may_do_is_unset_or_a_list_that_may_be_empty():
    assert TopicSettings().read is None
    assert TopicSettings(read=()).read == ()
    deep = ("$SYS/" + "a/" * 100 + "#",)
    assert TopicSettings(refused=deep).refused == deep


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("x", False)],
)
def test_loopback_is_what_only_this_machine_reaches(host, local):
    assert is_loopback(host) is local


@pytest.mark.parametrize("open_", [True, False])
def test_open_as_set_wins_over_what_bind_suggests(open_):
    assert Config(bind="0.0.0.0:1883", open=open_).open_mode is open_
    assert Config(bind="127.0.0.1:1883", open=open_).open_mode is open_


@pytest.mark.parametrize(
    ("written", "meant"), [("", ""), ("site1", "site1/"), ("site1/", "site1/"), ("a/b", "a/b/")]
)
def test_a_prefix_ends_with_a_slash(written, meant):
    assert FeedSettings(prefix=written).prefix == meant


@pytest.mark.parametrize("prefix", ["$SYS", "/", "a/+", "#", "a\0"])
def test_a_prefix_that_is_no_plain_topic_is_refused(prefix):
    with pytest.raises(ValidationError, match="plain topic levels"):
        FeedSettings(prefix=prefix)


@pytest.mark.parametrize("filter_", ["", "a#", "#/a", "a+/b", "/".join("123456789"), "x" * 129])
@pytest.mark.parametrize("name", ["default_follow", "permitted"])
def test_what_is_no_filter_over_channels_is_refused(name, filter_):
    with pytest.raises(ValidationError, match="no filter over channels"):
        FeedSettings(**{name: (filter_,)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_inflight", 0),
        ("max_inflight", 9),
        ("qos_by_priority", (0, 1, 1)),
        ("qos_by_priority", (0, 1, 1, 3)),
        ("away_after", float("nan")),
        ("away_after", float("inf")),
        ("hello_wait", -1),
        ("attributes", ("",)),
        ("attributes", ("ü" * 33,)),
    ],
)
def test_a_value_out_of_bounds_is_refused(name, value):
    with pytest.raises(ValidationError):
        FeedSettings(**{name: value})


def test_a_stalled_connection_is_closed_only_after_it_counts_as_stalled():
    with pytest.raises(ValidationError, match="must be above stall_after"):
        FeedSettings(stall_after=60, stall_close=60)


def test_offsets_that_fall_with_priority_are_refused():
    with pytest.raises(ValidationError, match="higher priority"):
        Config(ranking={"priority_offsets": (0, 0, 10, 5)})


# Layers


def test_flags_win_over_environment_over_file_over_default(toml):
    file = toml('bind = "127.0.0.1:1"\nloop = "asyncio"\nlog_level = "error"\n')
    environ = {"FLEETFEED_BIND": "127.0.0.1:2", "FLEETFEED_LOOP": "uvloop"}
    found = resolve(file, environ, {"bind": "127.0.0.1:3", "data": None})
    assert found.problems == ()
    assert found.values["bind"] == ("127.0.0.1:3", Origin("flag", "--bind"))
    assert found.values["loop"] == ("uvloop", Origin("env", "FLEETFEED_LOOP"))
    assert found.values["log_level"] == ("error", Origin("file", str(file)))
    assert found.values["data"] == (Path("fleetfeed-data"), Origin())
    assert found.config == Config(bind="127.0.0.1:3", log_level="error")


def test_one_section_is_merged_from_file_and_environment(toml):
    file = toml("[feed]\nmax_inflight = 2\nhello_wait = 3\n")
    config = load(file, {"FLEETFEED_FEED__MAX_INFLIGHT": "8"}, {})
    assert config.feed == FeedSettings(max_inflight=8, hello_wait=3)


@pytest.mark.parametrize("text", ["0,1, 2,1", "[0, 1, 2, 1]"])
def test_a_list_in_the_environment_is_json_or_separated_by_commas(text):
    config = load(None, {"FLEETFEED_FEED__QOS_BY_PRIORITY": text}, {})
    assert config.feed.qos_by_priority == (0, 1, 2, 1)


def test_filters_in_the_environment_may_be_one_or_several():
    config = load(
        None,
        {"FLEETFEED_FEED__PERMITTED": "news/#", "FLEETFEED_FEED__DEFAULT_FOLLOW": "news/a, news/b"},
        {},
    )
    assert config.feed.permitted == ("news/#",)
    assert config.feed.default_follow == ("news/a", "news/b")


def test_lists_that_may_be_unset_come_from_the_environment_too():
    config = load(None, {"FLEETFEED_TOPICS__READ": "a/#, b", "FLEETFEED_TOPICS__WRITE": "[]"}, {})
    assert config.topics == TopicSettings(read=("a/#", "b"), write=())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('bind = "off"', "With bind = 'off', tls.bind is needed"),
        (
            '[tls]\nbind = "0.0.0.0:8883"',
            "tls: an encrypted port (bind) needs certificate and key.",
        ),
        ("[feed]\nstall_close = 3\nhello_wait = 9", "feed: stall_close (3) must be above"),
        (
            '[topics]\nread = ["home/#", "$SYS/#"]',
            "'$SYS/#' in topics.read would give nothing: of what begins with '$', operators",
        ),
        (
            '[feed]\nprefix = "site"\n[topics]\nwrite = ["site/items/news"]',
            "'site/items/news' in topics.write would give nothing: site/items/, site/f/, site/u/ are",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_said_to_be_so_without_their_values(toml, text, says):
    (problem,) = resolve(toml(text), {}, {}).problems
    assert problem.startswith(says)


def test_an_empty_variable_counts_as_unset():
    assert load(None, {"FLEETFEED_OPEN": "", "FLEETFEED_FEED__HELLO_WAIT": ""}, {}) == Config()


def test_all_problems_are_reported_at_once_each_with_its_origin(toml):
    file = toml("[feed]\nmax_inflight = 9\nqos_by_priority = [0, 1, 1, 7]\n")
    environ = {"FLEETFEED_LOOP": "trio"}
    with pytest.raises(InvalidConfig) as caught:
        load(file, environ, {"bind": "nowhere"})
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert f"feed.max_inflight = 9 (file {file}): should be less than or equal to 8." in text
    assert f"feed.qos_by_priority = 7 (file {file})" in text
    assert "loop = 'trio' (env FLEETFEED_LOOP): should be 'uvloop' or 'asyncio'." in text
    assert "bind = 'nowhere' (flag --bind)" in text


def test_an_invalid_configuration_still_shows_its_values(toml):
    found = resolve(toml("[feed]\nmax_inflight = 9\nmax_infligth = 1"), {}, {})
    assert found.config is None
    assert found.values["feed.max_inflight"][0] == 9
    assert found.values["feed.max_infligth"][1].layer == "file"
    assert found.values["loop"] == ("uvloop", Origin())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('bnid = "x"', "bnid (file {}) is no setting; did you mean bind?"),
        (
            "max_inflight = 3",
            "max_inflight (file {}) is no setting; did you mean feed.max_inflight?",
        ),
        ("[feed]\ntau = 3", "feed.tau (file {}) is no setting; did you mean ranking.tau?"),
        ("[fed]", "fed (file {}) is no setting"),
        ("[feed.deeper]\nx = 1", "feed.deeper.x (file {}) is no setting."),
        ("zzz = 1", "zzz (file {}) is no setting."),
        ("feed = 3", "feed = 3 (file {}): should be a valid dictionary"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_probably_meant(toml, text, says):
    file = toml(text)
    (problem,) = resolve(file, {}, {}).problems
    assert problem.startswith(says.format(file))


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        (
            "FLEETFEED_BNID",
            "FLEETFEED_BNID in the environment is no setting; did you mean FLEETFEED_BIND?",
        ),
        ("FLEETFEED_FEED__MAX_INFLIGTH", "did you mean feed.max_inflight?"),
        ("FLEETFEED_FED__PREFIX", "did you mean FLEETFEED_FEED__PREFIX?"),
        ("fleetfeed_what", "fleetfeed_what in the environment is no setting."),
    ],
)
def test_an_unknown_variable_is_refused_too(variable, says):
    (problem,) = resolve(None, {variable: "1"}, {}).problems
    assert says in problem


def test_variables_that_kubernetes_makes_for_a_service_are_nobodys_fault():
    environ = {
        "FLEETFEED_PORT": "tcp://10.0.0.1:1883",
        "FLEETFEED_PORT_1883_TCP_ADDR": "10.0.0.1",
        "FLEETFEED_SERVICE_HOST": "10.0.0.1",
        "FLEETFEED_SERVICE_PORT_MQTT": "1883",
    }
    assert load(None, environ, {}) == Config()


def test_a_section_given_as_one_variable_is_json():
    assert load(None, {"FLEETFEED_LIMITS": '{"max_packet": 5000}'}, {}).limits == LimitSettings(
        max_packet=5000
    )
    assert resolve(None, {"FLEETFEED_LIMITS": "{broken"}, {}).problems


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"bind = ", "is no valid TOML"), (b'bind = "\xff"', "is no valid TOML")],
)
def test_a_file_that_is_no_toml_is_a_problem_and_no_crash(tmp_path, content, says):
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    (problem,) = resolve(file, {}, {}).problems
    assert str(file) in problem
    assert says in problem


def test_a_missing_file_is_a_problem(tmp_path):
    (problem,) = resolve(tmp_path / "none.toml", {}, {}).problems
    assert problem.endswith("none.toml cannot be read: No such file or directory.")


def test_open_registration_beyond_loopback_is_warned_about():
    assert resolve(None, {}, {"bind": "0.0.0.0:1883"}).warnings == ()
    (warning,) = resolve(None, {}, {"bind": "0.0.0.0:1883", "open": True}).warnings
    assert "whoever reaches this port" in warning
    tls = {"tls.bind": "0.0.0.0:8883", "tls.certificate": "c", "tls.key": "k"}
    for bind in ("off", "127.0.0.1:1883"):
        (warning,) = resolve(None, {}, {"bind": bind, "open": True} | tls).warnings
        assert "open = true on 0.0.0.0:8883" in warning


# The example


def test_the_example_file_is_the_one_the_model_gives():
    """Renew it with: fleetfeed check-config --example > fleetfeed.example.toml."""
    assert (ROOT / "fleetfeed.example.toml").read_text() == example()


def test_the_example_changes_nothing():
    assert load(ROOT / "fleetfeed.example.toml", {}, {}) == Config()


def test_every_setting_of_the_example_uncommented_is_its_default(toml):
    text = re.sub(r"(?m)^#(?=[a-z_]+ = )", "", example())
    found = resolve(toml(text), {}, {})
    assert found.problems == ()
    assert {
        name for name, (_, origin) in found.values.items() if origin.layer == "default"
    } == set()
    differing = [
        name
        for name, (value, _) in found.values.items()
        if value != resolve(None, {}, {}).values[name][0]
    ]
    unset = {name for name, (value, _) in resolve(None, {}, {}).values.items() if value is None}
    assert set(differing) == unset


def test_every_setting_is_described():
    for section, model in ("", Config), *((name, type(value)) for name, value in Config()):
        if section in {"feed", "limits", "ranking", "topics", "tls", "auth", "token"}:
            assert model.__doc__
            assert all(info.description for info in model.model_fields.values()), section
