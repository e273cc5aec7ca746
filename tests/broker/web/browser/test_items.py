"""The pages of items as a browser shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from devices.frames import Event, Feedback, Kind
from tests.broker.support import item
from tests.broker.web.browser.conftest import tab
from tests.broker.web.browser.support import WIDTHS, assert_fits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Browser, Route

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


async def test_an_item_is_retracted_after_a_question(site: Served, look: Tab) -> None:
    device = await site.subscribed("kitchen")
    await site.publish(item("a", "one"))
    await device.shows("one")
    page = await look.open(site, "/item/news/a")
    await page.get_by_role("button", name="Retract…").click()
    question = page.get_by_role("dialog")
    await expect(question).to_contain_text("1 device that shows it would lose it")
    await expect(question.get_by_role("button", name="Keep it")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(question).to_have_count(0)
    assert site.count("items", "received") == 1

    await page.get_by_role("button", name="Retract…").click()
    await page.get_by_role("button", name="Retract it").click()
    await device.shows()
    await expect(page.locator("h1 + p")).to_contain_text("retracted")
    await expect(page.get_by_role("button", name="Retract…")).to_have_count(0)


async def test_a_retraction_that_comes_too_late_is_told_in_the_question(
    site: Served, browser: Browser
) -> None:
    looks = 0

    async def only_once(route: Route) -> None:
        nonlocal looks
        looks += 1
        await (route.continue_() if looks == 1 else route.abort())

    await site.publish(item("a", "one"))
    async with tab(browser) as look:  # the browser itself complains about what is withheld
        await look.page.route("**/api/v1/item/**", only_once)
        page = await look.open(site, "/item/news/a")
        await site.publish({"id": "a", "retract": True, "ttl": 3_600})  # not as the page would
        await site.at_rest()
        await page.get_by_role("button", name="Retract…").click()
        await expect(page.get_by_role("alert")).to_contain_text("was retracted already")
        await expect(page.get_by_role("button", name="Retract it")).to_be_disabled()


async def test_where_the_page_may_not_publish_it_may_not_retract(
    serve: Callable[..., Awaitable[Served]], look: Tab
) -> None:
    site = await serve(http__send=False)
    await site.publish(item("a", "one"))
    page = await look.open(site, "/item/news/a")
    await expect(page.locator("h1")).to_have_text("a")
    await expect(page.get_by_role("button", name="Retract…")).to_have_count(0)


async def test_the_question_fits_small_screens_and_wide_ones(
    site: Served, browser: Browser
) -> None:
    await site.subscribed("kitchen")
    await site.publish(item("an-id-that-is-as-long-as-an-id-may-be-" + "x" * 26, "one"))
    async with tab(browser, color_scheme="dark") as look:
        page = await look.open(site, "/items")
        await page.get_by_role("link", name="an-id-that").click()
        await page.get_by_role("button", name="Retract…").click()
        await expect(page.get_by_role("dialog")).to_contain_text("would lose it")
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 800})
            box = await page.get_by_role("dialog").bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        await page.keyboard.press("Escape")
        await assert_fits(page)
        assert look.faults == []


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
