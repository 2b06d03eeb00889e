"""Statements about worker processes, for operators."""

from __future__ import annotations

from collections.abc import Sequence

from pgflow_cli.listings import KnownWorker
from pgflow_cli.repository.base import Part


class Workers(Part):
    """The processes that have said that they live."""

    def list_known_workers(self) -> list[KnownWorker]:
        """Return every worker process, by name."""
        return self.link.rows("list_known_workers", KnownWorker)

    def quiet_workers(self, incarnations: Sequence[str]) -> list[str]:
        """Have processes lease no more, from their next heartbeat on; return those for
        which that is new.
        """
        rows = self.link.tuples("quiet_workers", {"worker_ids": [*incarnations]})
        return [row[0] for row in rows]

    def forget_dead_workers(self, incarnations: Sequence[str]) -> list[str]:
        """Remove those that are silent for longer than their lease; return them."""
        rows = self.link.tuples("forget_dead_workers", {"worker_ids": [*incarnations]})
        return [row[0] for row in rows]
