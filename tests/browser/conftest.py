"""Fixtures: a browser, servers and pages for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Repository
from tests.browser.town import Town, plant_town
from tests.browser.visits import ARGUMENTS, PATIENCE_MS, Served, Visits
from tests.servers import Database, Server
from tests.tools import needs_tool


class Serves(Protocol):
    def __call__(self, *options: str) -> Served: ...


@dataclass
class Shown:
    """A town that is only looked at, and the server that shows it."""

    town: Town
    served: Served

    @property
    def url(self) -> str:
        return self.served.url


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A Chromium of the test's own.

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
def serve_admin(
    database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serves]:
    """Start `pgflow serve-admin` on the test's database, with options of the test's."""
    running: list[Served] = []

    def start(*options: str) -> Served:
        folder = tmp_path_factory.mktemp("admin")
        running.append(Served(database.url, folder, *options))
        return running[-1]

    yield start
    for each in running:
        each.stop()


@pytest.fixture(scope="session")
def shown(
    server: Server, template: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shown]:
    """A calm town, for tests that change nothing in it."""
    made = server.create(f"pgflow_town_{os.getpid()}", template=template.name)
    repository = Repository.of(Settings(made.url))
    repository.record_identity()
    repository.close()
    town = plant_town(made.connect())
    served = Served(made.url, tmp_path_factory.mktemp("town"))
    yield Shown(town, served)
    served.stop()
    server.drop(made)


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
