"""Cancels a job, pauses and limits a queue, quiets and resumes a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pgflow_cli.admin import query, shapes
from pgflow_cli.admin.api.jobs import ID_IN_PATH
from pgflow_cli.admin.api.queues import LIMITS, NAME_IN_PATH, QUEUE, document
from pgflow_cli.admin.api.workers import WORKER
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.shapes import ID, TEXT, Shape
from pgflow_cli.errors import UsageError
from pgflow_cli.formats import payload_text
from pgflow_cli.inspection import queues
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.queues import LIMITS as BOUNDS
from pgflow_cli.models.queues import QueuePolicy
from pgflow_cli.models.workers import ListedWorker
from pgflow_cli.operations import jobs, workers
from pgflow_cli.operations import queues as queue_operations
from pgflow_cli.repository import Repository

_HELP = {
    "max_in_flight": "Jobs that run at once.",
    "max_attempts_per_minute": "Attempts that begin in any minute.",
    "throttle_delay_ms": "How long to leave it alone when a limit holds jobs back.",
    "max_payload_bytes": "The largest payload.",
    "max_enqueue_per_minute": "Jobs that producers may add in each minute of the"
    " server's clock; 0: no limit.",
}
_LIMITS = tuple(
    Field(name, query.whole(*bounds), _HELP[name]) for name, bounds in BOUNDS.items()
)
_KILL = Field("kill", query.flag(), "A running one, too; its worker stops it.", False)
_FOR = Field("for", query.length(1, 31_536_000), "So long; else until it is resumed.")
WORKER_IN_PATH = Field(
    "worker_id",
    query.text(payload_text.JOB_TYPE, "a worker's name, or the end of an id", most=128),
    "A worker's name, for all of its processes, or the end of one process's id.",
)
CANCELED = Shape("CanceledJob", {"job_id": ID, "status": shapes.word("canceled")})
POLICY = Shape("QueuePolicy", {"queue": TEXT, **LIMITS.fields})


def cancel_job(call: Call) -> Any:
    """Cancel a job: it never runs again."""
    with call.writing() as repository:
        migrations.require_current(repository)
        job_id = repository.jobs.find_job(call.path["job_id"])
        change = jobs.cancellation(repository, call.operator, kill=call.body["kill"])
        done = change.run([job_id], batch_size=1)
    if done.left:
        raise jobs.why_left(done, "canceled", insist='"kill": true')
    return CANCELED.of({"job_id": job_id, "status": "canceled"})


def pause_queue(call: Call) -> Any:
    """Lease nothing more from a queue; what runs goes on, producers go on."""
    name = call.path["name"]
    with call.writing() as repository:
        migrations.require_current(repository)
        queue_operations.require_known(repository, [name])
        queue_operations.pause(repository, [name], call.body["for"], call.operator)
        return _queue(repository, name)


def resume_queue(call: Call) -> Any:
    """Lease from a queue again."""
    name = call.path["name"]
    with call.writing() as repository:
        migrations.require_current(repository)
        queue_operations.require_known(repository, [name])
        queue_operations.resume(repository, [name], call.operator)
        return _queue(repository, name)


def set_policy(call: Call) -> Any:
    """Set the limits of a queue; those that are not named are removed."""
    limits = {name: call.body[name] for name in BOUNDS}
    if set(limits.values()) == {None}:
        raise UsageError("which limit? name one; DELETE removes all of them")
    with call.writing() as repository:
        migrations.require_current(repository)
        _, after = queue_operations.set_policy(
            repository, call.path["name"], limits, call.operator
        )
    return POLICY.of(after)


def clear_policy(call: Call) -> Any:
    """Remove every limit of a queue; a pause stays."""
    name = call.path["name"]
    with call.writing() as repository:
        migrations.require_current(repository)
        queue_operations.require_known(repository, [name])
        queue_operations.clear_policies(repository, [name], call.operator)
    return POLICY.of(QueuePolicy(name))


def quiet_worker(call: Call) -> Any:
    """Have a worker lease nothing; what it runs goes on."""
    return _told(call, workers.quiet)


def resume_worker(call: Call) -> Any:
    """Have a quiet worker lease again."""
    return _told(call, workers.resume)


def _told(
    call: Call, tell: Callable[[Repository, Sequence[ListedWorker], Operator], int]
) -> Any:
    given = call.path["worker_id"]
    with call.writing() as repository:
        migrations.require_current(repository)
        tell(repository, workers.find(repository, given), call.operator)
        found = workers.find(repository, given)
    return {"items": [WORKER.of(process) for process in found]}


def _queue(repository: Repository, name: str) -> dict[str, Any]:
    return document(queues.take_one(repository, name, window=queues.WINDOW))


_NO_WORKER = {
    404: "There is no such worker.",
    409: "Several processes have an id that ends so.",
}
_NO_QUEUE = {404: "There is no queue of that name: no job, no policy."}
ROUTES = (
    Route(
        "POST",
        "/jobs/<job_id>/cancel",
        cancel_job,
        "Cancel a job that waits, with kill a running one, too.",
        parameters=(ID_IN_PATH,),
        body=(_KILL,),
        answer=CANCELED,
        errors={
            404: "There is no such job.",
            409: "It is in another state (WRONG_STATE), or the id is ambiguous.",
        },
    ),
    Route(
        "POST",
        "/queues/<name>/pause",
        pause_queue,
        "Lease nothing more from a queue; what runs goes on, producers go on.",
        parameters=(NAME_IN_PATH,),
        body=(_FOR,),
        answer=QUEUE,
        errors=_NO_QUEUE,
    ),
    Route(
        "POST",
        "/queues/<name>/resume",
        resume_queue,
        "Lease from a queue again.",
        parameters=(NAME_IN_PATH,),
        answer=QUEUE,
        errors=_NO_QUEUE,
    ),
    Route(
        "PUT",
        "/queues/<name>/policy",
        set_policy,
        "Set the limits of a queue; those that are not named are removed.",
        about="The lease keeps them: they hold at every instant, whatever workers there"
        " are. A queue that nobody has used yet can be limited beforehand.",
        parameters=(NAME_IN_PATH,),
        body=_LIMITS,
        answer=POLICY,
    ),
    Route(
        "DELETE",
        "/queues/<name>/policy",
        clear_policy,
        "Remove every limit of a queue; a pause stays.",
        parameters=(NAME_IN_PATH,),
        answer=POLICY,
        errors=_NO_QUEUE,
    ),
    Route(
        "POST",
        "/workers/<worker_id>/quiet",
        quiet_worker,
        "Have a worker lease nothing; what it runs goes on.",
        about="It learns of it within a third of its lease. It stays quiet, also when"
        " its process is replaced, until it is resumed or restarted.",
        parameters=(WORKER_IN_PATH,),
        answer=shapes.list_of(WORKER),
        errors=_NO_WORKER,
    ),
    Route(
        "POST",
        "/workers/<worker_id>/resume",
        resume_worker,
        "Have a quiet worker lease again.",
        about="It learns of it within a third of its lease.",
        parameters=(WORKER_IN_PATH,),
        answer=shapes.list_of(WORKER),
        errors=_NO_WORKER,
    ),
)
SHAPES = ()
