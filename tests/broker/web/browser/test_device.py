"""The page of a device as a browser shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

from devices.frames import Profile
from tests.broker.support import eventually, item
from tests.broker.web.browser.conftest import tab, tile
from tests.broker.web.browser.support import assert_fits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from playwright.async_api import Browser

    from tests.broker.support import Served
    from tests.broker.web.browser.conftest import Tab


async def test_a_device_shows_how_it_does_and_what_it_follows(site: Served, look: Tab) -> None:
    device = await site.subscribed("kitchen")
    await device.tell(Profile(follow=("alerts/#",), unfollow=("#",), attrs={"region": "ca"}))
    page = await look.open(site, "/device/kitchen")

    await expect(page.locator("h1")).to_have_text("kitchen")
    await expect(page.locator("#standing")).to_contain_text("Up to date")
    await expect(tile(page, "Packet")).to_have_text("256B")
    await expect(page.locator("#profile")).to_contain_text("alerts/#")
    await expect(page.locator("#profile")).to_contain_text("region = ca")
    await expect(page.locator("#window")).to_contain_text("Its window is empty")
    await expect(page.locator("#frames")).to_contain_text("No frame has passed yet")
    await expect(page.locator("#top .line")).to_have_text("live")
    assert await page.title() == "kitchen · fleetfeed"


async def test_what_is_left_of_hourly_budgets_is_told_of_frames_and_of_bytes(
    serve: Callable[..., Awaitable[Served]], look: Tab
) -> None:
    site = await serve(budgets__device_frames=16, budgets__device_bytes=2_000)
    device = await site.subscribed("kitchen")
    await site.publish(item("a", "fog"))
    await device.shows("fog")
    page = await look.open(site, "/device/kitchen")
    left = site.server.service.describe("kitchen")["allowance"]
    assert 0 < left["frames"]["left"] < 8
    assert 0 < left["bytes"]["left"] < 1_000
    budgets = page.locator("#allowed .budget")
    frames = f"16 frames{left['frames']['left']} left of 8 that it may be sent at once"
    octets = re.compile("2.0 kB *9[0-9]{2} B left of 1.0 kB")  # some come back each second
    await expect(budgets).to_have_text([frames, octets])


async def test_frames_are_told_in_words_as_they_pass(site: Served, look: Tab) -> None:
    device = await site.subscribed("kitchen")
    page = await look.open(site, "/device/kitchen")
    await expect(page.locator("#top .line")).to_have_text("live")

    await site.publish(item("a", "fog on the coast", 2))
    publish = await device.publish()
    row = page.locator("ol.frames > li").first
    await expect(row.locator(".does")).to_have_text("puts high “fog on the coast” at place 1")
    await expect(row.locator(".ack")).to_contain_text("waiting")
    await expect(tile(page, "Under way")).to_have_text("1of 4")

    await device.acknowledge(publish)
    await expect(row.locator(".ack")).to_contain_text("acknowledged after")
    await expect(tile(page, "Under way")).to_have_text("0of 4")

    await site.publish({"id": "a", "retract": True})
    await expect(row.locator(".does")).to_have_text("removes “fog on the coast” from place 1")
    await expect(page.locator("ol.frames > li")).to_have_count(2)


async def test_every_item_says_why_it_has_its_rank(
    serve: Callable[..., Awaitable[Served]], look: Tab
) -> None:
    site = await serve(ranking__model="newest")
    await site.publish(item("a", "later"), item("b", "first", 2))
    await site.subscribed("kitchen")
    page = await look.open(site, "/device/kitchen")

    rows = page.locator("ol.why > li")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("first")
    await expect(rows.first.locator(".parts i.c1")).to_have_attribute(
        "title", "+12 h: its priority"
    )
    await expect(page.locator("#window .legend")).to_contain_text("its priority")

    await rows.first.locator("summary").click()
    await expect(rows.first).to_contain_text("+12 h its priority")
    await site.publish(item("c", "new"))
    await expect(rows).to_have_count(3)
    # What was unfolded stays so when the window changes, and who is at it by keyboard stays there.
    await expect(rows.first.locator("details")).to_have_attribute("open", "")
    await expect(rows.first.locator("summary")).to_be_focused()
    await rows.first.get_by_role("link", name="Its receipt").click()
    await expect(page.locator("h1")).to_have_text("b")


async def test_what_publishers_and_devices_say_stays_text(site: Served, look: Tab) -> None:
    device = await site.subscribed("kitchen")
    page = await look.open(site, "/device/kitchen")
    await expect(page.locator("#top .line")).to_have_text("live")
    markup = "<img src=x onerror=alert(1)><b>bold</b>"
    await device.tell(Profile(attrs={"name": markup}))
    await site.publish(item("a", markup), channel="<i>")
    await device.shows(markup)

    await expect(page.locator("#window .payload").first).to_have_text(markup)
    await expect(page.locator("ol.frames .does").first).to_contain_text(markup)
    await expect(page.locator("#profile")).to_contain_text(markup)
    assert await page.locator("main img, main dd b, main .payload b").count() == 0


async def test_a_page_costs_the_server_nothing_once_nobody_sees_it(site: Served, look: Tab) -> None:
    await site.subscribed("kitchen")
    page = await look.open(site, "/device/kitchen")
    await expect(page.locator("#top .line")).to_have_text("live")
    tap = site.server.service.sending.tap
    assert tap is not None

    await look.open(site, "/items")
    # The tap lingers for whoever comes back, but nothing is told any more.
    await eventually(lambda: watching(site), lambda found: found == 0)


def watching(site: Served) -> int:
    """Connections to the port for operators on which a stream is open."""
    assert site.server.web is not None
    tasks = site.server.web._state.tasks
    return sum(not task.done() for task in tasks)


async def test_a_device_that_is_not_there_is_told_to_be_none(
    site: Served, browser: Browser
) -> None:
    async with tab(browser) as look:  # the browser itself complains about the answer
        page = await look.open(site, "/device/nobody")

        await expect(page.locator("main")).to_contain_text("No such device")
        await expect(page.locator("main")).to_contain_text("there is no device 'nobody'")


async def test_a_device_that_is_removed_is_told_to_be_gone(site: Served, look: Tab) -> None:
    await site.subscribed("kitchen")
    page = await look.open(site, "/device/kitchen")
    await expect(page.locator("#top .line")).to_have_text("live")
    await site.command("device.remove", device="kitchen")

    await expect(page.locator("main")).to_contain_text("This device is gone")


async def test_a_device_is_found_by_a_part_of_its_id(site: Served, look: Tab) -> None:
    for name in ("kitchen-1", "kitchen-2", "lobby"):
        await site.command("device.add", device=name)
    page = await look.open(site, "/device")
    await expect(page.locator("ul.names a")).to_have_count(3)

    await page.get_by_label("Part of a device's id").fill("kit")
    await expect(page.locator("ul.names a")).to_have_text(["kitchen-1", "kitchen-2"])
    await page.get_by_label("Part of a device's id").fill("garden")
    await expect(page.locator("main")).to_contain_text("No device of that name")


async def test_it_fits_small_screens_and_wide_ones(site: Served, browser: Browser) -> None:
    name = "a-device-with-a-rather-long-name-as-serial-numbers-are:00:11:22"
    device = await site.subscribed(name)
    async with tab(browser, color_scheme="dark") as look:
        page = await look.open(site, f"/device/{name}")
        await expect(page.locator("#top .line")).to_have_text("live")
        await site.publish(
            item("a", "a long line without an end " * 4, 3), item("b", "Donaudampfschiff" * 6)
        )
        await device.frame()
        await expect(page.locator("ol.why > li")).to_have_count(2)
        await page.locator("ol.why summary").first.click()
        await assert_fits(page)
        assert look.faults == []


async def test_a_device_that_is_removed_is_said_to_be_gone(site: Served, look: Tab) -> None:
    await site.subscribed("kitchen")
    page = await look.open(site, "/device/kitchen")
    await expect(page.locator("#standing")).to_contain_text("Up to date")
    await site.command("device.remove", device="kitchen")

    await expect(page.get_by_role("alert")).to_contain_text("This device is gone")


async def test_a_path_that_is_no_encoding_finds_no_device(site: Served, browser: Browser) -> None:
    async with tab(browser) as look:  # the browser itself tells of the server's 400
        page = await look.open(site, "/device/%")
        await expect(page.get_by_role("alert")).to_contain_text("No such device")
