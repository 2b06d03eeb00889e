"""Answers Prometheus: concurrent scrapes share one measurement."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from pgflow_cli.errors import DatabaseUnavailable, PgflowError
from pgflow_cli.inspection import prometheus
from pgflow_cli.repository import Repository
from pgflow_cli.telemetry import logs

log = logging.getLogger("pgflow.metrics")

OpenRepository = Callable[[], AbstractContextManager[Repository]]


class Scraper:
    """The text for Prometheus, at most `cache_seconds` old; for any number of threads.

    Callers that arrive during a measurement share its result. A database that is away
    or without our schema is not an error: the answer is `pgflow_db_up 0`. One that is
    slow is up; `pgflow_scrape_failed` tells what is left out.
    """

    def __init__(
        self, open_repository: OpenRepository, cache_seconds: float = 5.0
    ) -> None:
        self._open = open_repository
        self._cache_seconds = cache_seconds
        self._looking = threading.Lock()
        self._text = b""
        self._number = 0  # number of measurements that have ended
        self._until = -math.inf

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        arrived = self._number
        with self._looking:
            if self._number == arrived and time.monotonic() >= self._until:
                self._text = prometheus.text(self._look())
                self._number += 1
                self._until = time.monotonic() + self._cache_seconds
            return self._text

    def _look(self) -> prometheus.Snapshot:
        began = time.monotonic()
        try:
            with self._open() as repository:
                return prometheus.collect(repository)
        except DatabaseUnavailable as error:
            log.debug(
                "no metrics: %s", error, extra=logs.trouble("scrape_failed", error)
            )
        except PgflowError as error:
            # The role has no grants, or the schema is another: only this log line says
            # so.
            log.warning(
                "no metrics: %s", error, extra=logs.trouble("scrape_failed", error)
            )
        return prometheus.Snapshot(None, None, time.monotonic() - began, up=False)
