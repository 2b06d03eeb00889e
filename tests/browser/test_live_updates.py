"""Pages keep themselves up to date: by the stream, else by asking, or not at all."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Serves
from tests.browser.fixtures import plant_town
from tests.browser.navigation import Visits
from tests.support.jobs import plant

Connection = psycopg.Connection[Any]

_HIDE = """hidden => {
  Object.defineProperty(document, 'hidden', {value: hidden, configurable: true})
  document.dispatchEvent(new Event('visibilitychange'))
}"""


_LEAD = """
window.setInterval = () => 0
window.EventSource = class extends EventTarget {
  constructor() { super(); window.stream = this; setTimeout(() => this.onopen()) }
  close() {}
}
"""
_TELL = "stream.dispatchEvent(new Event('queues'))"


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server look for changes more often than every two seconds."""
    monkeypatch.setattr("pgflow_cli.admin.events._LOOK", 0.3)
    monkeypatch.setattr("pgflow_cli.admin.cache._FRESH", 0.1)


def says(page: Page, words: str) -> None:
    expect(page.locator("#live")).to_have_text(words)


def mark(page: Page) -> None:
    page.evaluate("window.loadedOnce = true")


def shows(page: Page, queue: str) -> None:
    """Wait for a queue to appear on a page that was not loaded again."""
    expect(page.get_by_role("link", name=queue, exact=True)).to_be_visible()
    assert page.evaluate("window.loadedOnce")


def test_what_changes_appears_by_itself(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    plant(connection, queue="known")
    page = visits.page(f"{serve_admin().url}/")
    mark(page)
    says(page, "live")
    plant(connection, queue="fresh")
    shows(page, "fresh")
    expect(page.get_by_role("status").first).to_contain_text("fresh has no live worker")


def test_above_the_cap_a_page_asks_every_few_seconds(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    visits.forgive("status of 503")
    plant(connection, queue="known")
    page = visits.page()
    page.clock.install()
    page.goto(f"{serve_admin(max_sse=0).url}/")
    mark(page)
    says(page, "updates every 5 s")
    plant(connection, queue="fresh")
    page.clock.fast_forward(6_000)
    shows(page, "fresh")


def test_a_tab_in_the_background_gives_its_place_up(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    plant(connection, queue="known")
    url = f"{serve_admin(max_sse=1).url}/"
    first = visits.page(url)
    mark(first)
    says(first, "live")
    first.evaluate(_HIDE, True)
    second = visits.page()
    _open_once_free(second, url, visits)
    says(second, "live")
    plant(connection, queue="fresh")
    second.close()
    # Back in front it has missed something, and knows.
    visits.forgive("status of 503")
    first.evaluate(_HIDE, False)
    shows(first, "fresh")


def _open_once_free(page: Page, url: str, visits: Visits) -> None:
    """Open a page until it gets the place that another has just left."""
    visits.forgive("status of 503")
    for _ in range(20):
        page.goto(url)
        expect(page.locator("#live")).to_have_text(
            # Either is soon true; which of them is what we want to know.
            re.compile("live|updates")
        )
        if page.locator("#live").text_content() == "live":
            return


def test_paused_updates_stay_away_until_they_are_resumed(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    plant(connection, queue="known")
    url = f"{serve_admin().url}/"
    watcher, page = visits.page(url), visits.page(url)
    says(watcher, "live")
    mark(watcher)
    page.get_by_role("button", name="Pause updates").click()
    says(page, "updates are paused")
    plant(connection, queue="fresh")
    shows(watcher, "fresh")
    expect(page.get_by_role("link", name="fresh", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Resume updates").click()
    says(page, "live")
    expect(page.get_by_role("link", name="fresh", exact=True)).to_be_visible()


def test_whoever_types_is_not_disturbed(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    plant(connection, queue="known")
    page = visits.page(f"{serve_admin().url}/ui/queues/known")
    says(page, "live")
    note = page.get_by_label("Note").first
    note.fill("half a sen")
    plant(connection, 5, queue="known")
    expect(page.locator("#t1")).to_contain_text("6")
    expect(note).to_have_value("half a sen")


def test_what_is_told_during_an_update_is_not_forgotten(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    # Only the test tells the page to look: neither the server nor a timer.
    plant(connection, queue="known")
    url = f"{serve_admin().url}/ui/queues/known"
    page = visits.page()
    page.add_init_script(_LEAD)
    page.goto(url)
    says(page, "live")

    def answer_late(route: Route) -> None:
        answer = route.fetch()
        plant(connection, 5, queue="known")
        page.evaluate(_TELL)
        route.fulfill(response=answer)

    page.route(url, answer_late, times=1)
    page.evaluate(_TELL)
    expect(page.locator("#t1")).to_contain_text("Runnable 6")


def test_only_what_is_new_is_read_aloud(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    plant(connection, queue="known", due_in="-1 min")
    page = visits.page(f"{serve_admin().url}/")
    says(page, "live")
    news = page.locator("#news")
    expect(page.locator("#alerts")).to_contain_text("known has no live worker")
    plant(connection, 5, queue="known")
    expect(page.locator("#qr-known")).to_contain_text("6")
    expect(news).to_be_empty()
    plant(connection, queue="fresh")
    expect(news).to_have_text("fresh has no live worker")


def test_a_page_on_which_nothing_happens_is_looked_at_again(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    plant(connection, queue="known")
    url = f"{serve_admin().url}/"
    page = visits.page()
    page.clock.install()
    page.goto(url)
    says(page, "live")
    with page.expect_response(url):
        page.clock.fast_forward(16_000)


def test_an_update_that_fails_is_told_until_the_next_one_succeeds(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    visits.forgive("503")
    plant(connection, queue="known")
    url = f"{serve_admin().url}/"
    page = visits.page(url)
    says(page, "live")
    page.route(url, lambda route: route.fulfill(status=503))
    plant(connection, queue="known")
    says(page, "no update: no usable database")
    page.unroute(url)
    plant(connection, queue="known")
    says(page, "live")
    expect(page.locator("#qr-known")).to_contain_text("3")


def test_what_is_half_typed_in_a_panel_survives_an_update(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    town = plant_town(connection)
    page = visits.page(f"{serve_admin().url}/ui/replays/{town.plan}")
    says(page, "live")
    note = page.locator("#panel input[name=note]").first
    note.fill("half a sen")
    # On the way to the button the field has lost the focus, not its text.
    page.keyboard.press("Tab")
    plant(connection, queue="fresh")
    says(page, "on hold while you type or mark text")
    expect(note).to_have_value("half a sen")
    note.fill("")
    page.keyboard.press("Tab")
    plant(connection, queue="fresh")
    says(page, "live")


def test_the_focus_stays_where_it_is(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    plant(connection, queue="known")
    page = visits.page(f"{serve_admin().url}/ui/queues/known")
    says(page, "live")
    tile = page.locator("#t1")
    for place, count in ((".copy", 2), ("#t2", 3), ("#scroll-steps", 4)):
        page.locator(f"#panel {place}").first.focus()
        plant(connection, queue="known")
        expect(tile).to_contain_text(f"Runnable {count}")
        held = page.evaluate(
            "place => document.activeElement.matches('#panel ' + place)", place
        )
        assert held, place


def test_a_table_stays_where_it_was_moved_to(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    plant(connection, queue="known")
    page = visits.page(f"{serve_admin().url}/", viewport={"width": 390, "height": 844})
    says(page, "live")
    table = page.get_by_role("region", name="Queues, those with an alert first")
    # At once: a first update may replace what a locator has found.
    page.evaluate("document.getElementById('scroll-queues').scrollLeft = 120")
    plant(connection, queue="fresh")
    expect(page.locator("#q-fresh")).to_be_attached()
    expect(table).to_have_js_property("scrollLeft", 120)


def test_when_the_login_ends_the_page_says_so_and_keeps_what_it_shows(
    serve_admin: Serves, visits: Visits, connection: Connection
) -> None:
    plant(connection, queue="known")
    token = "browser-token-browser-token"
    page = visits.page(f"{serve_admin(api_tokens=(token,)).url}/ui/queues")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/ui/queues")
    says(page, "live")
    page.context.clear_cookies()
    plant(connection, queue="fresh")
    says(page, "logged out: load the page again")
    expect(page.get_by_role("link", name="known", exact=True)).to_be_visible()
    page.reload()
    assert page.url.endswith("/login?next=/ui/queues")


def test_the_theme_is_chosen_and_kept(serve_admin: Serves, visits: Visits) -> None:
    page = visits.page(f"{serve_admin().url}/", color_scheme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    seen = {page.evaluate(paper)}
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    seen.add(page.evaluate(paper))
    assert len(seen) == 2
    page.get_by_role("link", name="Doctor").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate(paper) in seen
