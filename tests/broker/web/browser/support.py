"""What the tests of several pages ask of a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Page

WIDTHS = (360, 768, 1600)
"""Of screens that every page must fit."""

_BEYOND = """() => [...document.querySelectorAll("main *, #top *")]
  .filter((node) => node.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .filter((node) => !node.closest(".scroll, nav, .visually-hidden"))
  .map((node) => `${node.tagName}.${node.className}: ${node.textContent.slice(0, 40)}`)"""


async def assert_fits(page: Page) -> None:
    """Nothing of a page stands beyond the edge of a screen, small or wide."""
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate(_BEYOND) == [], f"{width} px wide"
