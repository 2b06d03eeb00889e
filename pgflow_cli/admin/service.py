"""What one admin server works with: connections, the guard, what is cached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from pgflow_cli.admin.cache import ReportCache
from pgflow_cli.admin.events import Broker
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.admin.pool import Pool
from pgflow_cli.admin.replay_runner import Runners
from pgflow_cli.admin.security import Guard
from pgflow_cli.inspection.scrape import Scraper
from pgflow_cli.repository import Database

PROBE_SECONDS = 1.0
READ_SECONDS = 2.0
WRITE_SECONDS = 30.0
_WRITERS = 4
_PROBERS = 2
_OLDEST_BEAT = 60.0  # seconds


class Service:
    """Everything one admin server works with. `beat` returns when the loop of its
    supervisor last turned, on the monotonic clock; a server on its own has none.
    """

    def __init__(
        self, options: AdminOptions, *, beat: Callable[[], float] | None = None
    ) -> None:
        self.options = options
        self.guard = Guard(options)
        self._beat = beat
        self.ending = threading.Event()
        self.examining = threading.Lock()  # one doctor is enough for a database
        readers = max(1, options.threads - options.max_sse)
        reads = _database(options, READ_SECONDS, reads=True)
        self.reading = Pool(reads, readers)
        # Probes do not wait behind requests, nor as long as they do. They want to know
        # whether the database takes writes, so they do not forbid them themselves.
        probes = replace(_database(options, PROBE_SECONDS, reads=True), read_only=False)
        self.probing = Pool(probes, _PROBERS)
        # Its own: a scrape that finds no connection free would tell of an outage.
        self._scraping = Pool(reads, 1)
        self.scraper = Scraper(self._scraping.repository, options.metrics_cache)
        writes = _database(options, WRITE_SECONDS, reads=False)
        self.writing = Pool(writes, min(_WRITERS, readers))
        self.runners = Runners(writes, self.ending)
        self.reports = ReportCache(self.reading)
        self.broker = Broker(
            self.reports,
            reads,
            most=options.max_sse,
            ending=self.ending,
        )

    def is_turning(self) -> bool:
        """Whether the supervisor's loop turns; always, without a supervisor."""
        return self._beat is None or time.monotonic() - self._beat() < _OLDEST_BEAT

    def end(self) -> None:
        """Make everything that waits or streams come to its end."""
        self.ending.set()

    def close(self) -> None:
        """Close the connections that are idle."""
        self.runners.close()
        self.broker.close()
        self.probing.close()
        self.reading.close()
        self._scraping.close()
        self.writing.close()


def _database(options: AdminOptions, seconds: float, *, reads: bool) -> Database:
    return Database(
        options.url,
        application_name="pgflow admin",
        connect_timeout=min(options.connect_timeout, seconds * 2.5),
        # The server's own limit should come first: it frees its backend, too.
        call_timeout=seconds * 1.5 if reads else seconds + 2.0,
        statement_timeout=seconds,
        server_timeout=seconds,
        read_only=reads,
    )
