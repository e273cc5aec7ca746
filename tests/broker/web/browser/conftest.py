"""A real browser, a server to look at, and a small fleet that keeps it busy.

A page that writes an error to its console, or asks for what is not there, fails its test.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, async_playwright

from tests.broker.support import Device, Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from playwright.async_api import ConsoleMessage

PATIENCE_MS = 10_000
WIDE = {"width": 1280, "height": 900}


def chromium() -> str:
    """Where the browser is."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is not None:
            return path
    if os.environ.get("CI"):
        raise AssertionError("CI has no Chromium: the pages are not tested")
    pytest.skip("needs Chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests with the browser run on one event loop: starting one for each takes seconds."""
    here = Path(__file__).parent
    for each in items:
        if here in each.path.parents:
            each.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium without a window."""
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """Start a server that shows itself, on the loop of the browser; `__` stands for a dot."""
    async with AsyncExitStack() as stack:
        started = 0

        async def start(**settings: Any) -> Served:
            nonlocal started
            started += 1
            dotted = {name.replace("__", "."): value for name, value in settings.items()}
            served = Served(tmp_path / f"data{started}", {**SHOWN, **dotted})
            await served.start()
            stack.push_async_callback(served.stop)
            stack.push_async_callback(served.drop_peers)
            return served

        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def site(serve: Callable[..., Awaitable[Served]]) -> Served:
    """A server that learns."""
    return await serve(**{"ranking.model": "learned"})


SHOWN = {"http.bind": "127.0.0.1:0", "http.refresh": 0.2, "topics.sys_interval": 0}


def tile(page: Page, name: str) -> Locator:
    """The number on a tile of this name."""
    heading = page.get_by_role("term").get_by_text(name, exact=True)
    return page.locator(".tile", has=heading).locator(".value")


class Tab:
    """One page of a browser that looks at one server.

    Attributes:
        page: Playwright's.
        faults: What it complained about.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.faults.append(f"{message.type}: {message.text} ({message.location})")

    async def open(self, served: Served, path: str) -> Page:
        """Goes to a path, and waits until it shows something."""
        assert served.server.web is not None
        await self.page.goto(served.server.web.url.rstrip("/") + path)
        await self.page.wait_for_selector("body[data-shown]")
        return self.page


@asynccontextmanager
async def tab(browser: Browser, **options: Any) -> AsyncIterator[Tab]:
    """A new page, in a context of its own."""
    context = await browser.new_context(**{"viewport": WIDE, **options})
    context.set_default_timeout(PATIENCE_MS)
    try:
        yield Tab(await context.new_page())
    finally:
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def look(browser: Browser) -> AsyncIterator[Tab]:
    """A page on a wide screen, that must not complain."""
    async with tab(browser) as found:
        yield found
        assert found.faults == []


@pytest_asyncio.fixture(loop_scope="session")
async def fleet(serve: object) -> AsyncIterator[Callable[..., Awaitable[list[Device]]]]:
    """Connect devices that follow everything, and acknowledge whatever they are sent."""
    del serve  # so that devices leave before their server does
    running: list[asyncio.Task[None]] = []

    async def start(served: Served, count: int = 12) -> list[Device]:
        devices = [await served.subscribed(f"panel-{each:02d}") for each in range(count)]
        running.extend(asyncio.create_task(_keep_up(each)) for each in devices)
        return devices

    yield start
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _keep_up(device: Device) -> None:
    while True:
        with suppress(TimeoutError):
            await device.frame()
