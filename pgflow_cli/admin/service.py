"""What one admin server has while it runs: connections, the guard, what is cached."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pgflow_cli.admin.broker import Broker
from pgflow_cli.admin.glances import Glances
from pgflow_cli.admin.guards import Guard
from pgflow_cli.admin.plan import AdminPlan
from pgflow_cli.admin.pools import Pool
from pgflow_cli.admin.runners import Runners
from pgflow_cli.repository import Database
from pgflow_cli.scrapes import Scraper

READ_SECONDS = 2.0
WRITE_SECONDS = 30.0
_WRITERS = 4
_OLDEST_BEAT = 60.0  # seconds


class Service:
    """One admin server's means. `beat` says when its supervisor's loop last turned, on
    the monotonic clock; a server by itself has none.
    """

    def __init__(
        self, plan: AdminPlan, *, beat: Callable[[], float] | None = None
    ) -> None:
        self.plan = plan
        self.guard = Guard(plan)
        self._beat = beat
        self.ending = threading.Event()
        self.examining = threading.Lock()  # one doctor is enough for a database
        readers = max(1, plan.threads - plan.max_sse)
        self.reading = Pool(_database(plan, reads=True), readers)
        self.scraper = Scraper(self.reading.repository, plan.metrics_cache)
        self.writing = Pool(_database(plan, reads=False), min(_WRITERS, readers))
        self.runners = Runners(self.writing.database, self.ending)
        self.glances = Glances(self.reading)
        self.broker = Broker(
            self.glances,
            _database(plan, reads=True),
            most=plan.max_sse,
            ending=self.ending,
        )

    def is_turning(self) -> bool:
        """Whether the loop of whoever this server belongs to turns."""
        return self._beat is None or time.monotonic() - self._beat() < _OLDEST_BEAT

    def end(self) -> None:
        """Let whatever waits or streams come to its end."""
        self.ending.set()

    def close(self) -> None:
        """Close the connections that are idle."""
        self.runners.close()
        self.broker.close()
        self.reading.close()
        self.writing.close()


def _database(plan: AdminPlan, *, reads: bool) -> Database:
    seconds = READ_SECONDS if reads else WRITE_SECONDS
    return Database(
        plan.url,
        application_name="pgflow admin",
        connect_timeout=plan.connect_timeout,
        # The server's own limit should come first: it frees its backend, too.
        call_timeout=seconds + 2.0,
        statement_timeout=seconds,
        server_timeout=seconds,
        read_only=reads,
    )
