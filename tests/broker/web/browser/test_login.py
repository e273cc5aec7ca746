"""Logging in, with a real browser."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.broker.support import Served
from tests.broker.web.browser.conftest import Tab

TOKEN = "a-token-of-thirty-two-characters"

Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    return str(file)


async def test_whoever_has_the_token_logs_in_once_and_sees_everything(
    serve: Serve, look: Tab, token_file: str
) -> None:
    served = await serve(http__token_file=token_file)
    assert served.server.web is not None
    url = served.server.web.url
    page = look.page
    await page.goto(url)
    await expect(page).to_have_url(f"{url}login")
    await expect(page.get_by_label("The token of this server")).to_be_focused()
    await page.keyboard.type("not-the-token-of-this-server")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("That is not the token of this server.")
    await page.get_by_label("The token of this server").fill(TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_selector("body[data-shown]")
    await expect(page).to_have_url(url)
    (cookie,) = await page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert await page.evaluate("document.cookie") == ""
    await page.goto(f"{url}items")
    await page.wait_for_selector("body[data-shown]")
    assert served.count("dropped", "http_wrong_token") == 1


async def test_what_is_not_there_says_so_and_leads_back(serve: Serve, look: Tab) -> None:
    served = await serve()
    assert served.server.web is not None
    url = served.server.web.url
    answer = await look.page.goto(f"{url}nothing")
    assert answer is not None
    assert answer.status == 404
    look.faults = [each for each in look.faults if not re.search("status of 404", each)]
    await look.page.get_by_role("link", name="Go to the overview").click()
    await look.page.wait_for_selector("body[data-shown]")


@pytest.mark.parametrize("width", [360, 1600])
async def test_the_form_fits_every_screen(
    serve: Serve, look: Tab, token_file: str, width: int, tmp_path: Path
) -> None:
    served = await serve(http__token_file=token_file)
    assert served.server.web is not None
    await look.page.set_viewport_size({"width": width, "height": 700})
    await look.page.goto(f"{served.server.web.url}login?late")
    await expect(look.page.get_by_role("alert")).to_be_visible()
    await look.page.screenshot(path=tmp_path / "login.png")
    wide = await look.page.evaluate("document.documentElement.scrollWidth")
    assert wide == width
