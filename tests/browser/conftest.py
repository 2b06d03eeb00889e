"""Fixtures: one browser for the tests of a process, servers and pages for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.visits import ARGUMENTS, Served, Visits
from tests.servers import Database
from tests.tools import needs_tool


class Serves(Protocol):
    def __call__(self, *options: str) -> Served: ...


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this process."""
    program = needs_tool("chromium")
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
def serve_admin(database: Database, tmp_path: Path) -> Iterator[Serves]:
    """Start `pgflow serve-admin` on the test's database, with options of the test's."""
    running: list[Served] = []

    def start(*options: str) -> Served:
        running.append(Served(database.url, tmp_path, *options))
        return running[-1]

    yield start
    for each in running:
        each.stop()
