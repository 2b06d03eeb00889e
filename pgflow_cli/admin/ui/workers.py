"""Worker processes: all of them, one of them, having it lease nothing or again."""

from __future__ import annotations

import re

from werkzeug.wrappers import Response

from pgflow_cli.admin import query
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import command_line, layout
from pgflow_cli.admin.ui.layout import Flash, writing
from pgflow_cli.formats.words import short_id
from pgflow_cli.models.workers import STATES
from pgflow_cli.operations import workers as worker_operations

_ID = Field(
    "worker_id",
    query.text(re.compile("[0-9a-f-]{6,36}"), "a process's id", most=36),
    "The id of a worker process, or the end of it.",
)


def list_workers(call: Call) -> Response:
    """List the worker processes that have been heard of."""
    with call.reading() as repository:
        workers = repository.workers.list_worker_processes()
    return layout.page(
        call,
        "workers.html",
        title="Workers",
        workers=workers,
        states=STATES,
        command="pgflow workers list",
    )


def show_worker(call: Call) -> Response:
    """Show one worker process."""
    with call.reading() as repository:
        [worker] = worker_operations.find(repository, call.path["worker_id"])
    return layout.page(
        call,
        "worker.html",
        title=f"Worker {worker.name}",
        worker=worker,
        command="pgflow workers list -o wide",
        means=STATES[worker.state],
        quiet_command=command_line.line("workers", "quiet", short_id(worker.worker_id)),
        resume_command=command_line.line(
            "workers", "resume", short_id(worker.worker_id)
        ),
    )


def quiet(call: Call) -> Response:
    """Have a process lease nothing; what it runs goes on."""
    with writing(call) as repository:
        chosen = worker_operations.find(repository, call.path["worker_id"])
        done = worker_operations.quiet(repository, chosen, call.operator)
    said = "It leases nothing." if done else "It had been told so before."
    return layout.go(call, f"/ui/workers/{call.path['worker_id']}", Flash(said))


def resume(call: Call) -> Response:
    """Have a quiet process lease again."""
    with writing(call) as repository:
        chosen = worker_operations.find(repository, call.path["worker_id"])
        done = worker_operations.resume(repository, chosen, call.operator)
    said = "It leases again." if done else "It was not quiet."
    return layout.go(call, f"/ui/workers/{call.path['worker_id']}", Flash(said))


ROUTES = (
    Route("GET", "/ui/workers", list_workers, "Worker processes.", of_page=True),
    Route(
        "GET",
        "/ui/workers/<worker_id>",
        show_worker,
        "One worker process.",
        parameters=(_ID,),
        of_page=True,
    ),
    Route(
        "POST",
        "/ui/workers/<worker_id>/quiet",
        quiet,
        "Have a worker lease nothing.",
        parameters=(_ID,),
        of_page=True,
    ),
    Route(
        "POST",
        "/ui/workers/<worker_id>/resume",
        resume,
        "Have a quiet worker lease again.",
        parameters=(_ID,),
        of_page=True,
    ),
)
