"""The places of a worker's processes that have none, and their rows in the database.

While processes die as soon as they start, these rows are all that tells operators of
their supervisor.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from pgflow_cli.running.workplan import WorkPlan


@dataclass
class Vacancy:
    """A place without a process that is ready; `deaths`: so many processes of the
    worker have died one after the other, or could not be started.
    """

    plan: WorkPlan
    number: int
    quiet: bool = False  # what comes next is to lease nothing
    hushed: bool = False  # by a signal, of which its row does not tell yet
    deaths: int = 0
    worker_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def hush(self) -> None:
        """Have what comes next lease nothing: a signal said so."""
        self.quiet = self.hushed = True

    def learn(self, row: Mapping[str, object], *, quiet: bool) -> None:
        """Do what its row says now, to which `row` has been sent."""
        if self.hushed and not row["hushed"]:
            return
        self.hushed, self.quiet = False, quiet

    def row(self) -> dict[str, object]:
        """Return its row of the workers table: the process is the supervisor's."""
        return {
            "worker_id": self.worker_id,
            "pid": os.getpid(),
            "slots": 0,
            "busy_slots": 0,
            "lease_seconds": max(1, round(self.plan.lease_seconds)),
            "quiet": self.quiet,
            "hushed": self.hushed,
            "retiring": False,
            "spare": False,
            "deaths": self.deaths,
            "name": self.plan.name_of(self.number),
            "host": socket.gethostname(),
            "code_version": self.plan.code_version,
            "queues": self.plan.queues,
        }
