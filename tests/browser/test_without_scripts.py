"""Links and forms are enough: everything can be read and done without scripts."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Serves
from tests.browser.fixtures import Town, plant_town
from tests.browser.navigation import Visits
from tests.support.jobs import status_of

Connection = psycopg.Connection[Any]


@pytest.fixture
def town(connection: Connection) -> Town:
    return plant_town(connection)


@pytest.fixture
def page(town: Town, serve_admin: Serves, visits: Visits) -> Page:
    """The overview, in a browser without scripts."""
    return visits.page(f"{serve_admin().url}/", java_script_enabled=False)


def test_one_reads_from_the_overview_to_a_payload(page: Page, town: Town) -> None:
    page.get_by_role("navigation").get_by_role("link", name="Jobs").click()
    page.get_by_label("State").select_option("dlq")
    page.get_by_label("Queue, or a glob").fill("emails")
    page.get_by_role("button", name="Show").click()
    assert "status=dlq" in page.url
    assert "queue=emails" in page.url
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(2)
    rows.first.get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Job")
    expect(page.locator("pre")).to_have_count(0)
    page.get_by_role("link", name="Show the payload").click()
    expect(page.locator("pre").first).to_contain_text('"list"')


def test_a_queue_is_paused_and_resumed_by_forms(
    page: Page, connection: Connection
) -> None:
    page.get_by_role("navigation").get_by_role("link", name="Queues").click()
    page.get_by_role("link", name="emails", exact=True).click()
    form = page.locator("form", has=page.get_by_role("button", name="Pause emails"))
    form.get_by_label("Note").fill("the provider is down")
    page.get_by_role("button", name="Pause emails").click()
    expect(page.locator(".flash")).to_be_visible()
    assert paused(connection) == [("emails", "the provider is down")]
    page.get_by_role("button", name="Resume emails").click()
    expect(page.get_by_role("button", name="Pause emails")).to_be_visible()
    assert paused(connection) == []
    page.get_by_role("navigation").get_by_role("link", name="Audit").click()
    expect(page.get_by_role("main")).to_contain_text("the provider is down")


def test_a_job_is_canceled_by_a_form(
    page: Page, town: Town, connection: Connection
) -> None:
    job = town.one("queued")
    page.goto(page.url + f"ui/jobs/{job}")
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".flash")).to_contain_text("canceled")
    assert status_of(connection, job) == "canceled"
    # What was told once is not told again.
    page.reload()
    expect(page.locator(".flash")).to_have_count(0)


def test_a_form_that_asks_for_nonsense_is_answered_in_words(
    page: Page, visits: Visits
) -> None:
    visits.forgive("status of 400")
    page.goto(page.url + "ui/queues/emails")
    page.get_by_label("For (empty").fill("soon")
    page.get_by_role("button", name="Pause emails").click()
    expect(page.get_by_role("main")).to_contain_text("length")


def paused(connection: Connection) -> list[tuple[str, str]]:
    return connection.execute(
        "select queue, pause_note from pgflow.queue_policies"
        " where paused_until > now() and queue = 'emails'"
    ).fetchall()
