"""The spare process's conversation with PostgreSQL: it takes over one suspect, settles
it when it ends, and leases nothing. See `suspects`.
"""

from __future__ import annotations

import logging
from typing import Any

from pgflow_cli.errors import REFUSALS, OutcomeUnknown
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.models.jobs import LeasedJob, Suspect
from pgflow_cli.telemetry import logs
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.leasing.loop import LeaseLoop

log = logging.getLogger("pgflow.worker")


class SpareLoop(LeaseLoop):
    """`taken` is None until it is known whether the job was taken over. Once it is not,
    or has been settled, the process ends.
    """

    def __init__(self, suspect: Suspect, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._suspect = suspect
        self.taken: bool | None = None

    def _turn(self, runs: list[Run]) -> None:
        if self.taken is None and not self._capacity.ending:
            job = self._take_over()
            self.taken = job is not None
        super()._turn(runs)
        if not self._capacity.in_flight:
            self._capacity.ending = True

    def _take_over(self) -> LeasedJob | None:
        """Take the job over; an outage is waited for by the turn.

        None if it is not there any more, or if that is unknown.
        """
        capacity, sent = self._capacity, monotonic()
        try:
            job = self._repository.leases.take_over_job(self._request, self._suspect)
        except OutcomeUnknown:
            capacity.doubts.add(self._suspect.job_id, sent)
            return None
        except REFUSALS as error:
            log.error(  # noqa: TRY400 - the sentence is all there is to know
                "job %s cannot be taken over: %s",
                self._suspect.job_id,
                error,
                extra=logs.trouble("take_over_refused", error),
            )
            return None
        if job is not None:
            # Not as what is leased: its wait was counted when it was.
            capacity.confirm(0, 0, leased=1)
            capacity.memory.hold(job.lease_id, sent + self._options.lease_seconds)
            self._open[job.lease_id] += 1
            capacity.accept([job], self.deliver, monotonic())
        return job
