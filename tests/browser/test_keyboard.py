"""Everything is reached by keys, and one always sees where one is."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.conftest import Shown
from tests.browser.navigation import Visits

_FOCUS = """() => {
  const at = document.activeElement
  const style = getComputedStyle(at)
  return {
    name: (at.getAttribute('aria-label') || at.innerText || at.name || '')
      .replace(/\\s+/g, ' ').trim(),
    tag: at.tagName,
    id: at.id,
    seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0,
    inside: document.getElementById('main').contains(at),
  }
}"""


def at(page: Page) -> dict[str, object]:
    """Return what has the focus."""
    found: dict[str, object] = page.evaluate(_FOCUS)
    return found


def tab_to(page: Page, tag: str, name: str, *, most: int = 80) -> None:
    """Press Tab until something has the focus; each stop must show that it has it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        here = at(page)
        assert here["seen"] or here["tag"] == "BODY", here
        if here["tag"] == tag and str(here["name"]).startswith(name):
            return
    raise AssertionError(f"no {tag} {name} within {most} stops of {page.url}")


def test_the_first_stop_leads_past_the_header(shown: Shown, visits: Visits) -> None:
    page = visits.page(f"{shown.url}/ui/queues")
    page.keyboard.press("Tab")
    assert at(page)["name"] == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert at(page)["inside"]


def test_from_the_overview_to_a_job_by_tab_and_enter(
    shown: Shown, visits: Visits
) -> None:
    page = visits.page(f"{shown.url}/")
    tab_to(page, "A", "emails")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/queues/emails")
    tab_to(page, "A", "DLQ")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/dlq?queue=emails")
    tab_to(page, "A", shown.town.one("dlq")[-8:])
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/jobs/*")
    tab_to(page, "A", "Show the payload")
    page.keyboard.press("Enter")
    page.wait_for_url("**payload=shown**")
    expect(page.locator("pre").first).to_be_visible()


def test_a_form_is_filled_and_sent_by_keys(shown: Shown, visits: Visits) -> None:
    page = visits.page(f"{shown.url}/ui/jobs")
    page.keyboard.press("/")
    assert at(page)["inside"]
    tab_to(page, "INPUT", "queue")
    page.keyboard.type("billing.eu")
    page.keyboard.press("Enter")
    page.wait_for_url("**queue=billing.eu**")
    expect(page.locator("tbody tr").first).to_contain_text("billing.eu")


def test_keys_are_listed_and_lead_to_pages(shown: Shown, visits: Visits) -> None:
    page = visits.page(f"{shown.url}/")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    for key, path in (("w", "workers"), ("d", "dlq"), ("j", "jobs")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(f"**/ui/{path}")


def test_no_key_traps(shown: Shown, visits: Visits) -> None:
    page = visits.page(f"{shown.url}/ui/queues/emails")
    seen = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        here = at(page)
        if here["tag"] == "BODY":
            break
        seen.add(f"{here['tag']} {here['name']}")
    assert here["tag"] == "BODY", "Tab never leaves the page"
    assert len(seen) > 20
