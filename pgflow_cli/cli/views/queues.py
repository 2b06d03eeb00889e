"""The columns of queues, for readers and for programs."""

from __future__ import annotations

from pgflow_cli.cli.output.cells import Column

# What HTTP returns, and a little more; the first is what -o ids prints.
RECORDS = (
    Column("queue", kind="id"),
    *(
        Column(name)
        for name in (
            "runnable", "scheduled", "running", "dlq", "oldest_age_seconds",
            "in_per_sec", "out_per_sec", "error_percent", "retry_percent", "drain",
            "workers", "policy", "paused", "p95_ms", "counts_are_exact",
        )
    ),
)  # fmt: skip
_RUNNABLE = Column(
    "runnable_words", "RUNNABLE", kind="number", sort_by="runnable", spare=True
)
_SCHEDULED = Column(
    "scheduled_words", "SCHED", kind="number", sort_by="scheduled", spare=True
)
_RUNNING = Column("running_words", "RUN", kind="number", sort_by="running", spare=True)
_DLQ = Column("dlq_words", "DLQ", kind="number", sort_by="dlq", spare=True)
_OLDEST = Column("oldest_age_seconds", "OLDEST", kind="seconds", spare=True)
_IN = Column("in_words", "IN/s", kind="number", sort_by="in_per_sec", spare=True)
_OUT = Column("out_words", "OUT/s", kind="number", sort_by="out_per_sec", spare=True)
_ERRORS = Column(
    "error_words", "ERR%", kind="number", sort_by="error_percent", spare=True
)
_RETRIES = Column(
    "retry_words", "RETRY%", kind="number", sort_by="retry_percent", spare=True
)
_P95 = Column("p95_words", "p95", kind="number", sort_by="p95_ms", spare=True)
_DRAIN = Column("drain_words", "DRAIN", sort_by="drain_seconds", spare=True)

LIST = (
    Column("queue"),
    _RUNNABLE,
    _SCHEDULED,
    _RUNNING,
    _DLQ,
    _OLDEST,
    _IN,
    _OUT,
    _ERRORS,
    _RETRIES,
    _DRAIN,
    Column("workers", kind="number", spare=True),
    Column("policy_words", "POLICY", spare=True),
    Column("paused_words", "PAUSED", spare=True),
    Column("p95_words", "p95", kind="number", wide=True, sort_by="p95_ms", spare=True),
)
SHOW = (
    Column("queue"),
    Column("runnable_words", "RUNNABLE"),
    Column("oldest_age_seconds", "OLDEST", kind="seconds"),
    Column("scheduled_words", "SCHEDULED"),
    Column("running_words", "RUNNING"),
    Column("oldest_running_age_seconds", "OLDEST RUNNING", kind="seconds"),
    Column("expired_leases"),
    Column("dlq_words", "DLQ"),
    Column("in_words", "IN/s"),
    Column("out_words", "OUT/s"),
    Column("error_words", "ERR%"),
    Column("retry_words", "RETRY%"),
    Column("mean_ms", "MEAN", kind="ms"),
    Column("p95_words", "p95"),
    Column("drain_sentence", "DRAIN"),
    Column("workers"),
    Column("policy_words", "POLICY"),
    Column("pause_sentence", "PAUSED"),
)
TOP = (
    Column("queue"),
    _RUNNABLE,
    _OLDEST,
    _SCHEDULED,
    _RUNNING,
    _DLQ,
    _IN,
    _OUT,
    _ERRORS,
    _RETRIES,
    _P95,
    _DRAIN,
    Column("hindrance", "POLICY", spare=True),
    Column("sparkline", "60s", sort_by="out_per_sec", spare=True),
)
# Field by field what GET /metrics returns of a queue.
METRICS_RECORDS = (
    Column("queue", kind="id"),
    *(
        Column(name)
        for name in (
            "at", "runnable_queue_depth", "jobs_per_sec", "success_rate", "retry_rate",
            "mean_latency_ms", "oldest_runnable_age_seconds", "scheduled", "running",
            "dlq", "drain", "counts_are_exact",
        )
    ),
)  # fmt: skip
METRICS = (
    Column("queue"),
    _RUNNABLE,
    _OLDEST,
    _SCHEDULED,
    _RUNNING,
    _DLQ,
    Column(
        "attempts_words",
        "JOBS/s",
        kind="number",
        sort_by="attempts_per_sec",
        spare=True,
    ),
    Column(
        "success_words", "SUCCESS%", kind="number", sort_by="success_rate", spare=True
    ),
    _RETRIES,
    Column("mean_ms", "MEAN", kind="ms", spare=True),
    _DRAIN,
)
