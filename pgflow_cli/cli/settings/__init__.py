"""Every shared flag, variable, default and help text, once.

A flag's variable is derived from it (`--lease-seconds` → `PGFLOW_LEASE_SECONDS`) unless
the operators' documents name another. Stack a setting on a command as a decorator; one
without a flag is asked for its `value()`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pgflow_cli.cli.settings.common import (
    GLOBAL,
    VARIABLE_ONLY,
    actor,
    api_token,
    app,
    columns,
    environment,
    list_options,
    max_enqueue_per_minute,
    max_payload_bytes,
    metrics_token,
    no_headers,
    pager,
    pg_bin,
    production,
    queue_name,
    sort,
)
from pgflow_cli.cli.settings.database import (
    DEV_FOLDER,
    api_tokens,
    database_url,
    metrics_tokens,
    names_a_database,
    nearest_url,
    require_connection_text,
    typed_database_url,
)
from pgflow_cli.cli.settings.option import Session
from pgflow_cli.cli.settings.serve import (
    SERVING,
    admin_address,
    allow_host,
    api_token_file,
    insecure_no_token,
    metrics_token_file,
    probe,
    read_only,
    serving_options,
    work_admin,
)
from pgflow_cli.cli.settings.types import (
    ANY_TYPE,
    JOB_ID,
    NAME,
    PLAN,
    QUEUE,
    TYPE,
    WORKER,
    Choice,
    Duration,
    InstantType,
    Json,
    Number,
    QueueList,
    Size,
)
from pgflow_cli.cli.settings.work import (
    MAINTAIN,
    WORK,
    archive_after,
    batch_size,
    check,
    code_version,
    concurrency,
    crash_budget,
    drain,
    exec_,
    exec_env,
    handlers_dir,
    heartbeat,
    idle_timeout,
    interval,
    lease_seconds,
    listen,
    log_jobs,
    maintain,
    maintenance_interval,
    max_jobs,
    max_runtime,
    migrate,
    on_unknown,
    once,
    poll,
    pool_size,
    processes,
    prune_after,
    queues,
    reap_interval,
    shutdown_timeout,
    simulate,
    work_options,
    worker_id,
)
from pgflow_cli.errors import UsageError

__all__ = [
    "ALL",
    "ANY_TYPE",
    "DEV_FOLDER",
    "GLOBAL",
    "JOB_ID",
    "MAINTAIN",
    "NAME",
    "PLAN",
    "QUEUE",
    "SERVING",
    "TYPE",
    "VARIABLES",
    "VARIABLE_ONLY",
    "WORK",
    "WORKER",
    "Choice",
    "Duration",
    "InstantType",
    "Json",
    "Number",
    "QueueList",
    "Session",
    "Size",
    "actor",
    "admin_address",
    "allow_host",
    "api_token",
    "api_token_file",
    "api_tokens",
    "app",
    "archive_after",
    "batch_size",
    "check",
    "code_version",
    "columns",
    "concurrency",
    "crash_budget",
    "database_url",
    "drain",
    "environment",
    "exec_",
    "exec_env",
    "given",
    "handlers_dir",
    "heartbeat",
    "heartbeat_seconds",
    "idle_timeout",
    "insecure_no_token",
    "interval",
    "lease_seconds",
    "list_options",
    "listen",
    "log_jobs",
    "maintain",
    "maintenance_interval",
    "max_enqueue_per_minute",
    "max_jobs",
    "max_payload_bytes",
    "max_runtime",
    "metrics_token",
    "metrics_token_file",
    "metrics_tokens",
    "migrate",
    "names_a_database",
    "nearest_url",
    "no_headers",
    "notify_socket",
    "on_unknown",
    "once",
    "pager",
    "pg_bin",
    "poll",
    "pool_size",
    "probe",
    "processes",
    "production",
    "prune_after",
    "queue_name",
    "queues",
    "read_only",
    "reap_interval",
    "require_connection_text",
    "serving_options",
    "shutdown_timeout",
    "simulate",
    "sort",
    "status_folders",
    "trace_context",
    "typed_database_url",
    "watchdog_seconds",
    "work_admin",
    "work_options",
    "worker_id",
]

ALL = (
    *GLOBAL,
    queue_name,
    sort,
    columns,
    no_headers,
    actor,
    pg_bin,
    *WORK,
    *MAINTAIN,
    admin_address,
    *VARIABLE_ONLY,
)
VARIABLES = frozenset(setting.variable for setting in ALL if setting.variable)


def given(name: str) -> Any:
    """Return a global option as it is in force, such as `given("timeout")`."""
    return Session.current().given.get(name)


def heartbeat_seconds(lease: int, wanted: float | None) -> float:
    """Return how often to renew leases; more than a third of the lease is refused."""
    if wanted is not None and wanted > lease / 3:
        raise UsageError(
            f"--heartbeat is longer than a third of the lease ({lease}s)",
            "A worker that misses one heartbeat would lose its jobs.",
        )
    return lease / 3 if wanted is None else wanted


def status_folders() -> list[Path]:
    """Return where workers of this user write their status, the first choice first."""
    from pgflow_cli.telemetry import status_files

    return status_files.folders(os.environ.get("XDG_STATE_HOME"))


def trace_context() -> dict[str, str | None]:
    """Return the caller's trace context: no settings of ours, but a convention."""
    names = ("traceparent", "tracestate")
    return {name: os.environ.get(name.upper()) for name in names}


def notify_socket() -> str | None:
    """Return where systemd wants to hear of a service; no setting of ours either."""
    return os.environ.get("NOTIFY_SOCKET") or None


def watchdog_seconds() -> float:
    """Return how long systemd lets this very process be silent; 0: for ever."""
    micros = os.environ.get("WATCHDOG_USEC", "")
    meant = os.environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
    return int(micros) / 1e6 if meant and micros.isdecimal() else 0.0
