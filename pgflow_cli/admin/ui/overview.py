"""The first page: is anything wrong, which queue, since when, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from werkzeug.wrappers import Response

from pgflow_cli.admin.query import Field, one_of, text
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.security import Role
from pgflow_cli.admin.ui import command_line, layout, rendering
from pgflow_cli.formats import times
from pgflow_cli.formats.times import Instant
from pgflow_cli.formats.words import plural
from pgflow_cli.inspection import alerts
from pgflow_cli.inspection.queue_status import QueueStatus
from pgflow_cli.inspection.queues import QueueReport
from pgflow_cli.models.selection import JobFilter

_MOST = 40  # queues; it is sent again with each update
_MOST_REASONS = 8
_LATELY = Instant(offset=timedelta(minutes=-15))  # as the page says it
_LONG_WAIT = 300.0  # seconds; the alert in docker/prometheus/alerts.yml waits as long


@dataclass(frozen=True, slots=True)
class Tile:
    """A number to be read from afar, what it is about, and where to look closer."""

    name: str
    value: str
    note: str
    path: str
    query: dict[str, str]
    tone: str = "calm"


def overview(call: Call) -> Response:
    """Show what waits, runs and has died, queues with an alert first."""
    taken = call.service.reports.latest()
    ordered = alerted_first(taken)
    with call.reading() as repository:
        held = repository.decisions.group_decisions(JobFilter(since=_LATELY), "all")
    return layout.page(
        call,
        "overview.html",
        title="Overview",
        tiles=list(_tiles(taken)),
        queues=ordered[:_MOST],
        beyond=taken.known - len(ordered[:_MOST]),
        held=held[:_MOST_REASONS],
        held_command=command_line.line(
            "decisions", "list", since="15m", group="reason"
        ),
        command="pgflow top",
    )


def set_theme(call: Call) -> Response:
    """Remember light, dark, or as the system has it."""
    response = layout.go(call, rendering.local_path(call.body["back"]))
    layout.set_cookie(call, response, layout.THEME_COOKIE, call.body["theme"])
    return response


def set_updates(call: Call) -> Response:
    """Remember whether pages update themselves."""
    response = layout.go(call, rendering.local_path(call.body["back"]))
    layout.set_cookie(call, response, layout.PAUSE_COOKIE, call.body["updates"])
    return response


def alerted_first(taken: QueueReport) -> list[QueueStatus]:
    """Return queues: those with an alert first, then by how long jobs have waited."""
    alerted = {alert.queue for alert in alerts.listed(taken)}

    def rank(status: QueueStatus) -> tuple[bool, float, str]:
        waited = status.oldest_age_seconds or 0.0
        return status.queue not in alerted, -waited, status.queue

    return sorted(taken.queues, key=rank)


def _tiles(taken: QueueReport) -> Iterator[Tile]:
    queues = taken.queues
    yield Tile(
        "Runnable",
        QueueStatus.total_words(queues, "runnable"),
        f"{QueueStatus.total_words(queues, 'scheduled')} scheduled",
        "/ui/jobs",
        {"status": "queued"},
    )
    yield _oldest(queues)
    yield _running(taken)
    out = sum(status.out_per_sec for status in queues)
    into = sum(status.in_per_sec for status in queues)
    yield Tile(
        "Out/s", f"{out:,.1f}", f"in/s {into:,.1f}", "/ui/jobs", {"status": "succeeded"}
    )
    yield _retries(taken)
    dead = any(status.dlq for status in queues)
    fresh = sum(rate.dlq for rate in taken.measures.rates.values())
    yield Tile(
        "DLQ",
        QueueStatus.total_words(queues, "dlq"),
        f"{fresh:,} new in 60 s" if fresh else "none new in 60 s",
        "/ui/dlq",
        {},
        "bad" if fresh else "warn" if dead else "calm",
    )


def _oldest(queues: list[QueueStatus]) -> Tile:
    waiting = [s for s in queues if s.oldest_age_seconds is not None]
    if not waiting:
        return Tile("Oldest", "–", "nothing waits", "/ui/queues", {})
    longest = max(waiting, key=lambda status: status.oldest_age_seconds or 0.0)
    age = longest.oldest_age_seconds or 0.0
    return Tile(
        "Oldest",
        times.format_duration(age),
        f"waits in {longest.queue}",
        f"/ui/queues/{longest.queue}",
        {},
        "bad" if age > _LONG_WAIT else "calm",
    )


def _running(taken: QueueReport) -> Tile:
    workers = taken.measures.workers
    alive = [worker for worker in workers if worker.alive and not worker.spare]
    slots = sum(worker.slots for worker in alive)
    running = sum(status.running for status in taken.queues)
    return Tile(
        "Running",
        f"{running:,}",
        f"{slots:,} slots of {plural(len(alive), 'worker')}",
        "/ui/jobs",
        {"status": "running"},
        "bad"
        if not alive and any(status.runnable for status in taken.queues)
        else "calm",
    )


def _retries(taken: QueueReport) -> Tile:
    rates = taken.measures.rates.values()
    ended, again = sum(r.ended for r in rates), sum(r.again for r in rates)
    percent = 100 * again / ended if ended else None
    return Tile(
        "Retry %",
        "–" if percent is None else f"{percent:.1f}",
        f"of {ended:,} attempts in 60 s",
        "/ui/jobs",
        {"status": "scheduled"},
        "warn" if percent is not None and percent > alerts.RETRIES else "calm",
    )


BACK = Field("back", text(most=4000), "The path to be sent back to.")

ROUTES = (
    Route("GET", "/", overview, "The page for operators.", of_page=True),
    Route(
        "POST",
        "/ui/theme",
        set_theme,
        "Remember light or dark.",
        body=(Field("theme", one_of(*layout.THEMES), required=True), BACK),
        role=Role.READ,
        of_page=True,
    ),
    Route(
        "POST",
        "/ui/updates",
        set_updates,
        "Remember whether pages update themselves.",
        body=(Field("updates", one_of("on", "off"), required=True), BACK),
        role=Role.READ,
        of_page=True,
    ),
)
