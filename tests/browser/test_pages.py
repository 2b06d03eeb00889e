"""Every page: for eyes, ears and keys, on any screen, with and without scripts."""

from __future__ import annotations

from typing import Literal

import pytest
from axe_playwright_python.base import AXE_FILE_PATH  # type: ignore[import-untyped]
from playwright.sync_api import ViewportSize

from tests.browser.conftest import Shown, pages_of
from tests.browser.navigation import Visits

_SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
_WIDER = """() => {
  const root = document.scrollingElement
  return root.scrollWidth > root.clientWidth ? root.scrollWidth : 0
}"""


# A phone; and a laptop at 200 %, where 1280 pixels are 640.
_SCREENS: dict[str, ViewportSize] = {
    "a phone": {"width": 320, "height": 640},
    "200 %": {"width": 640, "height": 400},
}
_BARRIERS = """async options => {
  const {violations} = await axe.run(
    document, {resultTypes: ['violations'], preload: false, ...options}
  )
  return violations.filter(each => /serious|critical/.test(each.impact)).map(each =>
    `${each.id}: ${each.nodes[0].html.slice(0, 120)} ${each.nodes[0].failureSummary}`
  )
}"""
# Of rows, links and options that differ in their text alone, one shows the colours:
# to find them is most of what axe does.
_LEAVE_ONE_OF_A_KIND = """() => {
  const told = /^(id|href|for|name|value|title|datetime|aria-label|data-copy|scope)$/
  const looks = each => [
    each.tagName,
    ...[...each.attributes].filter(({name}) => !told.test(name))
      .map(({name, value}) => name + '=' + value),
    [...each.children].map(looks).join('|'),
  ].join(' ')
  for (const parent of document.querySelectorAll('body, body *')) {
    const seen = new Set()
    for (const each of [...parent.children]) {
      const look = looks(each)
      if (seen.has(look)) each.remove()
      seen.add(look)
    }
  }
}"""
_COLOURS = {"runOnly": ["color-contrast"]}
_ALL_BUT_COLOURS = {"rules": {"color-contrast": {"enabled": False}}}


@pytest.mark.timeout(600)
def test_no_page_keeps_anybody_out_or_is_wider_than_its_screen(
    shown: Shown, visits: Visits
) -> None:
    visits.forgive("status of 40[04]")
    page = visits.still_page(shown.url, reduced_motion="reduce")
    page.add_init_script(path=AXE_FILE_PATH)
    assert page.viewport_size is not None
    usual, found = page.viewport_size, {}
    for path in pages_of(shown.town):
        page.goto(shown.url + path)
        for name, size in _SCREENS.items():
            page.set_viewport_size(size)
            found[path, name] = page.evaluate(_WIDER)
        page.set_viewport_size(usual)
        found[path, "any"] = page.evaluate(_BARRIERS, _ALL_BUT_COLOURS)
        page.evaluate(_LEAVE_ONE_OF_A_KIND)
        for scheme in _SCHEMES:
            page.emulate_media(color_scheme=scheme)
            found[path, scheme] = page.evaluate(_BARRIERS, _COLOURS)
    assert {where: said for where, said in found.items() if said} == {}


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
