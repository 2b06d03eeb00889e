"""Lease and run jobs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pgflow_cli.cli import servers, settings, startup
from pgflow_cli.cli.context import command, pass_database
from pgflow_cli.cli.output import messages, records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import report
from pgflow_cli.cli.settings.common import max_enqueue_per_minute, max_payload_bytes
from pgflow_cli.cli.settings.option import build
from pgflow_cli.cli.settings.work import (
    WORK,
    WorkOptions,
    archive_after,
    prune_after,
)
from pgflow_cli.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from pgflow_cli.repository import Database
    from pgflow_cli.worker.options import WorkerOptions


@command("work")
@WORK
@pass_database
def work(database: Database, options: WorkOptions) -> None:
    """Lease and run jobs, until told to stop.

    \b
    Examples:
      pgflow work --app myapp.jobs --queue emails,default --processes 2
      pgflow work --handlers-dir ./handlers --drain
    """
    from pgflow_cli.telemetry import logs, systemd
    from pgflow_cli.worker import safeguards
    from pgflow_cli.worker.readiness import await_database
    from pgflow_cli.worker.supervisor import Supervisor

    if options.drain and options.once:
        raise UsageError("--drain and --once exclude each other")
    worker_options = _worker_options(database, options)
    if options.check:
        _check(worker_options)
        if options.wait_for_db is not None:
            await_database(database, migrate=False, patience=_patience(options))
        return
    safeguards.hide_memory()
    safeguards.start_tracker()
    logs.set_up(
        worker_options.log_format,
        worker_options.log_level,
        processes=worker_options.processes + 1,
        worker_id=worker_options.name,
    )
    logs.say_settings(report.in_force())
    systemd.say(worker_options.notify_socket, systemd.WAITING)
    with servers.companion_servers(
        database, worker_options.name, options
    ) as companions:
        await_database(database, migrate=options.migrate, patience=_patience(options))
        try:
            Supervisor(worker_options, companions, startup.kept).run()
        finally:
            startup.ignore_signals()


def _patience(options: WorkOptions) -> float:
    """Return how long to wait for a database that does not answer.

    What is to end by itself ends then, too; a worker that stays waits.
    """
    if options.wait_for_db is not None:
        return options.wait_for_db
    return 30.0 if options.drain or options.once else math.inf


def _worker_options(database: Database, options: WorkOptions) -> WorkerOptions:
    from pgflow_cli.worker.options import WorkerOptions
    from pgflow_cli.worker.readiness import worker_name

    return build(
        WorkerOptions,
        options,
        url=database.url,
        name=worker_name(options.worker_id),
        queues=None if "*" in options.queue else list(options.queue),
        apps=options.app,
        exec_specs=options.executables,
        exec_environment={"DATABASE_URL": database.url} if options.exec_env else None,
        heartbeat=settings.heartbeat_seconds(options.lease_seconds, options.heartbeat),
        max_payload_bytes=max_payload_bytes.value(),
        max_enqueue_per_minute=max_enqueue_per_minute.value(),
        archive_after=archive_after.value(),
        prune_after=prune_after.value(),
        log_format=settings.given("log_format"),
        log_level=settings.given("log_level"),
        status_folders=tuple(settings.status_folders()),
        notify_socket=settings.notify_socket(),
        watchdog=settings.watchdog_seconds(),
        connect_timeout=settings.given("connect_timeout"),
        patience=_patience(options),
        # One batch is one connection's business.
        connections=1 if options.once else min(2, options.pool_size or 2),
    )


HANDLER_COLUMNS = (
    Column("job_type", "TYPE"),
    Column("kind", "RUNS AS"),
    Column("queue"),
    Column("timeout", kind="seconds"),
    Column("concurrency", "LIMIT", kind="number"),
    Column("max_attempts", "ATTEMPTS", kind="number"),
)


def _check(worker: WorkerOptions) -> None:
    """Print what would be run; no database is needed for that.

    Raises ConfigurationError if a program could not be started.
    """
    from pgflow_cli import handlers
    from pgflow_cli.worker.execution import executables

    app = handlers.load(
        worker.apps,
        handlers_dir=worker.handlers_dir,
        exec_specs=worker.exec_specs,
        simulate=worker.simulate,
    )
    records.write(list(app.handlers.values()), HANDLER_COLUMNS)
    queues = "every queue" if worker.queues is None else ", ".join(worker.queues)
    messages.hint(
        f"Queues: {queues}; {worker.processes} x {worker.concurrency} slots,"
        f" lease {worker.lease_seconds:g}s, heartbeat {worker.heartbeat:g}s"
    )
    if faults := executables.faults_of(app):
        raise ConfigurationError("not every handler can be started", *faults)
