"""The pages of items as a browser shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from devices.frames import Event, Feedback, Kind
from tests.broker.support import item
from tests.broker.web.browser.conftest import tab
from tests.broker.web.browser.support import assert_fits

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tests.broker.support import Served
    from tests.broker.web.browser.conftest import Tab


async def test_without_items_the_list_says_how_to_publish_one(site: Served, look: Tab) -> None:
    page = await look.open(site, "/items")

    await expect(page.locator("main")).to_contain_text("No item has been published yet")


async def test_items_show_as_they_come_and_lead_to_their_receipts(site: Served, look: Tab) -> None:
    page = await look.open(site, "/items")
    await site.publish(item("fog-1", "fog"), item("cup", "cup", 2), channel="news/local")

    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("cup")
    await expect(rows.first.locator(".tag").first).to_have_text("high")

    await page.get_by_label("Part of an id or a channel").fill("FOG")
    await expect(rows).to_have_count(1)
    assert page.url.endswith("?search=FOG")
    await page.get_by_role("link", name="fog-1").click()
    await expect(page.locator("h1")).to_have_text("fog-1")


async def test_a_search_without_a_finding_says_so(site: Served, look: Tab) -> None:
    await site.publish(item("a", "one"))
    page = await look.open(site, "/items?search=zebra")

    await expect(page.locator("main")).to_contain_text("No item of that name")


async def test_a_receipt_counts_up(site: Served, look: Tab) -> None:
    device = await site.subscribed("kitchen")
    await site.publish(item("a", "one"))
    await site.at_rest()
    page = await look.open(site, "/item/news/a")
    eligible, held, opened = (
        page.locator(f"[data-step={name}]") for name in ("eligible", "held", "opened")
    )
    await expect(eligible).to_have_text("1")
    await expect(held).to_have_text("0")

    await device.shows("one")
    await expect(held).to_have_text("1")
    await device.tell(Feedback((Event(device.number("one"), Kind.OPENED),)))
    await expect(opened).to_have_text("1")
    await expect(page.locator("main")).to_contain_text("1 frame brought it")

    await site.publish({"id": "a", "retract": True})
    await expect(page.locator("h1 + p")).to_contain_text("retracted")
    await expect(page.locator("main")).to_contain_text("Its content is gone")


async def test_a_receipt_says_why_devices_did_not_get_it(site: Served, look: Tab) -> None:
    await site.subscribed("kitchen")
    await site.publish(item("a", "one", where={"region": ["ca"]}))
    await site.at_rest()
    page = await look.open(site, "/item/news/a")

    await expect(page.locator(".lost")).to_have_text("1 their attributes do not match")


async def test_an_item_with_slashes_and_dots_in_its_id_has_a_receipt(
    site: Served, look: Tab
) -> None:
    for name in ("a/b", "..", "ü?#%"):
        await site.publish(item(name, f"here is {name}"))
    await site.at_rest()
    for name in ("a/b", "..", "ü?#%"):
        page = await look.open(site, "/items")
        await page.get_by_role("link", name=name, exact=True).click()
        await expect(page.locator(".payload.full")).to_have_text(f"here is {name}")


async def test_an_item_that_nobody_knows_has_no_receipt(site: Served, browser: Browser) -> None:
    async with tab(browser) as look:  # the browser itself complains about the answer
        page = await look.open(site, "/item/news/nothing")

        await expect(page.locator("main")).to_contain_text("nothing is known of an item 'nothing'")


async def test_they_fit_small_screens_and_wide_ones(site: Served, browser: Browser) -> None:
    await site.subscribed("kitchen")
    await site.publish(
        item("x" * 64, "a long line without an end " * 6, 3, where={"region": ["ca"]}),
        item("b", "Donaudampfschiff" * 7),
        channel="alerts/weather/north-west/mountains",
    )
    await site.at_rest()
    async with tab(browser, color_scheme="dark") as look:
        for path in ("/items", f"/item/alerts/weather/north-west/mountains/{'x' * 64}"):
            await assert_fits(await look.open(site, path))
        assert look.faults == []
