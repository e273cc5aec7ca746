"""What must be there before the port opens, and the settings that say where."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from broker.config import Config, HttpSettings
from broker.config_layers import InvalidConfig, load
from broker.web import opening
from tests.broker.web.conftest import TOKEN


def test_without_the_extra_the_operator_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "_NEEDED", ("starlette", "not_there_at_all"))
    assert opening.require(HttpSettings()) is None
    with pytest.raises(InvalidConfig) as refused:
        opening.require(HttpSettings(bind="127.0.0.1:0"))
    (problem,) = refused.value.problems
    assert "not_there_at_all" in problem
    assert "pip install 'fleetfeed[web]'" in problem


def test_the_token_is_the_first_line_of_its_file(token_file: Path) -> None:
    settings = HttpSettings(bind="127.0.0.1:0", token_file=token_file)
    assert opening.require(settings) == TOKEN.encode()
    token_file.write_text(f"  {TOKEN} \nanother line\n")
    assert opening.require(settings) == TOKEN.encode()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff" * 32, "cannot be read: it is not plain ASCII"),
        (b"", "its first line must be a token of 16"),
        (b"fifteen letters", "its first line must be a token of 16"),
        (b"words that are not a token", "its first line must be a token of 16"),
    ],
)
def test_what_is_no_token_is_refused_without_being_told(
    tmp_path: Path, content: bytes | None, fault: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidConfig) as refused:
        opening.read_token(file)
    (problem,) = refused.value.problems
    assert f"http.token_file = '{file}'" in problem
    assert fault in problem
    assert not content or content.decode("latin-1") not in problem


def test_it_is_off_by_default_and_loopback_needs_no_token() -> None:
    http = Config().http
    assert (http.enabled, http.loopback, http.host, http.port) == (False, True, "", 0)
    http = HttpSettings(bind="[::1]:9464")
    assert (http.enabled, http.loopback, http.host, http.port) == (True, True, "::1", 9464)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"bind": "0.0.0.0:9464"}, "token_file is needed"),
        ({"bind": "feed.example.com:9464"}, "token_file is needed"),
        ({"bind": "9464"}, "an address and a port are needed"),
        ({"hosts": ("https://feed.example.com",)}, "is no plain host name"),
        ({"hosts": ("feed.example.com:443",)}, "is no plain host name"),
        ({"hosts": ("*.example.com",)}, "is no plain host name"),
        ({"refresh": 0.01}, "greater than or equal"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        HttpSettings(**settings)  # type: ignore[arg-type] # wrong ones are the point


def test_the_sentence_of_the_missing_token_names_the_section() -> None:
    with pytest.raises(InvalidConfig) as refused:
        load(None, {}, {"http.bind": "0.0.0.0:9464"})
    (problem,) = refused.value.problems
    assert problem.startswith("http: with bind = '0.0.0.0:9464'")
