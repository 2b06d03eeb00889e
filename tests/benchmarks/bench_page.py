"""What a page weighs on the wire, and when Chromium first paints something of it.

Cold: nothing of it is in the browser's cache; warm: its style and scripts are. Beside
it stands, of the same run, the login page: the same server, and no data.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database, Repository
from tests.acceptance.admin_servers import start_server
from tests.benchmarks.durable import durable_server
from tests.browser.navigation import ARGUMENTS
from tests.support.servers import Server

PATHS = ("/login", "/", "/ui/queues", "/ui/jobs", "/ui/dlq", "/ui/workers")
_PAINT = (
    """() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime"""
)
_WEIGHT = """() => [
  ...performance.getEntriesByType("navigation"),
  ...performance.getEntriesByType("resource"),
].map((entry) => entry.transferSize).reduce((a, b) => a + b, 0)"""


def main(arguments: list[str]) -> None:
    """Measure each page, several times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queues", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args(arguments)
    print(f"load before: {os.getloadavg()}", flush=True)
    with (
        durable_server() as server,
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
    ):
        url = loaded(server, options.queues, options.jobs)
        admin = start_server(Path(folder), url, "--no-access-log")
        browser = playwright.chromium.launch(
            executable_path=options.chromium, args=[*ARGUMENTS]
        )
        try:
            measure(browser, f"http://127.0.0.1:{admin.port}", options.times)
        finally:
            browser.close()
            admin.terminate()
    print(f"load after: {os.getloadavg()}", flush=True)


def measure(browser: Browser, base: str, times: int) -> None:
    """Print a line for each page."""
    plain = 0.0
    print(f"{'page':<12} {'cold':>8} {'warm':>8}  {'wire, cold':>11} {'x login':>8}")
    for path in PATHS:
        seen = [visited(browser, base + path) for _ in range(times)]
        cold, warm = (median(each[place] for each in seen) for place in (0, 1))
        weight = median(each[2] for each in seen)
        plain = plain or cold
        print(
            f"{path:<12} {cold:5.0f} ms {warm:5.0f} ms  {weight:9,.0f} B"
            f" {cold / plain:8.2f}",
            flush=True,
        )


def visited(browser: Browser, url: str) -> tuple[float, float, float]:
    """Return the first paint of a new visitor, that of his second visit, and what the
    first one has cost on the wire; milliseconds and bytes.
    """
    context = browser.new_context()
    try:
        cold, weight = once(context, url)
        warm, _ = once(context, url)
    finally:
        context.close()
    return cold, warm, weight


def once(context: BrowserContext, url: str) -> tuple[float, float]:
    """Return the first contentful paint of a visit and the bytes of it."""
    page = context.new_page()
    page.goto(url, wait_until="load")
    page.wait_for_function(_PAINT)
    paint: Any = page.evaluate(_PAINT)
    weight: Any = page.evaluate(_WEIGHT)
    page.close()
    return float(paint), float(weight)


def loaded(server: Server, queues: int, jobs: int) -> str:
    """Make a database with so many queues and jobs; return its URL."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create database page")
    url = server.url_of("page")
    repository = Repository.of(Database(url))
    migrations.migrate(repository)
    migrations.ensure_partitions(repository)
    repository.fence.record_identity()
    repository.close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            """
            select count(pgflow.enqueue(
              'noop', '{}'::jsonb, queue => 'queue-' || n %% %s
            )) from generate_series(1, %s) as n
            """,
            (queues, jobs),
        )
        connection.execute("vacuum analyze")
    return url
