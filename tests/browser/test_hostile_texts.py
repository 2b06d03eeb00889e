"""F58: whatever somebody wrote into a job is text on the page, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from urllib.parse import quote

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Shown, pages_of, showing
from tests.browser.fixtures import plant_town
from tests.browser.hostile_texts import POLYGLOTS
from tests.browser.navigation import Visits
from tests.support.servers import Database, Server

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

_UPDATE = """() => new Promise(swapped => {
  document.body.addEventListener('htmx:afterSettle', swapped, {once: true})
  for (const kind of ['queues', 'jobs']) htmx.trigger(document.body, 'pgflow:' + kind)
})"""


@pytest.fixture(scope="module")
def shown(server: Server, template: Database) -> Iterator[Shown]:
    """A town where everybody who could write something tried."""
    plant = partial(plant_town, texts=POLYGLOTS, each=_EACH)
    with showing(server, template, plant) as attacked:
        assert sum(len(jobs) for jobs in attacked.town.jobs.values()) >= 200
        yield attacked


@pytest.mark.timeout(600)
def test_nothing_of_200_hostile_jobs_runs(shown: Shown, visits: Visits) -> None:
    visits.forgive("status of 40[04]")
    # Without the policy: escaping does not lean on it.
    page = visits.still_page(shown.url, bypass_csp=True)
    town = shown.town
    known = [*town.jobs["dlq"], *(town.one(state) for state in town.jobs)]
    jobs = [f"/ui/jobs/{job}?payload=all" for job in known]
    lists = ("/ui/jobs?limit=500", "/ui/dlq?limit=500", "/ui/dlq?by=fingerprint")
    found = {
        path: _foreign(page, shown.url + path)
        for path in (*pages_of(town), *lists, *jobs)
    }
    assert {path: said for path, said in found.items() if said} == {}
    # They were there: what is shown of the last job is one of them, word for word.
    assert "pwned" in page.locator("#main").inner_text()


def test_with_hostile_texts_no_page_breaks_the_policy(
    shown: Shown, visits: Visits
) -> None:
    page = visits.still_page(shown.url)
    for path in ("/", "/ui/jobs?limit=500", "/ui/dlq?limit=500", "/ui/audit"):
        assert _foreign(page, shown.url + path) == [], path


def test_nothing_runs_that_an_update_brings(shown: Shown, visits: Visits) -> None:
    page = visits.still_page(shown.url, bypass_csp=True)
    for path in ("/", "/ui/queues/emails", "/ui/jobs?limit=500", "/ui/dlq?limit=500"):
        page.goto(shown.url + path)
        page.evaluate(_UPDATE)
        found: list[str] = page.evaluate(_FOREIGN)
        assert found == [], path


@pytest.mark.timeout(600)
def test_nothing_of_a_hostile_url_runs(shown: Shown, visits: Visits) -> None:
    visits.forgive("status of 4")
    page = visits.still_page(shown.url, bypass_csp=True)
    for number, text in enumerate(POLYGLOTS[::4]):
        sent = quote(text, safe="")
        paths = (
            f"/ui/dlq?match={sent}",
            f"/ui/jobs?queue={sent}",
            f"/ui/jobs?{sent}=1",
            f"/ui/jobs/{sent}",
            f"/ui/queues/{sent}",
            f"/{sent}",
            f"/login?next=/{sent}",
        )
        # Each page has five of them, and each of them three pages or four.
        for path in paths[number % 2 :: 2]:
            assert _foreign(page, shown.url + path) == [], path


def _foreign(page: Page, url: str) -> list[str]:
    """Return what does not belong into a page of ours."""
    page.goto(url)
    found: list[str] = page.evaluate(_FOREIGN)
    return found
