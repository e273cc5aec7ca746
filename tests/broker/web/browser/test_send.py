"""The page that publishes an item, as a browser shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.broker.web.browser.conftest import tab
from tests.broker.web.browser.support import assert_fits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Browser

    from tests.broker.support import Served
    from tests.broker.web.browser.conftest import Tab


async def test_an_item_is_tried_out_then_sent_and_seen_to_arrive(site: Served, look: Tab) -> None:
    device = await site.subscribed("kitchen")
    page = await look.open(site, "/send?channel=news")
    send = page.get_by_role("button", name="Send", exact=True)
    await expect(send).to_be_disabled()

    await page.get_by_placeholder("What devices show").fill("fog on the coast")
    await page.get_by_label("Priority").select_option("high")
    await page.get_by_role("button", name="Who would get it?").click()
    await expect(page.locator(".big")).to_contain_text("1 of 1 device that follow the channel")
    await expect(page.get_by_role("link", name="kitchen")).to_be_visible()
    assert site.count("items", "received") == 0

    await send.click()
    await device.shows("fog on the coast")
    await expect(page.locator(".sent")).to_contain_text("Sent: page-")
    await expect(page.locator("[data-step=held]")).to_have_text("1")
    assert device.replica.window[0].priority == 2

    await page.get_by_role("button", name="Retract…").click()
    await page.get_by_role("button", name="Retract it").click()
    await device.shows()
    await expect(page.get_by_role("button", name="Retracted")).to_be_disabled()


async def test_what_was_changed_must_be_tried_out_again(site: Served, look: Tab) -> None:
    page = await look.open(site, "/send?channel=news")
    send = page.get_by_role("button", name="Send", exact=True)
    await page.get_by_placeholder("What devices show").fill("fog")
    await page.get_by_role("button", name="Who would get it?").click()
    await expect(send).to_be_enabled()

    await page.get_by_placeholder("What devices show").fill("fog, and wind")
    await expect(send).to_be_disabled()


async def test_conditions_reach_the_devices_that_they_name(site: Served, look: Tab) -> None:
    await site.subscribed("kitchen")
    page = await look.open(site, "/send?channel=news")
    await page.get_by_placeholder("What devices show").fill("fog")
    await page.locator("form details summary").click()
    await page.get_by_label("Only devices that are").fill("region=ca")
    await page.get_by_role("button", name="Who would get it?").click()

    await expect(page.locator("main")).to_contain_text("their attributes do not match")

    await page.get_by_label("Only devices that are").fill("region")
    await page.get_by_role("button", name="Who would get it?").click()
    await expect(page.get_by_role("alert")).to_contain_text("is not name=value")


async def test_what_is_no_item_is_told_under_the_form(site: Served, browser: Browser) -> None:
    async with tab(browser) as look:  # the browser itself complains about the answer
        page = await look.open(site, "/send?channel=a/%23/b")
        await page.get_by_placeholder("What devices show").fill("fog")
        await page.get_by_role("button", name="Who would get it?").click()

        await expect(page.get_by_role("alert")).to_contain_text("This is no item")
        await expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()


async def test_a_page_that_may_not_publish_says_how_to_let_it(
    serve: Callable[..., Awaitable[Served]], look: Tab
) -> None:
    site = await serve(http__send=False)
    page = await look.open(site, "/send")

    await expect(page.locator("main")).to_contain_text("This page may not publish items")
    await expect(page.locator("form.panel")).to_have_count(0)
    await expect(page.locator("#top nav")).not_to_contain_text("Send")


async def test_it_fits_small_screens_and_wide_ones(site: Served, browser: Browser) -> None:
    for each in range(3):
        await site.subscribed(f"a-device-with-a-long-name-{each}" + "x" * 30)
    async with tab(browser, color_scheme="dark") as look:
        page = await look.open(site, "/send?channel=news")
        await page.get_by_placeholder("What devices show").fill("fog")
        await page.get_by_role("button", name="Who would get it?").click()
        await expect(page.locator(".big")).to_be_visible()
        await assert_fits(page)
        assert look.faults == []
