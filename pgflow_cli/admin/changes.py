"""What a page should look at again: two looks at the cluster in, events out; pure.

`queues` and `jobs` name the queues concerned, or null for all of them; `alerts` has
all there are, and whether the database answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from pgflow_cli.admin.subscribers import Event
from pgflow_cli.inspection import alerts
from pgflow_cli.inspection.queue_status import QueueStatus
from pgflow_cli.inspection.queues import Census

_MOST_NAMES = 50
_MOST_ALERTS = 20
# A number by itself, perhaps with a unit: +3.2/s, 1h2m, 95%; none in a queue's name.
_NUMBER = re.compile(r"(?<![\w.-])\+?\d[\w.,/%]*", re.ASCII)


def between(before: Census, after: Census) -> list[Event]:
    """Return what has changed from one look to the next, nothing if nothing has."""
    known = {status.queue: status for status in before.queues}
    found = {status.queue: status for status in after.queues}
    gone = known.keys() - found.keys()
    shown = {
        name for name, status in found.items() if _differs(known.get(name), status)
    }
    moved = {name for name in found if _moved(before, after, name)}
    events = []
    if shown | gone:
        events.append(concerning("queues", shown | gone))
    if moved | gone:
        events.append(concerning("jobs", moved | gone))
    if _kinds(before) != _kinds(after):
        events.append(alarms(after))
    return events


def concerning(name: str, queues: Iterable[str]) -> Event:
    """Return an event that names queues, or all if they are many."""
    names = sorted(queues)
    return Event(name, {"queues": names if len(names) <= _MOST_NAMES else None})


def alarms(taken: Census | None) -> Event:
    """Return all alerts there are; without a census the database is away."""
    away = ["the database does not answer"]
    said = away if taken is None else alerts.found(taken)
    return Event(
        "alerts",
        {
            "database": taken is not None,
            "count": len(said),
            "alerts": said[:_MOST_ALERTS],
        },
    )


def _kinds(taken: Census) -> list[str]:
    """Return the alerts without their numbers: a screen reader should not read them
    out again for every digit.
    """
    return [_NUMBER.sub("#", alert) for alert in alerts.found(taken)]


def _differs(known: QueueStatus | None, found: QueueStatus) -> bool:
    return known is None or _seen(known) != _seen(found)


def _seen(status: QueueStatus) -> tuple[object, ...]:
    """Return what a row of the page shows, but for ages: those grow by themselves."""
    measure = replace(
        status.measure, oldest_age_seconds=None, oldest_running_age_seconds=None
    )
    return (
        measure,
        status.in_words,
        status.out_words,
        status.error_words,
        status.retry_words,
        status.drain_words,
        status.workers,
        status.steps,
    )


def _moved(before: Census, after: Census, name: str) -> bool:
    """Whether jobs of a queue have come, gone or changed their state."""
    return _states(before, name) != _states(after, name) or any(
        # Of a sliding window, a sum that shrinks is only time that has passed.
        now > then
        for then, now in zip(_sums(before, name), _sums(after, name), strict=True)
    )


def _states(taken: Census, name: str) -> tuple[int, ...] | None:
    for found in taken.measures.queues:
        if found.queue == name:
            return (
                found.runnable,
                found.scheduled,
                found.retrying,
                found.running,
                found.dlq,
            )
    return None


def _sums(taken: Census, name: str) -> tuple[int, int]:
    rate = taken.measures.rates.get(name)
    arrival = taken.measures.arrivals.get(name)
    return (rate.ended if rate else 0, arrival.arrived if arrival else 0)
