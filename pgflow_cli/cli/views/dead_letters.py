"""The columns of lists, groups and counts of dead letters."""

from __future__ import annotations

from pgflow_cli.cli.output import records
from pgflow_cli.cli.output.cells import Column

_DEAD_LETTERS = (
    Column("id", kind="id"),
    Column("queue"),
    Column("job_type", "TYPE"),
    Column("dlq_at", "DIED", kind="time"),
    Column("tries", "ATTEMPTS"),
    Column("dlq_reason_code", "REASON"),
    Column("last_error_code", "ERROR"),
    Column("last_error_message", "MESSAGE"),
    Column("status", wide=True),
    Column("run_at", kind="time", wide=True),
    Column("created_at", kind="time", wide=True),
    Column("updated_at", kind="time", wide=True),
    Column("short_id", wide=True),
    *(
        Column(name, kind="number", wide=True)
        for name in ("priority", "max_attempts", "attempt_no", "failed_attempts")
    ),
    *(Column(name, wide=True) for name in ("fingerprint", "code_version")),
    Column("worker_id", "WORKER", wide=True),
    Column("resolved_at", kind="time", wide=True),
    Column("resolution", wide=True),
    Column("replay_job_id", "REPLAY", kind="id", wide=True),
    Column("replay_of_job_id", "REPLAY OF", kind="id", wide=True),
)
COUNTS = (
    # Not of kind "time": ages would make one of several buckets.
    Column("bucket", kind="word"),
    Column("key"),
    Column("count", kind="number"),
)


def dead_letters() -> tuple[Column, ...]:
    """Return the columns of a list; programs get the numbers `tries` is made of."""
    if not records.is_machine():
        return _DEAD_LETTERS
    return tuple(column for column in _DEAD_LETTERS if column.field != "tries")


def groups(by: str) -> tuple[Column, ...]:
    """Return the columns of groups by one of `letters.KEYS`."""
    return (
        Column("key", by.replace("-", " ").upper(), kind="word"),
        Column("count", kind="number"),
        Column("share", kind="share"),
        Column("first_at", "FIRST", kind="time"),
        Column("last_at", "LAST", kind="time"),
        Column("job_type", "TYPE"),
        Column("error_code", "ERROR"),
        Column("sample_job_id", "SAMPLE", kind="id"),
        Column("message"),
    )
