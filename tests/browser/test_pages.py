"""Every page: for eyes, ears and keys, on any screen, with and without scripts."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Page, ViewportSize

from tests.browser.conftest import Shown, pages_of
from tests.browser.visits import Visits

_AXE = AXE_FILE_PATH.read_text(encoding="utf-8")
_WIDER = """() => {
  const root = document.scrollingElement
  return root.scrollWidth > root.clientWidth ? root.scrollWidth : 0
}"""


# What a page is looked at on: a phone; a laptop at 200 %, where 1280 pixels are 640.
_SCREENS: dict[str, ViewportSize] = {
    "a phone": {"width": 320, "height": 640},
    "200 %": {"width": 640, "height": 400},
}
# In the dark only the colours are others.
_SCHEMES: tuple[tuple[Any, dict[str, Any]], ...] = (
    ("light", {}),
    ("dark", {"runOnly": ["color-contrast"]}),
)


def test_no_page_keeps_anybody_out_or_is_wider_than_its_screen(
    shown: Shown, visits: Visits
) -> None:
    visits.forgive("status of 40[04]")
    page = visits.still_page(shown.url, reduced_motion="reduce")
    assert page.viewport_size is not None
    usual, found = page.viewport_size, {}
    for path in pages_of(shown.town):
        page.goto(shown.url + path)
        page.evaluate(_AXE)
        for scheme, rules in _SCHEMES:
            page.emulate_media(color_scheme=scheme)
            found[path, scheme] = _barriers(page, rules)
        for name, size in _SCREENS.items():
            page.set_viewport_size(size)
            if wide := page.evaluate(_WIDER):
                found[path, name] = [f"is {wide} wide"]
        page.set_viewport_size(usual)
    assert {where: said for where, said in found.items() if said} == {}


def _barriers(page: Page, rules: dict[str, Any]) -> list[str]:
    """Return what axe calls serious or critical, with an example."""
    options = {"resultTypes": ["violations"], "preload": False, **rules}
    answer = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{violation['id']}: {violation['nodes'][0]['html'][:120]}"
        f" {violation['nodes'][0]['failureSummary'][:300]}"
        for violation in answer["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


def test_nothing_moves_for_whoever_wants_it_still(shown: Shown, visits: Visits) -> None:
    page = visits.page(f"{shown.url}/", reduced_motion="reduce")
    moving = page.evaluate(
        """() => [...document.querySelectorAll('*')].filter(each => {
          const style = getComputedStyle(each)
          return [style.transitionDuration, style.animationDuration]
            .some(times => times.split(',').some(time => parseFloat(time) > 0.01))
        }).map(each => each.outerHTML.slice(0, 80))"""
    )
    assert moving == []
    assert page.evaluate("document.getAnimations().length") == 0
