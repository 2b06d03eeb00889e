"""Logs the outcome of an attempt."""

from __future__ import annotations

import logging

from pgflow_cli.handlers.job import Job, fields
from pgflow_cli.handlers.outcomes import Outcome, event_of
from pgflow_cli.models.jobs import LeasedJob


def log_outcome(
    log: logging.Logger, job: Job | LeasedJob, outcome: Outcome, seconds: float
) -> None:
    """Write one line on how a job's attempt ended.

    The fields have the data of the event; the message is a sentence for people.
    """
    words, level = _in_words(outcome)
    told = {
        **fields(job),
        "event": event_of(outcome),
        "latency_ms": round(seconds * 1000, 1),
        "error_code": outcome.error_code,
        "reason_code": outcome.dlq_reason_code,
        "error_message": outcome.error_message,
        "delay": None if outcome.delay is None else round(outcome.delay, 1),
    }
    log.log(
        level,
        "%s attempt %d %s",
        told["job_type"],
        told["attempt_no"],
        words,
        extra={name: value for name, value in told.items() if value is not None},
    )


def _in_words(outcome: Outcome) -> tuple[str, int]:
    after = "" if outcome.delay is None else f", again in {outcome.delay:.1f} s"
    if outcome.status == "failed":
        end = f", dead: {outcome.dlq_reason_code}" if outcome.dlq_reason_code else after
        text = f"failed with {outcome.error_code}{end}: {outcome.error_message}"
        return text, logging.ERROR if outcome.dlq_reason_code else logging.WARNING
    if outcome.status == "released":
        return f"was given back: {outcome.error_message}", logging.WARNING
    return outcome.status + after, logging.INFO
