"""The outcomes of runs, as the statement of the lease loop takes them."""

from __future__ import annotations

from pgflow_cli.handlers.exceptions import MAX_DELAY
from pgflow_cli.models.jobs import Settlement
from pgflow_cli.worker.execution.run import Run


def settlement_of(run: Run, now: float, valid_until: float) -> Settlement:
    """Return the settlement of a job that left the slots; `now` is when it is sent.

    What is not written is said to be `left`, and never just dropped: the lease would
    keep the job for as long as another job of it runs. An outcome whose lease had run
    out before it ended is left, and what an operator has canceled: that was written
    with the order.
    """
    outcome = run.outcome
    if outcome is None and run.job is None and not run.refused:
        return _settlement(run, "unstarted")._replace(
            run_at=f"{run.leased.run_at}+00", delay=run.put_off
        )
    if run.stale is None:
        # Once: what is sent again after a lost reply is the same.
        run.stale = run.ended >= valid_until
    left = run.stale or run.settled or run.refused
    if outcome is None or outcome.status == "canceled" or left:
        return _settlement(run, "left")
    settlement = _settlement(
        run, outcome.status, _ago(now, run.started), _ago(now, run.ended)
    )
    if outcome.status == "succeeded":
        return settlement
    return settlement._replace(
        delay=outcome.delay,
        dlq_reason_code=outcome.dlq_reason_code,
        failed_attempts=run.leased.failed_attempts + (outcome.status == "failed"),
        error_code=outcome.error_code,
        error_message=outcome.error_message,
        error_fingerprint=outcome.error_fingerprint,
    )


def _settlement(
    run: Run, status: str, started_ago: float = 0.0, ended_ago: float = 0.0
) -> Settlement:
    leased = run.leased
    return Settlement(
        leased.lease_id,
        leased.job_id,
        leased.attempt_no,
        status,
        started_ago,
        ended_ago,
    )


def _ago(now: float, then: float) -> float:
    """Return the seconds since then, as the database can take them off its clock.

    A handler may have replaced the clock of its process: then they may be negative,
    endless or no number.
    """
    seconds = now - then
    return min(seconds, MAX_DELAY) if seconds > 0.0 else 0.0
