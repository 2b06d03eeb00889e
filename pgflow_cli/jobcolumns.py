"""The columns of every screen of `pgflow jobs`."""

from __future__ import annotations

from dataclasses import replace

from pgflow_cli import output

COLUMNS = (
    output.Column("id", "ID", kind="id"),
    output.Column("status"),
    output.Column("queue"),
    output.Column("job_type", "TYPE"),
    output.Column("attempt_no", "ATTEMPT", kind="number"),
    output.Column("updated_at", "SINCE", kind="time"),
    output.Column("run_at", "RUN AT", kind="time"),
    output.Column("last_error_code", "ERROR"),
    output.Column("worker_id", "WORKER", wide=True),
    output.Column("lease_expires_at", "LEASE ENDS", kind="time", wide=True),
    output.Column("created_at", "ENQUEUED", kind="time", wide=True),
    output.Column("priority", kind="number", wide=True),
    output.Column("max_attempts", "MAX", kind="number", wide=True),
    output.Column("dlq_reason_code", "REASON", wide=True),
    output.Column("last_error_message", "MESSAGE", wide=True),
    output.Column("fingerprint", wide=True),
    output.Column("dlq_at", "DIED", kind="time", wide=True),
    output.Column("resolved_at", "RESOLVED", kind="time", wide=True),
    output.Column("replay_of_job_id", "REPLAY OF", kind="id", wide=True),
    output.Column("short_id", wide=True),
)
_OTHER_WAY = {"status", "run_at", "worker_id", "lease_expires_at"}
# Of running jobs: who runs them matters, when they were to run no more.
RUNNING = tuple(
    replace(column, wide=not column.wide) if column.field in _OTHER_WAY else column
    for column in COLUMNS
)
WHOLE = (
    *COLUMNS,
    output.Column("meta", kind="json"),
    output.Column("payload_json", "PAYLOAD", kind="json"),
)
ENDED = (
    output.Column("finished_at", "ENDED", kind="time"),
    output.Column("job_id", "JOB", kind="id"),
    output.Column("queue"),
    output.Column("job_type", "TYPE"),
    output.Column("attempt_no", "NO", kind="number"),
    output.Column("status"),
    output.Column("latency_ms", "TOOK", kind="ms"),
    output.Column("error_code", "ERROR"),
    output.Column("worker_id", "WORKER", wide=True),
    output.Column("error_message", "MESSAGE", wide=True),
    output.Column("code_version", "VERSION", wide=True),
    output.Column("started_at", "STARTED", kind="time", wide=True),
)
OUTCOMES = (
    output.Column("job_id", "JOB", kind="id"),
    output.Column("status"),
    output.Column("error_code", "ERROR"),
)
SELECTED = (
    output.Column("queue"),
    output.Column("job_type", "TYPE"),
    output.Column("status"),
    output.Column("jobs", kind="number"),
    output.Column("oldest", kind="time"),
    output.Column("newest", kind="time"),
)
CHANGED = (output.Column("job_id", kind="id"),)
