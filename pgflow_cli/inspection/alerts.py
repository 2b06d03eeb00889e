"""Alerts: sentences about what an operator should look at now, from a queue report;
pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgflow_cli.formats import times
from pgflow_cli.formats.words import plural
from pgflow_cli.inspection.forecast import GROWING
from pgflow_cli.inspection.queue_status import QueueStatus
from pgflow_cli.inspection.queues import QueueReport

# Seconds between our clock and the database's: times on a screen would mislead.
SKEW = 2.0
RETRIES = 30.0  # percent of attempts that were retries
DEATHS = 10.0  # dead letters a minute
# Seconds that a snapshot holds vacuum back; dead rows pile up meanwhile.
LONG_SNAPSHOT = 3600.0
MOSTLY = 0.9  # share of the connections that the server allows
_LOOK = "pgflow workers list"


@dataclass(frozen=True, slots=True)
class Alert:
    """A sentence, what it is about, and the command to look or act with.

    `kind` is the same for all alerts of one cause. `queue` is None for the database as
    a whole; `seconds`: for how long, if known.
    """

    kind: str
    text: str
    command: str
    queue: str | None = None
    seconds: float | None = None


def found(taken: QueueReport) -> list[str]:
    """Return the alerts as sentences, the gravest first; none if all is well."""
    return [alert.text for alert in listed(taken)]


def listed(taken: QueueReport) -> list[Alert]:
    """Return the alerts, the gravest first, each with a command."""
    return [
        *_of_the_database(taken),
        *(alert for status in taken.queues for alert in _of_a_queue(status)),
    ]


def _of_the_database(taken: QueueReport) -> Iterator[Alert]:
    cluster = taken.measures.cluster
    if cluster.fenced:
        yield Alert(
            "fenced",
            "the database is fenced: nothing is leased (pgflow fence status)",
            "pgflow fence status",
        )
    if abs(taken.skew) > SKEW:
        yield Alert(
            "skew",
            f"clocks differ by {times.format_duration(abs(taken.skew))}",
            "pgflow doctor --check server.clock-skew",
        )
    if (cluster.oldest_xmin_age_seconds or 0.0) > LONG_SNAPSHOT:
        age = times.format_duration(cluster.oldest_xmin_age_seconds or 0.0)
        yield Alert(
            "vacuum",
            f"a transaction holds back vacuum since {age}",
            "pgflow doctor --check vacuum.xmin",
        )
    if cluster.connections > MOSTLY * cluster.max_connections:
        yield Alert(
            "connections",
            f"{cluster.connections} of {cluster.max_connections} connections in use",
            "pgflow doctor --check server.connections",
        )


def _of_a_queue(status: QueueStatus) -> Iterator[Alert]:
    name, measure, waiting = status.queue, status.measure, status.oldest_age_seconds
    if measure.paused and measure.runnable:
        one = measure.runnable == 1
        wait = "1 job waits" if one else f"{status.runnable_words} jobs wait"
        text = f"{name} is paused, {wait}"
        yield Alert("paused", text, f"pgflow queues resume {name}", name, waiting)
    elif status.unserved:
        yield _unserved(status)
    elif status.forecast.verdict == GROWING:
        text = f"{name} depth growing (+{status.forecast.per_minute / 60:,.1f}/s)"
        yield Alert("growing", text, f"pgflow queues show {name}", name, waiting)
    if measure.expired_leases:
        text = f"{name} has {plural(measure.expired_leases, 'expired lease')}"
        yield Alert("expired leases", text, f"pgflow jobs list -q {name} --stuck", name)
    if status.deaths_per_minute >= DEATHS:
        text = f"{name} has {status.deaths_per_minute:,.0f} new dead letters a minute"
        yield Alert(
            "deaths", text, f"pgflow dlq list -q {name} --since 10m --group", name
        )
    if (status.retry_percent or 0.0) > RETRIES and status.attempts_per_sec > 1:
        text = f"{name} retries {status.retry_percent:.0f}%"
        yield Alert(
            "retries", text, f"pgflow jobs list -q {name} --status scheduled", name
        )


def _unserved(status: QueueStatus) -> Alert:
    name, waiting = status.queue, status.oldest_age_seconds
    text, command = f"{name} has no live worker", f"pgflow work -q {name}"
    if status.idle_workers:
        first, *others = status.idle_workers
        more = f", and {len(others)} more lease nothing" if others else ""
        text, command = f"{name} has no worker that leases: {first}{more}", _LOOK
    if status.quiet_workers:
        command = f"pgflow workers resume {status.quiet_workers[0]}"
    return Alert("no worker", text, command, name, waiting)
