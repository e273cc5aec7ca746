"""Logging in, with a real browser."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from broker.run.reload import ServerTarget
from tests.broker.support import Served
from tests.broker.web.browser.conftest import Tab, tab

TOKEN = "a-token-of-thirty-two-characters"

Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    return str(file)


def change(file: str, token: str) -> None:
    """Another token is in the file from now on."""
    Path(file).write_text(token)


async def log_in(page: Page, served: Served) -> None:
    """Shows the token, and waits for the overview."""
    assert served.server.web is not None
    await page.goto(f"{served.server.web.url}login")
    await page.get_by_label("The token of this server").fill(TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await page.wait_for_selector("body[data-shown]")


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
    await log_in(page, served)
    await expect(page).to_have_url(url)
    (cookie,) = await page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert await page.evaluate("document.cookie") == ""
    await page.goto(f"{url}items")
    await page.wait_for_selector("body[data-shown]")
    assert served.count("dropped", "http_wrong_token") == 1


async def test_whoever_logs_out_has_to_log_in_again(
    serve: Serve, look: Tab, token_file: str
) -> None:
    served = await serve(http__token_file=token_file)
    page = look.page
    await log_in(page, served)
    for width in (360, 1280):
        await page.set_viewport_size({"width": width, "height": 800})
        await expect(page.get_by_role("button", name="Log out")).to_be_in_viewport()
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("The token of this server")).to_be_visible()
    assert await page.context.cookies() == []
    assert served.server.web is not None
    await page.goto(f"{served.server.web.url}items")
    await expect(page).to_have_url(re.compile("/login$"))


async def test_a_page_that_watches_is_led_to_the_form_when_the_token_is_another_one(
    serve: Serve, browser: Browser, token_file: str
) -> None:
    served = await serve(http__token_file=token_file)
    async with tab(browser) as look:  # the browser itself complains when its stream ends
        page = look.page
        await log_in(page, served)
        await expect(page.locator("#top .line")).to_have_text("live")
        change(token_file, "another-token-of-many-characters")
        server = served.server
        ServerTarget(server).prepare(server.config)()
        await expect(page).to_have_url(re.compile("/login$"))


async def test_where_no_token_is_needed_nobody_can_log_out(serve: Serve, look: Tab) -> None:
    page = await look.open(await serve(), "/")
    await expect(page.get_by_role("button", name="Log out")).to_have_count(0)


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
