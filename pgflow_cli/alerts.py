"""What an operator should look at now: a census in, sentences out; pure."""

from __future__ import annotations

from collections.abc import Iterator

from pgflow_cli import times
from pgflow_cli.census import Census
from pgflow_cli.drain import GROWING
from pgflow_cli.queue_status import QueueStatus

SKEW = 2.0  # seconds of difference between two clocks
RETRIES = 30.0  # percent of attempts
LONG_SNAPSHOT = 3600.0  # seconds that vacuum has been held back
MOSTLY = 0.9  # of the connections there may be


def found(taken: Census) -> list[str]:
    """Return what is wrong, the gravest first; nothing if all is well."""
    return [
        *_of_the_database(taken),
        *(alert for status in taken.queues for alert in _of_a_queue(status)),
    ]


def _of_the_database(taken: Census) -> Iterator[str]:
    cluster = taken.measures.cluster
    if cluster.fenced:
        yield "the database is fenced: nothing is leased (pgflow fence status)"
    if abs(taken.skew) > SKEW:
        yield f"clocks differ by {times.format_duration(abs(taken.skew))}"
    if (cluster.oldest_xmin_age_seconds or 0.0) > LONG_SNAPSHOT:
        age = times.format_duration(cluster.oldest_xmin_age_seconds or 0.0)
        yield f"a transaction holds back vacuum since {age}"
    if cluster.connections > MOSTLY * cluster.max_connections:
        yield f"{cluster.connections} of {cluster.max_connections} connections in use"


def _of_a_queue(status: QueueStatus) -> Iterator[str]:
    name, measure = status.queue, status.measure
    if measure.paused and measure.runnable:
        yield f"{name} is paused, {status.runnable_words} jobs wait"
    elif status.unserved:
        yield f"{name} has no live worker"
    elif status.forecast.verdict == GROWING:
        yield f"{name} depth growing (+{status.forecast.per_minute / 60:,.1f}/s)"
    if measure.expired_leases:
        many = "s" if measure.expired_leases > 1 else ""
        yield f"{name} has {measure.expired_leases} expired lease{many}"
    if (status.retry_percent or 0.0) > RETRIES and status.attempts_per_sec > 1:
        yield f"{name} retries {status.retry_percent:.0f}%"
