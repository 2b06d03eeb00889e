"""Fixtures: a browser; servers and pages for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from pgflow_cli.admin.options import AdminOptions
from tests.admin.running import Running
from tests.browser.fixtures import Connection, Town, plant_town
from tests.browser.navigation import ARGUMENTS, PATIENCE_MS, Visits
from tests.conftest import cloned
from tests.support.servers import Database, Server
from tests.support.tools import needs_tool


class Serves(Protocol):
    def __call__(self, **settings: Any) -> Running: ...


@dataclass
class Shown:
    """A town that is only looked at, and the server that shows it."""

    town: Town
    served: Running

    @property
    def url(self) -> str:
        return self.served.url


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of this folder that follow one another; each opens
    pages in contexts of its own.

    While Playwright runs, its event loop runs in this thread: a test of an async
    handler that came after could not have one.
    """
    program = needs_tool("chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=program, args=[*ARGUMENTS]
        )
        yield launched
        launched.close()


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Open pages; whatever the browser complains of fails the test."""
    made = Visits(browser)
    yield made
    complaints = made.complaints
    made.close()
    assert complaints == []


@pytest.fixture
def serve_admin(database: Database) -> Iterator[Serves]:
    """Start an admin server on the test's database, with settings of the test's."""
    running: list[Running] = []

    def start(**settings: Any) -> Running:
        options = AdminOptions(url=database.url, port=0, **settings)
        running.append(Running(options))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@contextmanager
def showing(
    server: Server, template: Database, plant: Callable[[Connection], Town]
) -> Iterator[Shown]:
    """Serve a town of its own, for tests that change nothing in it."""
    with cloned(server, template) as made:
        served = Running(AdminOptions(url=made.url, port=0))
        try:
            yield Shown(plant(made.connect()), served)
        finally:
            served.stop()


# Not of the session: its server's threads would run beside the tests of other folders.
@pytest.fixture(scope="module")
def shown(server: Server, template: Database) -> Iterator[Shown]:
    """A calm town, for tests that change nothing in it."""
    with showing(server, template, plant_town) as calm:
        yield calm


def pages_of(town: Town) -> list[str]:
    """Return the path of each page, and of jobs that differ on it."""
    lists = ("queues", "jobs", "dlq", "replays", "decisions", "workers", "audit")
    jobs = (town.one(state) for state in ("dlq", "running", "retrying"))
    return [
        "/",
        *(f"/ui/{name}" for name in (*lists, "doctor", "enqueue")),
        "/ui/queues/emails",
        "/ui/queues/billing.eu",
        "/ui/jobs?status=dlq&queue=emails*",
        "/ui/dlq?by=fingerprint&since=2h",
        f"/ui/replays/{town.plan}",
        "/ui/replays/new?queue=emails",
        f"/ui/replays/new?job_id={town.one('dlq')}",
        f"/ui/workers/{town.worker}",
        *(f"/ui/jobs/{job}?payload=all" for job in jobs),
        "/ui/jobs/ffffffffffff",
        "/ui/jobs?queue=%3Cscript%3E",
        "/login",
    ]
