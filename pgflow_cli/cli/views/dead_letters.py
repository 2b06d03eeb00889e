"""The columns of lists, groups and counts of dead letters."""

from __future__ import annotations

from pgflow_cli.cli.output import messages

_DEAD_LETTERS = (
    messages.Column("id", kind="id"),
    messages.Column("queue"),
    messages.Column("job_type", "TYPE"),
    messages.Column("dlq_at", "DIED", kind="time"),
    messages.Column("tries", "ATTEMPTS"),
    messages.Column("dlq_reason_code", "REASON"),
    messages.Column("last_error_code", "ERROR"),
    messages.Column("last_error_message", "MESSAGE"),
    messages.Column("status", wide=True),
    messages.Column("run_at", kind="time", wide=True),
    messages.Column("created_at", kind="time", wide=True),
    messages.Column("updated_at", kind="time", wide=True),
    messages.Column("short_id", wide=True),
    *(
        messages.Column(name, kind="number", wide=True)
        for name in ("priority", "max_attempts", "attempt_no", "failed_attempts")
    ),
    *(messages.Column(name, wide=True) for name in ("fingerprint", "code_version")),
    messages.Column("worker_id", "WORKER", wide=True),
    messages.Column("resolved_at", kind="time", wide=True),
    messages.Column("resolution", wide=True),
    messages.Column("replay_job_id", "REPLAY", kind="id", wide=True),
    messages.Column("replay_of_job_id", "REPLAY OF", kind="id", wide=True),
)
COUNTS = (
    # Not of kind "time": ages would make one of several buckets.
    messages.Column("bucket", kind="word"),
    messages.Column("key"),
    messages.Column("count", kind="number"),
)


def dead_letters() -> tuple[messages.Column, ...]:
    """Return the columns of a list; programs get the numbers `tries` is made of."""
    if not messages.is_machine():
        return _DEAD_LETTERS
    return tuple(column for column in _DEAD_LETTERS if column.field != "tries")


def groups(by: str) -> tuple[messages.Column, ...]:
    """Return the columns of groups by one of `letters.KEYS`."""
    return (
        messages.Column("key", by.replace("-", " ").upper(), kind="word"),
        messages.Column("count", kind="number"),
        messages.Column("share", kind="share"),
        messages.Column("first_at", "FIRST", kind="time"),
        messages.Column("last_at", "LAST", kind="time"),
        messages.Column("job_type", "TYPE"),
        messages.Column("error_code", "ERROR"),
        messages.Column("sample_job_id", "SAMPLE", kind="id"),
        messages.Column("message"),
    )
