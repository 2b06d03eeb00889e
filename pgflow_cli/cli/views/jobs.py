"""The columns of every screen of `pgflow jobs`."""

from __future__ import annotations

from dataclasses import replace

from pgflow_cli.cli.output.cells import Column

COLUMNS = (
    Column("id", "ID", kind="id"),
    Column("status"),
    Column("queue"),
    Column("job_type", "TYPE"),
    Column("attempt_no", "ATTEMPT", kind="number"),
    Column("updated_at", "SINCE", kind="time"),
    Column("run_at", "RUN AT", kind="time"),
    Column("last_error_code", "ERROR"),
    Column("worker_id", "WORKER", wide=True),
    Column("lease_expires_at", "LEASE ENDS", kind="time", wide=True),
    Column("created_at", "ENQUEUED", kind="time", wide=True),
    Column("priority", kind="number", wide=True),
    Column("max_attempts", "MAX", kind="number", wide=True),
    Column("dlq_reason_code", "REASON", wide=True),
    Column("last_error_message", "MESSAGE", wide=True),
    Column("fingerprint", wide=True),
    Column("dlq_at", "DIED", kind="time", wide=True),
    Column("resolved_at", "RESOLVED", kind="time", wide=True),
    Column("replay_of_job_id", "REPLAY OF", kind="id", wide=True),
    Column("short_id", wide=True),
)
_OTHER_WAY = {"status", "run_at", "worker_id", "lease_expires_at"}
# Of running jobs: who runs them matters, when they were to run no more.
RUNNING = tuple(
    replace(column, wide=not column.wide) if column.field in _OTHER_WAY else column
    for column in COLUMNS
)
WHOLE = (
    *COLUMNS,
    Column("meta", kind="json"),
    Column("payload_json", "PAYLOAD", kind="json"),
)
ENDED = (
    Column("finished_at", "ENDED", kind="time"),
    Column("job_id", "JOB", kind="id"),
    Column("queue"),
    Column("job_type", "TYPE"),
    Column("attempt_no", "NO", kind="number"),
    Column("status"),
    Column("latency_ms", "TOOK", kind="ms"),
    Column("error_code", "ERROR"),
    Column("worker_id", "WORKER", wide=True),
    Column("error_message", "MESSAGE", wide=True),
    Column("code_version", "VERSION", wide=True),
    Column("started_at", "STARTED", kind="time", wide=True),
)
OUTCOMES = (
    Column("job_id", "JOB", kind="id"),
    Column("status"),
    Column("error_code", "ERROR"),
)
SELECTED = (
    Column("queue"),
    Column("job_type", "TYPE"),
    Column("status"),
    Column("jobs", kind="number"),
    Column("oldest", kind="time"),
    Column("newest", kind="time"),
)
CHANGED = (Column("job_id", kind="id"),)
