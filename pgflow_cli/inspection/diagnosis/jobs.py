"""Judges the jobs: stuck, waiting too long, or without a worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pgflow_cli.formats.times import format_duration as length
from pgflow_cli.formats.words import some
from pgflow_cli.inspection import worker_blockers
from pgflow_cli.inspection.diagnosis.finding import Finding, fail, ok, warn
from pgflow_cli.models.audit import Audit
from pgflow_cli.models.diagnosis import (
    DueQueue,
    DueType,
    ExpiredLeases,
    LongRun,
    UnreadableLetters,
)
from pgflow_cli.models.workers import WorkerProcess

# Seconds after which an expired lease shows that no worker reaps: each one does so
# every few seconds.
UNREAPED_FAIL = 60.0
OLDEST_WARN, OLDEST_FAIL = 300.0, 3600.0
# Raises the fence, as loading a dump over the schema does.
_TRIP = "insert into pgflow.a_restore_marker default values;"
# Seconds that a queue with due jobs may lack a worker: a rolling deployment has such
# moments.
NO_WORKER_FAIL = 60.0


def expired_leases(seen: ExpiredLeases) -> Finding:
    """Judge whether leases that ran out are reaped."""
    check = "jobs.expired-leases"
    if not seen.leases:
        return ok(check, "none")
    age = seen.oldest_seconds or 0.0
    found = fail if age >= UNREAPED_FAIL else warn
    return found(
        check,
        f"{seen.leases:,} leases of {seen.jobs:,} jobs have run out, the oldest "
        f"{length(age)} ago (worker {seen.worker_name}); a live worker reaps them",
        command="pgflow maintain --task reap",
    )


def unreadable(seen: UnreadableLetters) -> Finding:
    """Judge whether rows of jobs are damaged."""
    check = "jobs.unreadable"
    if not seen.letters and not seen.waiting:
        return ok(check, "none among dead letters and the first that wait")
    what = []
    if seen.letters:
        what.append(f"of {seen.letters:,} jobs, which are dead letters")
    if seen.waiting:
        what.append(
            f"of {seen.waiting:,} that wait: a worker makes dead letters of them"
        )
    damages = "; ".join(seen.damages) or "look for damage in the database"
    return fail(
        check,
        f"the rows {' and '.join(what)}, cannot be read: {damages}",
        command=f"pgflow explain {seen.job_id}  |  pgflow dlq list --reason UNREADABLE"
        "  |  RUNBOOK, Jobs that cannot be read",
    )


def long_runs(seen: Sequence[LongRun]) -> Iterator[Finding]:
    """Judge jobs that run for over ten times what their type takes."""
    check = "jobs.long-running"
    for run in seen[:5]:
        yield warn(
            check,
            f"{run.job_type} {run.job_id} runs for {length(run.seconds)} on "
            f"{run.worker_name}; 99% of its type take {length(run.p99_seconds)}",
            command=f"pgflow explain {run.job_id}  |  "
            f"pgflow jobs cancel {run.job_id} --kill",
        )
    if len(seen) > 5:
        yield warn(
            check, f"and {len(seen) - 5} more", command="pgflow jobs list --slow"
        )
    if not seen:
        yield ok(check, "none over 10 times the p99 of its type")


def oldest_runnable(seen: Sequence[DueQueue]) -> Iterator[Finding]:
    """Judge how long the oldest due job of each queue waits."""
    check = "jobs.oldest-runnable"
    waiting = [queue for queue in seen if not queue.paused]
    late = [queue for queue in waiting if queue.waits_seconds >= OLDEST_WARN]
    for queue in late[:5]:
        found = fail if queue.waits_seconds >= OLDEST_FAIL else warn
        limited = " (it has a limit)" if queue.limited else ""
        yield found(
            check,
            f"queue {queue.queue}{limited}: the oldest waits for "
            f"{length(queue.waits_seconds)}",
            command=f"pgflow explain {queue.job_id}",
        )
    if len(late) > 5:
        yield warn(check, f"and {len(late) - 5} more", command="pgflow queues list")
    if not late:
        oldest = max((queue.waits_seconds for queue in waiting), default=0.0)
        yield ok(
            check,
            f"waits for {length(oldest)}" if waiting else "nothing waits",
        )


def queue_workers(
    seen: Sequence[DueQueue], workers: Sequence[WorkerProcess]
) -> Iterator[Finding]:
    """Judge whether each queue with due jobs has a worker that lives."""
    check = "jobs.no-worker"
    alive = sum(worker.alive and not worker.spare for worker in workers)
    idle = [
        queue
        for queue in seen
        if not queue.paused
        and not any(worker.serves(queue.queue) for worker in workers)
    ]
    for queue in idle[:5]:
        found = fail if queue.waits_seconds >= NO_WORKER_FAIL else warn
        hindered = worker_blockers.of_queue(workers, queue.queue)
        why = f": {'; '.join(hindered)}" if hindered else ""
        yield found(
            check,
            f"queue {queue.queue} has had due jobs for {length(queue.waits_seconds)},"
            f" and none of {alive} live workers "
            f"{'leases from' if hindered else 'serves'} it{why}",
            command=_way_to_serve(queue.queue, workers),
        )
    if len(idle) > 5:
        yield warn(check, f"and {len(idle) - 5} more", command="pgflow workers list")
    if not idle:
        yield ok(check, f"none; {alive} workers live")


def _way_to_serve(queue: str, workers: Sequence[WorkerProcess]) -> str:
    if quiet := worker_blockers.quiet_workers(workers, queue):
        return f"pgflow workers resume {quiet[0]}"
    if worker_blockers.is_restarting(workers, queue):
        return "read the log of its supervisor; pgflow work --check"
    return f"pgflow work -q {queue}"


def stalled_workers(workers: Sequence[WorkerProcess]) -> Iterator[Finding]:
    """Judge whether a live worker leases nothing though due jobs wait for it."""
    check = "jobs.stalled-workers"
    stalled = [
        worker
        for worker in workers
        if worker.alive and not worker.quiet and worker.stalled_for is not None
    ]
    for worker in stalled[:5]:
        said = worker_blockers.of_worker(worker) or worker.name
        yield fail(check, said, command="pgflow workers list -o wide")
    if len(stalled) > 5:
        yield fail(check, f"and {len(stalled) - 5} more", command="pgflow workers list")
    if not stalled:
        yield ok(check, "none: due jobs are leased")


def type_handlers(
    seen: Sequence[DueType], workers: Sequence[WorkerProcess]
) -> Iterator[Finding]:
    """Judge whether the workers of a queue have handlers for its due types.

    A queue without any worker is the finding of `jobs.no-worker`.
    """
    check = "jobs.no-handler"
    orphans = [
        due
        for due in seen
        if any(worker.serves(due.queue) for worker in workers)
        and not any(worker.takes(due.queue, due.job_type) for worker in workers)
    ]
    for due in orphans[:5]:
        found = fail if due.waits_seconds >= NO_WORKER_FAIL else warn
        yield found(
            check,
            f"no live worker of queue {due.queue} has a handler for {due.job_type}; "
            f"due for {length(due.waits_seconds)}",
            command=f"deploy its handler, then see: pgflow workers list; or try: "
            f"pgflow work -q {due.queue} --exec {due.job_type}=CMD",
        )
    if len(orphans) > 5:
        named = some([due.job_type for due in orphans[5:]])
        yield warn(check, f"and of {named}", command="pgflow workers list")
    if not orphans:
        yield ok(check, "none among the first due jobs of each queue")


def unlisted_places(seen: Sequence[tuple[str, int]]) -> Finding | None:
    """Judge whether leases look everywhere where jobs wait; None if they do.

    `seen` are queues and priorities where they do not look.
    """
    if not seen:
        return None
    named = some([f"{queue} at priority {priority}" for queue, priority in seen])
    return fail(
        "jobs.audit",
        f"no worker looks at {len(seen):,} queues and priorities whose jobs wait "
        f"(rows of pgflow.queue_ranks are lost): {named}",
        command="pgflow maintain --task queues",
    )


def audit(seen: Audit) -> Finding:
    """Judge whether every job is in exactly one place."""
    check = "jobs.audit"
    wrong = [
        f"{count:,} jobs {what}"
        for count, what in (
            (seen.in_no_place, "in no place"),
            (seen.in_two_places, "in two places"),
            (seen.without_job, "named by a place that do not exist"),
        )
        if count
    ]
    if wrong:
        named = ", ".join(seen.examples or ())
        detail = f"{' and '.join(wrong)}: {named}"
        if seen.in_two_places:
            # The cause is a dump that was loaded over the schema, or an id that was
            # enqueued again after its job was archived. Accepting the database removes
            # the second copies.
            return fail(
                check, detail, sql=_TRIP, command="pgflow fence accept --no-pause"
            )
        if seen.in_no_place:
            command = (
                "pgflow doctor --check unreadable  |  RUNBOOK, Jobs that are nowhere"
                "  |  pgflow jobs list --status nowhere"
            )
        else:
            # Their rows are lost with a page of pgflow.jobs.
            command = (
                "RUNBOOK, Pages that are damaged: workers make dead letters of them, "
                "once due  |  pgflow dlq list --reason UNREADABLE"
            )
        return fail(check, detail, command=command)
    return ok(check, "every job is in exactly one place")
