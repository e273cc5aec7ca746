"""Files for browsers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from broker.web.files import DIRECTORY, files

Open = Callable[..., Awaitable[httpx.AsyncClient]]


def test_every_kind_of_file_is_known_by_its_name() -> None:
    for name, file in files().items():
        plain = Path(name).suffix in {"", ".md", ".txt"}
        assert (file.media_type == "text/plain") is plain, name


async def test_a_file_is_sent_once_and_then_only_confirmed(open_page: Open) -> None:
    client = await open_page()
    first = await client.get("/static/style.css")
    assert first.headers["Content-Type"] == "text/css; charset=utf-8"
    assert first.content == (DIRECTORY / "style.css").read_bytes()
    tag = first.headers["ETag"]
    for known in (tag, f'"other", W/{tag}'):
        again = await client.get("/static/style.css", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
    other = await client.get("/static/style.css", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/", "/static/x"],
)
async def test_nothing_but_these_files_can_be_asked_for(open_page: Open, path: str) -> None:
    client = await open_page()
    answer = await client.send(httpx.Request("GET", f"{str(client.base_url).rstrip('/')}{path}"))
    assert answer.status_code == 404


class Inline(HTMLParser):
    """Finds what the policy of contents would keep from working."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.found += [
            f"{tag} {name}" for name in named if name == "style" or name.startswith("on")
        ]
        if tag == "style" or (tag == "script" and "src" not in named):
            self.found.append(tag)
        for name in ("src", "href"):
            if (named.get(name) or "/").startswith(
                ("http:", "https:", "//", "data:", "javascript:")
            ):
                self.found.append(f"{tag} {name}")


def test_no_page_has_anything_inline_or_from_elsewhere() -> None:
    for name, file in files().items():
        if file.media_type == "text/html":
            inline = Inline()
            inline.feed(file.content.decode())
            assert inline.found == [], name


def test_every_file_that_a_page_names_is_there() -> None:
    for name, file in files().items():
        if file.media_type == "text/html":
            named = file.content.decode().split("/static/")[1:]
            for each in named:
                assert each.partition('"')[0] in files(), f"{name}: {each[:30]}"
