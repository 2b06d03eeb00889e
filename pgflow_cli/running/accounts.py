"""What is counted and logged of the outcomes that the database has taken."""

from __future__ import annotations

import logging

from pgflow_cli import handlers
from pgflow_cli.handlers.outcomes import SUCCEEDED, Outcome
from pgflow_cli.models.jobs import CycleReply
from pgflow_cli.running.exchange import Exchange
from pgflow_cli.running.slots import Run
from pgflow_cli.telemetry import counters

log = logging.getLogger("pgflow.worker")


class Accounts(Exchange):
    """Counts and logs what this connection has settled."""

    def _count(self, runs: list[Run], reply: CycleReply) -> None:
        """Count the attempts that this connection has settled.

        Not what was given back unstarted, and not what an operator has canceled: that
        is counted where it is written.
        """
        lost = set(reply.lost)
        self._intake.counters.count_attempts(
            _counted(run, run.outcome)
            for run in runs
            if run.outcome is not None
            and not run.stale
            and not run.refused
            and run.outcome.status != "canceled"
            and run.leased.job_id not in lost
        )

    def _note(self, runs: list[Run], reply: CycleReply) -> None:
        """Write the log lines of what has been settled."""
        lost = set(reply.lost)
        if not self._plan.log_jobs and not lost:
            runs = [r for r in runs if r.outcome is not SUCCEEDED or r.stale]
        for run in runs:
            outcome = run.outcome
            if outcome is None or run.refused:
                continue
            if run.leased.job_id in lost or run.stale:
                log.warning(
                    "outcome of job %s thrown away: its lease is gone",
                    run.leased.job_id,
                    extra={
                        **handlers.fields(run.job or run.leased),
                        "event": "stale_outcome",
                    },
                )
            elif outcome.status != "succeeded" or self._plan.log_jobs:
                took = run.ended - run.started if run.started else 0.0
                handlers.log_outcome(log, run.job or run.leased, outcome, took)


def _counted(run: Run, outcome: Outcome) -> tuple[counters.Attempt, float | None]:
    """Return the counter of a settled job, and how long its attempt took if it ran."""
    ran = outcome.status in counters.TIMED
    attempt = counters.attempt_of(
        run.leased,
        outcome.status,
        outcome.error_code,
        dead=outcome.dlq_reason_code is not None,
    )
    return attempt, run.ended - run.started if ran else None
