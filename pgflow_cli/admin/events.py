"""Tells listening pages what has changed: one look at the database for all of them.

NOTIFY tells at once that jobs have come, but only where workers are idle, and not at
all behind a pooler. So it is only a hint; looking finds the rest.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from pgflow_cli.admin.cache import ReportCache
from pgflow_cli.admin.problems import Problem
from pgflow_cli.errors import DatabaseUnavailable, PgflowError
from pgflow_cli.formats import values
from pgflow_cli.inspection import alerts
from pgflow_cli.inspection.queue_status import QueueStatus
from pgflow_cli.inspection.queues import QueueReport
from pgflow_cli.repository import Database, Listener
from pgflow_cli.telemetry import logs

log = logging.getLogger("pgflow.admin")

_LOOK = 2.0  # seconds between two looks
_DEBOUNCE = 0.25  # seconds in which notifications are gathered
_PACE = 1.0  # seconds between two events that notifications have caused
_TURN = 0.5  # seconds until the thread notices that it is not wanted any more
_POLL_ANYWAY = 5.0  # seconds between the requests of a page that was refused
_ECHO = 1.0  # seconds for a notification to come back
_DEAF, _BROKEN = 60.0, 5.0  # seconds until listening is tried again


class Broker:
    """The pages that listen to one server, and the thread that looks on their behalf.

    The thread starts with the first page and ends with the last.
    """

    def __init__(
        self,
        reports: ReportCache,
        database: Database,
        *,
        most: int,
        ending: threading.Event,
    ) -> None:
        self._reports = reports
        self._database = database
        self._most = most
        self._ending = ending
        self._lock = threading.Lock()
        self._subscribers: list[Subscriber] = []
        self._thread: threading.Thread | None = None
        self._known: QueueReport | None = None
        self._alarms: Event | None = None

    def subscribe(self) -> Subscriber:
        """Let a client listen. Above the cap it is refused, and polls."""
        with self._lock:
            if len(self._subscribers) >= self._most or self._ending.is_set():
                raise Problem(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "too many pages listen already; poll every few seconds instead",
                    code="TOO_MANY_STREAMS",
                    headers={"Retry-After": f"{_POLL_ANYWAY:.0f}"},
                )
            subscriber = Subscriber()
            self._subscribers.append(subscriber)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="pgflow-events", daemon=True
                )
                self._thread.start()
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Forget a client; a second time does nothing."""
        with self._lock:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

    def close(self) -> None:
        """Wait for the thread to notice the end of the server."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout=2 * _TURN)

    @property
    def size(self) -> int:
        """Return how many listen."""
        return len(self._subscribers)

    def _is_wanted(self) -> bool:
        with self._lock:
            if self._subscribers and not self._ending.is_set():
                return True
            # Decided under the lock: the next subscriber starts another thread.
            self._thread = None
            return False

    def _run(self) -> None:
        ear = Ear(self._database, self._ending)
        try:
            self._watch(ear)
        except Exception:
            log.exception("no page is told of changes", extra={"event": "events_fault"})
            with self._lock:
                self._thread = None
        finally:
            ear.close()

    def _watch(self, ear: Ear) -> None:
        self._known, self._alarms = None, None
        look_at = 0.0
        while self._is_wanted():
            if time.monotonic() >= look_at:
                self._look()
                look_at = time.monotonic() + _LOOK
            said = ear.hints(min(_TURN, max(0.0, look_at - time.monotonic())))
            if said:
                self._reports.forget()
                self._publish(
                    [
                        concerning("queues", said),
                        concerning("jobs", said),
                    ]
                )

    def _look(self) -> None:
        """Look, and tell what is different from the last time."""
        try:
            taken = self._reports.latest()
        except DatabaseUnavailable:
            self._lost()
            return
        except PgflowError as error:
            # Too slow for its limit, or no connection was free: perhaps next time.
            log.info(
                "did not look for changes: %s",
                error.message,
                extra=logs.trouble("events_delayed", error),
            )
            return
        events = self._found(taken)
        self._known = taken
        self._publish(events)
        self._greet()

    def _found(self, taken: QueueReport) -> Sequence[Event]:
        if self._known is not None:
            events = between(self._known, taken)
        else:
            # At first, or after an outage.
            events = [*EVERYTHING, alarms(taken)]
        for event in events:
            if event.name == "alerts":
                self._alarms = event
        return events

    def _lost(self) -> None:
        away = alarms(None)
        if self._alarms != away:
            self._alarms = away
            self._publish([away])
        self._known = None
        self._greet()

    def _publish(self, events: Sequence[Event]) -> None:
        with self._lock:
            for subscriber in self._subscribers:
                if events and not subscriber.is_new:
                    subscriber.tell(events)

    def _greet(self) -> None:
        """Bring newcomers up to date: nothing else tells them of earlier changes."""
        with self._lock:
            for subscriber in self._subscribers:
                if subscriber.is_new:
                    subscriber.is_new = False
                    alarms = () if self._alarms is None else (self._alarms,)
                    subscriber.tell((*EVERYTHING, *alarms))


class Ear:
    """Hears which queues got jobs; nothing where LISTEN does not work.

    Notifications are gathered for a quarter of a second, and told at most once a
    second.
    """

    def __init__(self, database: Database, ending: threading.Event) -> None:
        self._listener = Listener(database)
        self._ending = ending
        self._hears = False
        self._try_at = 0.0
        self._heard: set[str] = set()
        self._say_at = 0.0

    def hints(self, seconds: float) -> set[str]:
        """Return queues that got jobs; none if `seconds` pass without news."""
        until = time.monotonic() + seconds
        if self._heard:
            until = min(until, self._say_at)
        self._gather(max(0.0, until - time.monotonic()))
        now = time.monotonic()
        if not self._heard or now < self._say_at:
            return set()
        said, self._heard = self._heard, set()
        self._say_at = now + _PACE
        return said

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _gather(self, seconds: float) -> None:
        try:
            if not self._is_listening():
                self._ending.wait(seconds)
                return
            payloads = self._listener.wait(seconds)
        except PgflowError as error:
            extra = logs.trouble("listen_failed", error)
            log.info("listening again: %s", error.message, extra=extra)
            self._rest(_BROKEN)
            return
        queues = {each for each in payloads if not each.startswith(Listener.TEST)}
        if queues and not self._heard:
            self._say_at = max(self._say_at, time.monotonic() + _DEBOUNCE)
        self._heard |= queues

    def _is_listening(self) -> bool:
        if not self._hears and time.monotonic() >= self._try_at:
            self._hears = self._listener.hears_itself(_ECHO)
            if not self._hears:
                self._rest(_DEAF)
        return self._hears

    def _rest(self, seconds: float) -> None:
        self._listener.close()
        self._hears = False
        self._try_at = time.monotonic() + seconds


_MOST_NAMES = 50
_MOST_ALERTS = 20
# A number by itself, perhaps with a unit: +3.2/s, 1h2m, 95%; none in a queue's name.
_NUMBER = re.compile(r"(?<![\w.-])\+?\d[\w.,/%]*", re.ASCII)


def between(before: QueueReport, after: QueueReport) -> list[Event]:
    """Return the events that lead from one snapshot to the next."""
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


def alarms(taken: QueueReport | None) -> Event:
    """Return all alerts there are; without a report the database is away."""
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


def _kinds(taken: QueueReport) -> list[str]:
    """Return the alerts without their numbers: a screen reader should not read them
    out again for every digit.
    """
    return [_NUMBER.sub("#", alert) for alert in alerts.found(taken)]


def _differs(known: QueueStatus | None, found: QueueStatus) -> bool:
    return known is None or _seen(known) != _seen(found)


def _seen(status: QueueStatus) -> tuple[object, ...]:
    """Return the fields of a row of the page but ages, which grow by themselves."""
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


def _moved(before: QueueReport, after: QueueReport, name: str) -> bool:
    """Whether jobs of a queue have come, gone or changed their state."""
    return _states(before, name) != _states(after, name) or any(
        # Of a sliding window, a sum that shrinks is only time that has passed.
        now > then
        for then, now in zip(_sums(before, name), _sums(after, name), strict=True)
    )


def _states(taken: QueueReport, name: str) -> tuple[int, ...] | None:
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


def _sums(taken: QueueReport, name: str) -> tuple[int, int]:
    rate = taken.measures.rates.get(name)
    arrival = taken.measures.arrivals.get(name)
    return (rate.ended if rate else 0, arrival.arrived if arrival else 0)


KEPT = 8  # events that wait for a client; of more, the oldest goes


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a page should look at again; its data is small, never a job's."""

    name: str
    data: object

    def encoded(self) -> bytes:
        """Return it in the format of an event stream."""
        # JSON has no line ends of its own, which would end the event.
        return f"event: {self.name}\ndata: {values.json_of(self.data)}\n\n".encode()


# For a page that was away, or could not keep up: it may have missed anything.
EVERYTHING = (Event("queues", {"queues": None}), Event("jobs", {"queues": None}))


class Subscriber:
    """One client's queue of events, filled by one thread and emptied by another."""

    def __init__(self) -> None:
        self.is_new = True
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._missed = False

    def tell(self, events: Iterable[Event]) -> None:
        """Add events. Of more than eight the oldest go; the client will look at
        everything.
        """
        with self._changed:
            self._waiting.extend(events)
            while len(self._waiting) > KEPT:
                self._waiting.popleft()
                self._missed = True
            self._changed.notify()

    def take(self, seconds: float) -> list[Event]:
        """Return new events; none if `seconds` pass without any."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(seconds)
            taken = [*(EVERYTHING if self._missed else ()), *self._waiting]
            self._waiting.clear()
            self._missed = False
            return taken
