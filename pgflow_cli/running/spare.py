"""The spare process's conversation with PostgreSQL: it takes over suspects, runs them
one by one, settles each when it ends, and leases nothing. See `suspects`.
"""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pgflow_cli import logs
from pgflow_cli.clock import monotonic
from pgflow_cli.errors import REFUSALS, OutcomeUnknown
from pgflow_cli.models import Suspect
from pgflow_cli.running.cycle import Cycle
from pgflow_cli.running.slots import Run

log = logging.getLogger("pgflow.worker")


class SpareCycle(Cycle):
    """`taken` is None until it is known whether any of the jobs was taken over. Once
    none was, or all have been settled or given back, the process ends.
    """

    def __init__(self, suspects: Sequence[Suspect], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._suspects = deque(suspects)
        self._has_some = False
        self.taken: bool | None = None

    def _turn(self, runs: list[Run]) -> None:
        # An outage is waited for by the turn; what is left is taken over then.
        while self._suspects and not self._intake.ending:
            self._has_some |= self._take_over(self._suspects[0])
            self._suspects.popleft()
        self.taken = self._has_some
        super()._turn(runs)
        if not self._intake.in_flight:
            self._intake.ending = True

    def _take_over(self, suspect: Suspect) -> bool:
        """Take a job over; False if it is not there any more, or if nobody knows."""
        intake, sent = self._intake, monotonic()
        request = replace(self._request, batch_id=str(uuid.uuid4()))
        try:
            job = self._repository.take_over_job(request, suspect)
        except OutcomeUnknown:
            intake.doubts.add(request.batch_id, sent)
            return False
        except REFUSALS as error:
            log.error(  # noqa: TRY400 - the sentence is all there is to know
                "job %s cannot be taken over: %s",
                suspect.job_id,
                error,
                extra=logs.trouble("take_over_refused", error),
            )
            return False
        if job is not None:
            # Not as what is leased: its wait was counted when it was.
            intake.confirm(0, 0, leased=1)
            intake.board.hold(job.lease_id, sent + self._plan.lease_seconds)
            self._open[job.lease_id] += 1
            intake.accept([job], self.deliver, monotonic())
        return job is not None
