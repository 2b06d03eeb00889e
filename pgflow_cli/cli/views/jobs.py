"""The columns of every screen of `pgflow jobs`."""

from __future__ import annotations

from dataclasses import replace

from pgflow_cli.cli.output import messages

COLUMNS = (
    messages.Column("id", "ID", kind="id"),
    messages.Column("status"),
    messages.Column("queue"),
    messages.Column("job_type", "TYPE"),
    messages.Column("attempt_no", "ATTEMPT", kind="number"),
    messages.Column("updated_at", "SINCE", kind="time"),
    messages.Column("run_at", "RUN AT", kind="time"),
    messages.Column("last_error_code", "ERROR"),
    messages.Column("worker_id", "WORKER", wide=True),
    messages.Column("lease_expires_at", "LEASE ENDS", kind="time", wide=True),
    messages.Column("created_at", "ENQUEUED", kind="time", wide=True),
    messages.Column("priority", kind="number", wide=True),
    messages.Column("max_attempts", "MAX", kind="number", wide=True),
    messages.Column("dlq_reason_code", "REASON", wide=True),
    messages.Column("last_error_message", "MESSAGE", wide=True),
    messages.Column("fingerprint", wide=True),
    messages.Column("dlq_at", "DIED", kind="time", wide=True),
    messages.Column("resolved_at", "RESOLVED", kind="time", wide=True),
    messages.Column("replay_of_job_id", "REPLAY OF", kind="id", wide=True),
    messages.Column("short_id", wide=True),
)
_OTHER_WAY = {"status", "run_at", "worker_id", "lease_expires_at"}
# Of running jobs: who runs them matters, when they were to run no more.
RUNNING = tuple(
    replace(column, wide=not column.wide) if column.field in _OTHER_WAY else column
    for column in COLUMNS
)
WHOLE = (
    *COLUMNS,
    messages.Column("meta", kind="json"),
    messages.Column("payload_json", "PAYLOAD", kind="json"),
)
ENDED = (
    messages.Column("finished_at", "ENDED", kind="time"),
    messages.Column("job_id", "JOB", kind="id"),
    messages.Column("queue"),
    messages.Column("job_type", "TYPE"),
    messages.Column("attempt_no", "NO", kind="number"),
    messages.Column("status"),
    messages.Column("latency_ms", "TOOK", kind="ms"),
    messages.Column("error_code", "ERROR"),
    messages.Column("worker_id", "WORKER", wide=True),
    messages.Column("error_message", "MESSAGE", wide=True),
    messages.Column("code_version", "VERSION", wide=True),
    messages.Column("started_at", "STARTED", kind="time", wide=True),
)
OUTCOMES = (
    messages.Column("job_id", "JOB", kind="id"),
    messages.Column("status"),
    messages.Column("error_code", "ERROR"),
)
SELECTED = (
    messages.Column("queue"),
    messages.Column("job_type", "TYPE"),
    messages.Column("status"),
    messages.Column("jobs", kind="number"),
    messages.Column("oldest", kind="time"),
    messages.Column("newest", kind="time"),
)
CHANGED = (messages.Column("job_id", kind="id"),)
