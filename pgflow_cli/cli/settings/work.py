"""What `work` and `maintain` take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from pgflow_cli.cli.settings import common, serve
from pgflow_cli.cli.settings.option import (
    DAY,
    TEN_YEARS,
    OptionGroup,
    declared,
    flag,
    flattened,
    setting,
)
from pgflow_cli.cli.settings.serve import ServingOptions
from pgflow_cli.cli.settings.types import (
    NAME,
    Choice,
    Duration,
    Endpoint,
    Number,
    QueueList,
)

exec_ = flag(
    "--exec",
    "executables",
    help="Run a command for a job type, the payload on its stdin; repeatable.",
    multiple=True,
    metavar="TYPE=CMD",
)


# Every start of the program makes the class: what is not needed costs time.
@dataclass(frozen=True, init=False, repr=False, eq=False)
class WorkOptions:
    """What `pgflow work` was told."""

    app: tuple[str, ...] = declared(common.app)
    executables: tuple[str, ...] = declared(exec_)
    exec_env: bool = setting(
        "--exec-env", help="Let those commands see DATABASE_URL.", is_flag=True
    )
    handlers_dir: Path | None = setting(
        "--handlers-dir",
        help="Run this folder's executable files, each for the type it is named after.",
        kind=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
    )
    on_unknown: str = setting(
        "--on-unknown",
        help="Leave job types without a handler to other workers, or move them to the"
        " DLQ.",
        kind=Choice(("leave", "dlq")),
        default="leave",
    )
    simulate: bool = setting(
        "--simulate",
        help="Register the demo handlers, if there are no others.",
        variable=True,
        is_flag=True,
    )
    queue: tuple[str, ...] = setting(
        "-q",
        "--queue",
        help="The queues to serve, with commas between them; '*' for all.",
        variable=True,
        kind=QueueList(),
        multiple=True,
        default=("default",),
        metavar="A,B|'*'",
        callback=flattened,
    )
    concurrency: int = setting(
        "-c",
        "--concurrency",
        help="How many jobs a process runs at once.",
        variable=True,
        kind=Number(1, 1000),
        default=8,
    )
    processes: int = setting(
        "--processes",
        help="How many processes run jobs.",
        variable=True,
        kind=Number(1, 256),
        default=1,
    )
    batch_size: int = setting(
        "--batch-size",
        help="How many jobs to lease at most in one statement.",
        variable="PGFLOW_DEQUEUE_BATCH_SIZE",
        kind=Number(1, 10_000),
        default=256,
    )
    pool_size: int | None = setting(
        "--pool-size",
        help="How many connections a process leases and settles over at most.",
        variable="PGFLOW_DB_MAX_CONNECTIONS",
        kind=Number(1, 1000),
        show_default="as many as it uses",
    )
    worker_id: str | None = setting(
        "--worker-id",
        help="The name of this worker.",
        variable=True,
        kind=NAME,
        metavar="NAME",
        show_default="hostname-pid",
    )
    lease_seconds: int = setting(
        "--lease-seconds",
        help="How long a job stays with a worker that has gone silent.",
        variable=True,
        kind=Number(1, 86_400),
        default=10,
    )
    heartbeat: float | None = setting(
        "--heartbeat",
        help="How often leases are renewed; at most a third of the lease.",
        kind=Duration(0.05, 28_800),
        show_default="a third of the lease",
    )
    reap_interval: float = setting(
        "--reap-interval",
        help="How often expired leases are looked for; the variable counts"
        " milliseconds.",
        variable="PGFLOW_REAP_INTERVAL_MS",
        kind=Duration(0.05, 3600),
        default="5s",
        unit="ms",
    )
    crash_budget: int = setting(
        "--crash-budget",
        help="Move a job to the DLQ once it was lost with its worker this often.",
        kind=Number(1, 1000),
        default=3,
    )
    poll: float = setting(
        "--poll",
        help="How often an idle worker looks for jobs.",
        kind=Duration(0.01, 3600),
        default="250ms",
    )
    listen: bool = setting(
        "--listen/--no-listen",
        help="Whether idle workers are also woken by NOTIFY.",
        is_flag=True,
        default=True,
    )
    migrate: bool = setting(
        "--migrate",
        help="Bring the schema up to date first.",
        variable="PGFLOW_MIGRATE_ON_STARTUP",
        is_flag=True,
    )
    maintain: bool = setting(
        "--maintain/--no-maintain",
        help="Whether it also does what `pgflow maintain` does.",
        variable="PGFLOW_MAINTAIN",
        is_flag=True,
        default=True,
    )
    maintenance_interval: float = setting(
        "--maintenance-interval",
        help="How often it does; the variable counts seconds.",
        variable="MAINTENANCE_INTERVAL_SECS",
        kind=Duration(0.5, DAY),
        default="60s",
        unit="s",
    )
    shutdown_timeout: float = setting(
        "--shutdown-timeout",
        help="How long running jobs may take to end after SIGTERM; giving back the rest"
        " takes up to 6s more.",
        variable=True,
        kind=Duration(0, DAY),
        default="30s",
    )
    wait_for_db: float | None = setting(
        "--wait-for-db",
        help="Wait so long for the database to answer and take writes, then exit 69.",
        kind=Duration(),
        show_default="30s with --drain or --once, else without end",
    )
    drain: bool = setting(
        "--drain", help="Exit 0 when nothing is left to run.", is_flag=True
    )
    once: bool = setting("--once", help="Run one batch, then exit.", is_flag=True)
    max_jobs: int | None = setting(
        "--max-jobs", help="Exit after so many jobs.", kind=Number(1, 10**15)
    )
    max_runtime: float | None = setting(
        "--max-runtime",
        help="Exit after so long; with 75 if --drain or --once is not done.",
        kind=Duration(0.1),
    )
    idle_timeout: float | None = setting(
        "--idle-timeout", help="Exit after so long without a job.", kind=Duration(0.1)
    )
    log_jobs: bool = setting(
        "--log-jobs",
        help="Log each job that ends.",
        variable="PGFLOW_VERBOSE_JOB_LOGS",
        is_flag=True,
    )
    code_version: str | None = setting(
        "--code-version",
        help="The version of the handlers, for the history of attempts.",
        variable=True,
        kind=NAME,
        metavar="TEXT",
    )
    admin: Endpoint | None = declared(serve.work_admin)
    probe: Endpoint | None = declared(serve.probe)
    serving: ServingOptions = declared(serve.SERVING)
    check: bool = setting(
        "--check",
        help="Print handlers, queues and limits, then exit; connect to the database"
        " only with --wait-for-db.",
        is_flag=True,
    )


WORK = OptionGroup(WorkOptions)

# What `maintain` takes; `work` uses the variables when it maintains.

archive_after = flag(
    "--archive-after",
    help="When a job that succeeded moves to the archive; the variable counts days.",
    variable="ARCHIVE_SUCCEEDED_AFTER_DAYS",
    kind=Duration(0, TEN_YEARS),
    default="7d",
    unit="d",
)
prune_after = flag(
    "--prune-after",
    help="How long the archive keeps a job and its attempts, and how long decisions"
    " are kept; the variable counts days.",
    variable="PRUNE_HISTORY_AFTER_DAYS",
    kind=Duration(0, TEN_YEARS),
    default="7d",
    unit="d",
)
interval = flag(
    "--interval",
    help="How often, with --loop; the variable counts seconds.",
    variable="MAINTENANCE_INTERVAL_SECS",
    kind=Duration(0.5, DAY),
    default="60s",
    unit="s",
)
MAINTAIN = (archive_after, prune_after, interval)
