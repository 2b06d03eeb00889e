"""Every page: for eyes, ears and keys, on any screen, with and without scripts."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.conftest import Shown, pages_of
from tests.browser.visits import Visits

_WIDER = """() => {
  const root = document.scrollingElement
  return root.scrollWidth > root.clientWidth ? root.scrollWidth : 0
}"""


# In the dark only the colours are others.
@pytest.mark.parametrize(
    ("scheme", "rules"), [("light", {}), ("dark", {"runOnly": ["color-contrast"]})]
)
def test_no_page_keeps_anybody_out(
    shown: Shown, visits: Visits, scheme: Any, rules: dict[str, Any]
) -> None:
    visits.forgive("status of 40[04]")
    page = visits.still_page(shown.url, color_scheme=scheme, reduced_motion="reduce")
    found = {
        path: _barriers(page, shown.url + path, rules) for path in pages_of(shown.town)
    }
    assert {path: said for path, said in found.items() if said} == {}


def _barriers(page: Page, url: str, rules: dict[str, Any]) -> list[str]:
    """Return what axe calls serious or critical, with an example."""
    page.goto(url)
    options = {"resultTypes": ["violations"], **rules}
    return [
        f"{violation['id']}: {violation['nodes'][0]['html'][:120]}"
        f" {violation['nodes'][0]['failureSummary'][:300]}"
        for violation in Axe().run(page, options=options).response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a phone", {"viewport": {"width": 320, "height": 640}}),
        # Zoomed to 200 %, 1280 pixels are 640 wide and each is two.
        (
            "200 %",
            {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2},
        ),
    ],
)
def test_no_page_is_wider_than_its_screen(
    shown: Shown, visits: Visits, name: str, options: Any
) -> None:
    visits.forgive("status of 40[04]")
    page = visits.still_page(shown.url, **options)
    wide = {}
    for path in pages_of(shown.town):
        page.goto(shown.url + path)
        if found := page.evaluate(_WIDER):
            wide[path] = found
    assert wide == {}, name


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
