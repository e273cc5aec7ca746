"""The page of the model as a browser shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from devices.frames import Event, Feedback, Kind
from tests.broker.support import eventually, item

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.broker.support import Served
    from tests.broker.web.browser.conftest import Tab


async def test_a_server_that_learns_nothing_says_so(
    serve: Callable[..., Awaitable[Served]], look: Tab
) -> None:
    site = await serve(ranking__model="newest")
    page = await look.open(site, "/model")

    await expect(page.locator("#instead")).to_contain_text("This server ranks by newest")
    await expect(page.locator("#all")).to_be_hidden()


async def test_a_new_model_says_what_it_does_not_know_yet(site: Served, look: Tab) -> None:
    page = await look.open(site, "/model")

    await expect(page.locator("#publishers")).to_contain_text("Nothing was shown yet")
    await expect(page.locator("#cohorts")).to_contain_text("Nothing is known yet")
    await expect(page.locator("#ladder .tag.accent")).to_have_text("serves")
    await expect(page.locator("#ladder tbody tr")).to_have_count(4)


async def test_a_rung_that_an_operator_holds_is_marked(site: Served, look: Tab) -> None:
    await site.command("ranking.pin", rung="newest")
    page = await look.open(site, "/model")

    row = page.locator("#ladder tbody tr", has_text="newest first")
    await expect(row.locator(".tag")).to_have_text("held")
    await expect(page.locator("#serving")).to_contain_text("newest first")


async def test_publishers_have_shares_once_devices_say_what_they_show(
    site: Served, look: Tab
) -> None:
    device = await site.subscribed("kitchen")
    await site.publish(item("a", "one"))
    await device.frame()
    device.say(Feedback((Event(device.number("one"), Kind.SHOWN, 0, None),)))
    await site.counted("up", "events_counted")
    learning = site.server.service.learning
    assert learning is not None
    await eventually(lambda: learning.status()["publishers"]["shares"])
    page = await look.open(site, "/model")

    row = page.locator("#publishers tbody tr")
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text("100 %")
    assert await page.locator("#publishers .stack > i").count() >= 1
