"""Logging in with a real browser, and what another site can make it do."""

from __future__ import annotations

import json
import logging

import pytest
from playwright.sync_api import Page, Route, expect

from pgflow_cli.admin.security import COOKIE
from tests.admin.running import Running
from tests.browser.conftest import Serves
from tests.browser.navigation import Visits

TOKEN = "browser-token-" * 3
EVIL = "http://evil.example"


@pytest.fixture
def guarded(serve_admin: Serves) -> Running:
    """A server that wants a token."""
    return serve_admin(api_tokens=(TOKEN,))


def log_in(page: Page, token: str = TOKEN) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_a_browser_logs_in_and_goes_where_it_wanted(
    guarded: Running, visits: Visits, script: bool
) -> None:
    page = visits.page(
        f"{guarded.url}/login?next=/openapi.json", java_script_enabled=script
    )
    visits.forgive("401")
    log_in(page, "not-the-token-at-all")
    expect(page.get_by_role("alert")).to_contain_text("not a token")
    assert page.url == f"{guarded.url}/login"
    log_in(page)
    page.wait_for_url("**/openapi.json")
    [cookie] = page.context.cookies()
    assert cookie["name"] == COOKIE
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    answer = page.context.request.get(f"{guarded.url}/jobs")
    assert (answer.status, answer.json()["items"]) == (200, [])


def test_behind_a_gateway_everything_is_below_its_path(
    serve_admin: Serves, visits: Visits
) -> None:
    served = serve_admin(api_tokens=(TOKEN,), base_path="/ops/pgflow")
    page = visits.page(f"{served.url}/ui/queues?sort=queue")
    log_in(page)
    page.wait_for_url(f"{served.url}/ui/queues?sort=queue")
    [cookie] = page.context.cookies()
    assert cookie["path"] == "/ops/pgflow"
    expect(page.locator("#live")).to_have_text("live")
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.get_by_role("link", name="Jobs").click()
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{served.url}/login")
    left = [(cookie["name"], cookie["path"]) for cookie in page.context.cookies()]
    assert left == [("pgflow_theme", "/ops/pgflow")]
    assert [url for url in asked if not url.startswith(f"{served.url}/")] == []


def test_no_script_can_read_the_cookie(guarded: Running, visits: Visits) -> None:
    page = visits.page(f"{guarded.url}/login?next=/openapi.json")
    log_in(page)
    page.wait_for_url("**/openapi.json")
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0


@pytest.mark.parametrize("logged_in", [True, False], ids=["logged in", "logged out"])
def test_another_site_changes_nothing_by_forms(
    guarded: Running, visits: Visits, caplog: pytest.LogCaptureFixture, logged_in: bool
) -> None:
    caplog.set_level(logging.INFO, "pgflow.admin")
    page = visits.page(f"{guarded.url}/login?next=/openapi.json")
    if logged_in:
        log_in(page)
        page.wait_for_url("**/openapi.json")
    known = page.context.cookies()
    visits.forgive("40[1-5]|415|request: http://evil")
    _lure(page, guarded.url)
    for path, fields in (
        ("/login", {"token": TOKEN, "next": "/"}),
        ("/logout", {}),
        ("/jobs", {"job_type": "x", "payload_json": "{}"}),
    ):
        page.goto(f"{EVIL}/?{path}#{json.dumps(fields)}")
        with page.expect_navigation(url=f"{guarded.url}{path}") as arrived:
            page.get_by_role("button").click()
        assert arrived.value is not None
        assert 400 <= arrived.value.status < 500
    assert page.context.cookies() == known
    assert "POST /login 403" in caplog.messages


def test_another_site_can_neither_read_nor_frame(
    guarded: Running, visits: Visits
) -> None:
    page = visits.page(f"{guarded.url}/login?next=/openapi.json")
    log_in(page)
    page.wait_for_url("**/openapi.json")
    visits.forgive(".")  # the browser protests, as it should
    _lure(page, guarded.url)
    page.goto(f"{EVIL}/?/login#{{}}")
    read = """async url => {
      try { return await (await fetch(url, {credentials: 'include'})).text() }
      catch (error) { return String(error) }
    }"""
    assert "TypeError" in page.evaluate(read, f"{guarded.url}/jobs")
    page.evaluate(
        """url => new Promise(loaded => {
          const frame = document.createElement('iframe')
          frame.onload = loaded
          frame.src = url
          document.body.append(frame)
        })""",
        f"{guarded.url}/login",
    )
    [_, frame] = page.frames
    assert frame.get_by_label("Token").count() == 0


def _lure(page: Page, victim: str) -> None:
    """Put up another site, whose button sends a form to us."""

    def answer(route: Route) -> None:
        route.fulfill(
            content_type="text/html",
            body=f"""<!doctype html><form method="post"><button>Win</button></form>
            <script>
              const form = document.forms[0]
              form.action = {json.dumps(victim)} + location.search.slice(1)
              const given = JSON.parse(decodeURIComponent(location.hash.slice(1)))
              for (const [name, value] of Object.entries(given)) {{
                const input = document.createElement('input')
                Object.assign(input, {{type: 'hidden', name, value}})
                form.append(input)
              }}
            </script>""",
        )

    page.route(f"{EVIL}/**", answer)
