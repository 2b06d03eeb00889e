"""A few connections that requests share; each reopens itself after it broke."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pgflow_cli.errors import DatabaseUnavailable, TryLater
from pgflow_cli.repository import Database, Repository

_PATIENCE = 5.0  # seconds to wait for a connection that another request uses
_STALE = 2.0  # seconds after which a connection may have been closed by the other side
_PROMPT = 2.0  # seconds in which one that is open answers


class Pool:
    """Lends repositories, at most `size` at once; the one used last comes first."""

    def __init__(self, database: Database, size: int) -> None:
        self._database = database
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Repository]] = []
        Repository.of(database).load()

    @contextmanager
    def repository(self) -> Iterator[Repository]:
        """Lend a repository, connected if the database can be reached.

        Raises `TryLater` if none becomes free within five seconds.
        """
        if not self._free.acquire(timeout=_PATIENCE):
            raise TryLater("all connections of this server are in use")
        try:
            repository = self._taken()
            try:
                yield repository
            finally:
                with self._lock:
                    self._idle.append((time.monotonic(), repository))
        finally:
            self._free.release()

    @property
    def database(self) -> Database:
        """The database it connects to, and how."""
        return self._database

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            for _, repository in self._idle:
                repository.close()
            self._idle.clear()

    def _taken(self) -> Repository:
        with self._lock:
            since, repository = (
                self._idle.pop() if self._idle else (time.monotonic(), None)
            )
        if repository is None:
            return Repository.of(self._database)
        if time.monotonic() - since > _STALE:
            # A connection that a restart has closed is found out here, where nothing
            # is lost; it opens again at the next call.
            with suppress(DatabaseUnavailable):
                repository.diagnosis.read_clock(timeout=_PROMPT)
        return repository
