"""F58: whatever somebody wrote into a job is text on the page, and nothing else."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Serves, pages_of
from tests.browser.polyglots import POLYGLOTS
from tests.browser.town import Town, plant_town
from tests.browser.visits import Served, Visits

_EACH = 30  # jobs of each of seven states
# What only waits for a hand on the mouse must not be there, either.
_FOREIGN = """() => {
  const own = /^(\\/(?![\\/\\\\])|#|data:,$|$)/
  const links = ['href', 'src', 'action', 'formaction', 'data', 'srcdoc', 'poster']
  const found = window.pwned ? ['it ran'] : []
  for (const each of document.querySelectorAll('*')) {
    for (const {name, value} of each.attributes) {
      if (name.startsWith('on') || name === 'style' || /^(data-)?hx-on/.test(name)
          || (links.includes(name) && !own.test(value))) {
        found.push(`${each.tagName} ${name}=${value}`)
      }
    }
  }
  for (const each of document.querySelectorAll(
    'iframe, object, embed, base, style, math, animate, img, script:not([src]),'
    + 'meta[http-equiv], [hx-get^="http"], [hx-get^="/logout"]'
  )) found.push(each.outerHTML.slice(0, 200))
  return found
}"""


@pytest.fixture
def town(connection: psycopg.Connection[Any]) -> Town:
    """A town where everybody who could write something tried."""
    planted = plant_town(connection, POLYGLOTS, each=_EACH)
    assert sum(len(jobs) for jobs in planted.jobs.values()) >= 200
    return planted


@pytest.fixture
def served(town: Town, serve_admin: Serves) -> Served:
    return serve_admin()


def test_nothing_of_200_hostile_jobs_runs(
    town: Town, served: Served, visits: Visits
) -> None:
    visits.forgive("status of 40[04]")
    page = visits.page()
    jobs = [f"/ui/jobs/{job}?payload=all" for job in town.jobs["dlq"]]
    lists = ("/ui/jobs?limit=500", "/ui/dlq?limit=500", "/ui/dlq?by=fingerprint")
    found = {
        path: _foreign(page, served.url + path)
        for path in (*pages_of(town), *lists, *jobs)
    }
    assert {path: said for path, said in found.items() if said} == {}
    # They were there: what is shown of the last job is one of them, word for word.
    assert "pwned" in page.locator("#main").inner_text()


def test_escaping_does_not_lean_on_the_policy(
    town: Town, served: Served, visits: Visits
) -> None:
    visits.forgive("status of 40[04]")
    page = visits.page(bypass_csp=True)
    lists = ("/ui/jobs?limit=500", "/ui/dlq?limit=500")
    found = {
        path: _foreign(page, served.url + path) for path in [*pages_of(town), *lists]
    }
    assert {path: said for path, said in found.items() if said} == {}


def test_nothing_of_a_hostile_url_runs(served: Served, visits: Visits) -> None:
    visits.forgive("status of 4")
    page = visits.page(bypass_csp=True)
    for text in POLYGLOTS[::3]:
        sent = quote(text, safe="")
        for path in (
            f"/ui/dlq?match={sent}",
            f"/ui/jobs?queue={sent}",
            f"/ui/jobs?{sent}=1",
            f"/ui/jobs/{sent}",
            f"/ui/queues/{sent}",
            f"/{sent}",
            f"/login?next=/{sent}",
        ):
            assert _foreign(page, served.url + path) == [], path


def _foreign(page: Page, url: str) -> list[str]:
    """Return what does not belong into a page of ours."""
    page.goto(url)
    found: list[str] = page.evaluate(_FOREIGN)
    return found
