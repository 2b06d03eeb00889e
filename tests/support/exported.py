"""What Prometheus is promised: each metric's type and labels; and samples of a text."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

OUTCOMES = {"succeeded", "retried", "dlq", "snoozed", "released", "lost", "canceled"}
STATES = {"runnable", "scheduled", "retrying", "running", "dlq"}
# As people write them: a counter with _total, a histogram without _bucket.
TABLE: dict[str, tuple[str, set[str]]] = {
    "pgflow_queue_jobs": ("gauge", {"queue", "state"}),
    "pgflow_queue_oldest_runnable_age_seconds": ("gauge", {"queue"}),
    "pgflow_queue_oldest_running_age_seconds": ("gauge", {"queue"}),
    "pgflow_queue_expired_leases": ("gauge", {"queue"}),
    "pgflow_queue_paused": ("gauge", {"queue"}),
    "pgflow_queue_policy_limit": ("gauge", {"queue", "limit"}),
    "pgflow_jobs_enqueued_total": ("counter", {"queue", "job_type"}),
    "pgflow_attempts_total": (
        "counter",
        {"queue", "job_type", "error_code", "outcome"},
    ),
    "pgflow_job_duration_seconds": ("histogram", {"queue", "job_type"}),
    "pgflow_job_wait_seconds": ("histogram", {"queue"}),
    "pgflow_leases_expired_total": ("counter", {"queue"}),
    "pgflow_log_lines_dropped_total": ("counter", set()),
    "pgflow_replays_total": ("counter", {"queue"}),
    "pgflow_ingest_decisions_total": ("counter", {"queue", "reason_code"}),
    "pgflow_policy_decisions_total": ("counter", {"queue", "reason_code"}),
    "pgflow_workers": ("gauge", {"queue"}),
    "pgflow_worker_slots": ("gauge", {"queue", "state"}),
    "pgflow_worker_processes": ("gauge", {"state"}),
    "pgflow_maintenance_last_success_timestamp_seconds": ("gauge", {"task"}),
    "pgflow_maintenance_rows_total": ("counter", {"task"}),
    "pgflow_backup_last_success_timestamp_seconds": ("gauge", set()),
    "pgflow_backup_bytes": ("gauge", set()),
    "pgflow_fenced": ("gauge", set()),
    "pgflow_db_up": ("gauge", set()),
    "pgflow_db_clock_skew_seconds": ("gauge", set()),
    "pgflow_oldest_xmin_age_seconds": ("gauge", set()),
    "pgflow_db_connections": ("gauge", {"state"}),
    "pgflow_table_dead_tuples": ("gauge", {"table"}),
    "pgflow_build_info": ("gauge", {"version", "schema"}),
    "pgflow_scrape_duration_seconds": ("gauge", set()),
    "pgflow_scrape_failed": ("gauge", {"part"}),
    "pgflow_queues": ("gauge", set()),
    "pgflow_queues_left_out": ("gauge", set()),
    "pgflow_queue_depth": ("gauge", set()),
    "pgflow_running_jobs": ("gauge", set()),
    "pgflow_jobs_succeeded_last_60s": ("gauge", set()),
    "pgflow_jobs_failed_last_60s": ("gauge", set()),
}
# As queries write them.
SERIES = {
    name + suffix
    for name, (kind, _) in TABLE.items()
    for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
}


def families(text: bytes) -> dict[str, Metric]:
    """Return the metrics of a text, by the names of TABLE."""
    return {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in text_string_to_metric_families(text.decode())
    }


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Return the value of each series, by its name and sorted labels."""
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))): (
            sample.value
        )
        for family in families(text).values()
        for sample in family.samples
    }


def counters(text: bytes) -> dict[tuple[str, ...], float]:
    """Return the series that must never fall."""
    ends = ("_total", "_bucket", "_sum", "_count")
    return {k: v for k, v in samples(text).items() if k[0].endswith(ends)}
