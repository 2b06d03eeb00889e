"""Queues: all of them, one of them, its pause and its limits."""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from pgflow_cli.admin import query, query_filters
from pgflow_cli.admin.query import Field
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import command_line, layout
from pgflow_cli.admin.ui.layout import Flash, writing
from pgflow_cli.errors import NotFound
from pgflow_cli.inspection import explanation, job_list, queues
from pgflow_cli.inspection.explanation import Explanation
from pgflow_cli.inspection.queues import SORTS, in_order
from pgflow_cli.models.queues import LIMITS as BOUNDS
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.operations import queues as queue_operations
from pgflow_cli.repository import Repository

NAME = Field("name", query_filters.QUEUE_NAME, "A queue's name.")
_WINDOW = Field("window", query.length(20, 7200), "How far back rates look.", 60.0)
_SORT = Field("sort", query.one_of(*SORTS), "By which column.")
_FOR = Field("length", query.length(1, 31_536_000), "So long; else until resumed.")
LIMITS = tuple(
    (name, label, *BOUNDS[name])
    for name, label in (
        ("max_in_flight", "Jobs that run at once"),
        ("max_attempts_per_minute", "Attempts that begin in a minute"),
        ("throttle_delay_ms", "Throttle delay, ms"),
        ("max_payload_bytes", "Largest payload, bytes"),
        ("max_enqueue_per_minute", "Jobs enqueued in a minute"),
    )
)
# What to do on the page about a verdict: the text, and where; {} is the queue.
_REMEDIES = {
    "QUEUE_PAUSED": ("Resume it…", "#pause"),
    "IN_FLIGHT_EXCEEDED": ("Change its limits…", "#limits"),
    "RETRY_RATE_EXCEEDED": ("Change its limits…", "#limits"),
    "NO_WORKER": ("See who works", "/ui/workers"),
    "WORKERS_STALLED": ("See who works", "/ui/workers"),
    "NO_HANDLER": ("See who works", "/ui/workers"),
    "LEASE_EXPIRED": ("See the stuck jobs", "/ui/jobs?stuck=true&queue={}"),
    "SLOTS_FULL": ("See what runs longest", "/ui/jobs?slow=true&queue={}"),
    "FENCED": ("See what the doctor says", "/ui/doctor"),
}
_OF_LIMITS = ("IN_FLIGHT_EXCEEDED", "RETRY_RATE_EXCEEDED")
_LATEST = 10
_MOST = 200  # queues of a list


def list_queues(call: Call) -> Response:
    """List queues with their rates, limits and forecasts."""
    taken = call.service.reports.latest()
    wanted = query_filters.job_filter(call.query)
    fitting = 0
    if taken.left_out and wanted.queues:
        with call.reading() as repository:
            asked_for = queues.take(repository, wanted)
        fitting, listed = asked_for.known, asked_for.queues
    else:
        listed = taken.queues
    asked = wanted.expand(s.queue for s in listed)
    chosen = [s for s in listed if not asked.queues or s.queue in asked.queues]
    if not wanted.queues:
        fitting = taken.known
    sort = call.query["sort"]
    typed = call.request.args
    return layout.page(
        call,
        "queues.html",
        title="Queues",
        queues=(in_order(chosen, sort) if sort else chosen)[:_MOST],
        fitting=max(fitting, len(chosen)),
        known=taken.known,
        typed=typed,
        sorts=SORTS,
        command=command_line.line(
            "queues", "list", **command_line.given(typed, "queue", "sort")
        ),
    )


def show_queue(call: Call) -> Response:
    """Show one queue: depth, rates, forecast, limits, pause, what held it back."""
    name, window = call.path["name"], call.query["window"]
    with call.reading() as repository:
        status = queues.take_one(repository, name, window=window)
        held = repository.decisions.list_decisions(
            JobFilter(queues=(name,)), "all", _LATEST
        )
        workers = [w for w in repository.workers.list_workers() if w.serves(name)]
        first = _first_job(repository, name)
    typed = call.request.args
    return layout.page(
        call,
        "queue.html",
        title=f"Queue {name}",
        about=name,
        shown=status,
        first=first,
        throttled=first is not None and first.verdict in _OF_LIMITS,
        remedy=_REMEDIES.get(first.verdict) if first else None,
        decisions=held,
        workers=workers,
        limits=LIMITS,
        typed=typed,
        command=command_line.line(
            "queues", "show", name, **command_line.given(typed, "window")
        ),
        pause_command=command_line.line(
            "queues", "pause", name, length="30m", note="why it is paused"
        ),
        decisions_command=command_line.line("decisions", "list", queue=name),
        resume_command=command_line.line("queues", "resume", name),
        policy_command=command_line.line(
            "queues", "set-policy", name, max_in_flight=10
        ),
    )


def _first_job(repository: Repository, name: str) -> Explanation | None:
    """Return why the job that is to run next waits; None if none is due."""
    due = JobFilter(queues=(name,), statuses=("queued",))
    listing = job_list.JobList(repository, due).page(1, None)
    if not listing.jobs:
        return None
    try:
        facts = repository.explanation.describe_job(listing.jobs[0].id, attempts=1)
    except NotFound:
        return None  # archived since
    # It may have been leased since: then nothing holds it up.
    return explanation.explain(facts) if facts.job.status == "queued" else None


def pause(call: Call) -> Response:
    """Lease nothing more from a queue."""
    name, length = call.path["name"], call.body["length"]
    with writing(call) as repository:
        queue_operations.pause(repository, [name], length, call.operator)
    until = "until it is resumed" if length is None else "for that long"
    return _back(call, f"{name} is paused {until}. What runs goes on.")


def resume(call: Call) -> Response:
    """Lease from a queue again."""
    name = call.path["name"]
    with writing(call) as repository:
        queue_operations.require_known(repository, [name])
        resumed = queue_operations.resume(repository, [name], call.operator)
    return _back(call, f"{name} {'is resumed' if resumed else 'was not paused'}.")


def set_policy(call: Call) -> Response:
    """Set the limits of a queue as the form has them; an empty one is no limit."""
    name = call.path["name"]
    wanted = {limit: call.body[limit] for limit, *_ in LIMITS}
    with writing(call) as repository:
        with repository.transaction():
            found = repository.queues.read_policies([name]).get(name)
        was: dict[str, Any] = {
            limit: getattr(found, limit) if found else None for limit in wanted
        }
        changed = {key: wanted[key] for key in wanted if wanted[key] != was[key]}
        if changed:
            queue_operations.set_policy(repository, name, changed, call.operator)
    said = f"The limits of {name} are changed." if changed else "Nothing was changed."
    return _back(call, said)


def _back(call: Call, text: str) -> Response:
    return layout.go(call, f"/ui/queues/{call.path['name']}", Flash(text))


def _limit(name: str, label: str, least: int, most: int) -> Field:
    return Field(name, query.whole(least, most), label)


ROUTES = (
    Route(
        "GET",
        "/ui/queues",
        list_queues,
        "Queues.",
        query=(query_filters.QUEUE, _SORT),
        of_page=True,
    ),
    Route(
        "GET",
        "/ui/queues/<name>",
        show_queue,
        "One queue.",
        parameters=(NAME,),
        query=(_WINDOW,),
        of_page=True,
    ),
    Route(
        "POST",
        "/ui/queues/<name>/pause",
        pause,
        "Pause a queue.",
        parameters=(NAME,),
        body=(_FOR,),
        of_page=True,
    ),
    Route(
        "POST",
        "/ui/queues/<name>/resume",
        resume,
        "Resume a queue.",
        parameters=(NAME,),
        of_page=True,
    ),
    Route(
        "POST",
        "/ui/queues/<name>/policy",
        set_policy,
        "Set the limits of a queue.",
        parameters=(NAME,),
        body=tuple(_limit(*limit) for limit in LIMITS),
        of_page=True,
    ),
)
