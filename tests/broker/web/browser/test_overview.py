"""The overview as a browser shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.broker.support import item
from tests.broker.web.browser.conftest import tab, tile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Browser

    from tests.broker.support import Device, Served
    from tests.broker.web.browser.conftest import Tab


async def test_an_empty_server_says_that_nobody_is_there(site: Served, look: Tab) -> None:
    page = await look.open(site, "/")

    await expect(page.locator("#state")).to_contain_text("Ready")
    await expect(page.locator("#worst")).to_contain_text("Nobody is here")
    await expect(page.locator("#drops")).to_contain_text("Nothing was dropped")
    await expect(page.locator("#top .line")).to_have_text("live")


async def test_devices_and_frames_show_as_they_come(
    site: Served, look: Tab, fleet: Callable[..., Awaitable[list[Device]]]
) -> None:
    page = await look.open(site, "/")
    await fleet(site, 12)
    await site.publish(*(item(f"i{each}", f"news {each}") for each in range(5)))

    await expect(tile(page, "Subscribed")).to_have_text("12")
    await expect(tile(page, "Publish to ack, p95")).to_contain_text("s")
    await expect(page.locator("#worst")).to_contain_text("All devices keep up")
    # Both charts have drawn something, and say what.
    assert await page.locator("canvas").count() == 2
    await expect(page.locator("#rates .legend")).to_contain_text("/s")
    await expect(page.locator("#latency .legend")).to_contain_text("ms")
    assert await page.title() == "fleetfeed, 12 devices"


async def test_a_device_that_acknowledges_nothing_stands_among_the_worst(
    serve: Callable[..., Awaitable[Served]], look: Tab
) -> None:
    site = await serve(feed__stall_after=1)
    device = await site.subscribed("meter-7")
    await site.publish(item("a", "one"))
    await device.frame(ack=False)
    page = await look.open(site, "/")

    row = page.locator("#worst tbody tr")
    await expect(row).to_contain_text("stalled")
    await expect(row.locator("a")).to_have_attribute("href", "/device/meter-7")


async def test_drops_are_told_in_words(site: Served, look: Tab) -> None:
    await site.publish(b'{"payload": }')
    page = await look.open(site, "/")

    await expect(page.locator("#drops tbody tr")).to_contain_text("begins as JSON and is none")


async def test_a_page_whose_server_is_gone_says_so_and_goes_on_when_it_is_back(
    site: Served, browser: Browser
) -> None:
    async with tab(browser) as look:  # the browser itself complains about a lost connection
        page = await look.open(site, "/")
        assert site.server.web is not None
        host, port = site.server.web.address
        await site.stop()
        await expect(page.locator("#lost")).to_contain_text("Lost the server, trying again.")
        await expect(page.locator("#top .line")).to_have_text("lost")
        await expect(page.locator("body.stale")).to_be_attached()

        site._settings["http.bind"] = f"{host}:{port}"
        await site.start()
        await expect(page.locator("#lost")).to_have_count(0)
        await expect(page.locator("#top .line")).to_have_text("live")
        assert all("ERR_" in fault for fault in look.faults), look.faults


async def test_a_page_that_nobody_sees_asks_for_nothing(site: Served, look: Tab) -> None:
    page = await look.open(site, "/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    await page.evaluate(HIDE, arg=True)
    await page.evaluate(HIDE, arg=False)
    await expect(page.locator("#top .line")).to_have_text("live")

    # Only when it was seen again did it listen again.
    assert [url.rpartition("/")[2] for url in asked] == ["events"]


HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def test_a_device_is_found_from_every_page(site: Served, look: Tab) -> None:
    await site.subscribed("kitchen")
    page = await look.open(site, "/")

    await page.get_by_role("searchbox").fill("kitchen")
    async with page.expect_navigation(url="**/device/kitchen"):
        await page.keyboard.press("Enter")


async def test_text_of_others_stays_text(site: Served, look: Tab) -> None:
    page = await look.open(site, "/")

    shown = await page.evaluate(
        """async () => {
          const { el } = await import("/static/common.js");
          const node = el("p", { title: "<b>" }, "<img src=x onerror=alert(1)>");
          return [node.children.length, node.textContent, node.title];
        }"""
    )
    assert shown == [0, "<img src=x onerror=alert(1)>", "<b>"]


async def test_marks_that_turn_text_around_are_named_and_not_followed(
    site: Served, look: Tab
) -> None:
    await site.publish(item("\u202eexe.cod", "a \u2067 b"))
    page = await look.open(site, "/items")

    await expect(page.get_by_role("link", name="⟨U+202E⟩exe.cod")).to_be_visible()
    await expect(page.locator(".payload")).to_have_text("a ⟨U+2067⟩ b")
    await page.get_by_role("link", name="exe.cod").click()
    await expect(page.locator("h1")).to_have_text("⟨U+202E⟩exe.cod")


@pytest.mark.parametrize("path", ["/", "/model"])
async def test_it_fits_a_small_screen_and_a_wide_one(
    site: Served, browser: Browser, path: str
) -> None:
    await site.subscribed("a-device-with-a-rather-long-name-as-serial-numbers-are:00:11:22")
    async with tab(browser, color_scheme="dark") as look:
        page = await look.open(site, path)
        for width in (360, 768, 1600):
            await page.set_viewport_size({"width": width, "height": 800})
            await expect(page.locator("canvas").first).to_be_visible()
            assert await page.evaluate(SCROLLED) <= width, await page.evaluate(BEYOND)
        assert look.faults == []


SCROLLED = "document.documentElement.scrollWidth"
BEYOND = """[...document.querySelectorAll("main *")]
  .filter(each => each.scrollWidth > each.clientWidth && getComputedStyle(each).overflowX === "visible")
  .map(each => `${each.tagName} ${each.id} ${each.className}`)"""
