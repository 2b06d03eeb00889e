"""The columns of lists, groups and counts of dead letters."""

from __future__ import annotations

from pgflow_cli import output

_DEAD_LETTERS = (
    output.Column("id", kind="id"),
    output.Column("queue"),
    output.Column("job_type", "TYPE"),
    output.Column("dlq_at", "DIED", kind="time"),
    output.Column("tries", "ATTEMPTS"),
    output.Column("dlq_reason_code", "REASON"),
    output.Column("last_error_code", "ERROR"),
    output.Column("last_error_message", "MESSAGE"),
    output.Column("status", wide=True),
    output.Column("run_at", kind="time", wide=True),
    output.Column("created_at", kind="time", wide=True),
    output.Column("updated_at", kind="time", wide=True),
    output.Column("short_id", wide=True),
    *(
        output.Column(name, kind="number", wide=True)
        for name in ("priority", "max_attempts", "attempt_no", "failed_attempts")
    ),
    *(output.Column(name, wide=True) for name in ("fingerprint", "code_version")),
    output.Column("worker_id", "WORKER", wide=True),
    output.Column("resolved_at", kind="time", wide=True),
    output.Column("resolution", wide=True),
    output.Column("replay_job_id", "REPLAY", kind="id", wide=True),
    output.Column("replay_of_job_id", "REPLAY OF", kind="id", wide=True),
)
COUNTS = (
    # Not of kind "time": ages would make one of several buckets.
    output.Column("bucket", kind="word"),
    output.Column("key"),
    output.Column("count", kind="number"),
)


def dead_letters() -> tuple[output.Column, ...]:
    """Return the columns of a list; programs get the numbers `tries` is made of."""
    if not output.is_machine():
        return _DEAD_LETTERS
    return tuple(column for column in _DEAD_LETTERS if column.field != "tries")


def groups(by: str) -> tuple[output.Column, ...]:
    """Return the columns of groups by one of `letters.KEYS`."""
    return (
        output.Column("key", by.replace("-", " ").upper(), kind="word"),
        output.Column("count", kind="number"),
        output.Column("share", kind="share"),
        output.Column("first_at", "FIRST", kind="time"),
        output.Column("last_at", "LAST", kind="time"),
        output.Column("job_type", "TYPE"),
        output.Column("error_code", "ERROR"),
        output.Column("sample_job_id", "SAMPLE", kind="id"),
        output.Column("message"),
    )
