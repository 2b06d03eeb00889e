"""Enqueues jobs from Python, inside the caller's own transaction.

Every producer calls the same two functions in the database. A refusal is an error,
which rolls the caller's transaction back, so the function cannot record it. The caller
records it afterwards with `record_refusal(connection, refused)`; the command line does
so by itself.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from pgflow_cli import repository
from pgflow_cli.errors import OutOfRange, Refused, UsageError
from pgflow_cli.formats import payload_text, times
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.telemetry import spans, trace_context

if TYPE_CHECKING:
    import psycopg

    from pgflow_cli.repository import Enqueuing
    from pgflow_cli.telemetry.spans import Sending

JOBS_PER_CALL = 1000  # jobs in one call of the database's function, which takes no more
# Bytes of JSON in one call: PostgreSQL refuses a document of 256 MiB.
_TEXT_PER_CALL = 67_108_864

# Seconds, 100 years: the database's function accepts no longer delay.
_LONGEST = 36525 * 86400

Duration = float | timedelta | str

_CLIENT_FIELDS = frozenset(
    {
        "job_type",
        "payload",
        "queue",
        "run_at",
        "delay",
        "priority",
        "max_attempts",
        "job_id",
        "job_timeout",
        "meta",
    }
)


def enqueue(
    connection: psycopg.Connection[Any],
    job_type: str,
    payload: object = None,
    *,
    queue: str | None = "default",
    run_at: datetime | str | None = None,
    delay: Duration | None = None,
    priority: int | None = 0,
    max_attempts: int | None = 25,
    job_timeout: Duration | None = None,
    meta: Mapping[str, object] | None = None,
    job_id: str | UUID | None = None,
) -> str:
    """Enqueue a job in the connection's own transaction and return the job's id.

    Nothing is committed here: the job exists if the caller commits. `payload` is
    anything that `json.dumps` takes; None is an empty object. `run_at` has a zone;
    `delay` and `job_timeout` are seconds, a timedelta, or text such as "5m". With a
    `job_id` (a UUIDv7, see `new_job_id`) the same job sent twice is one job.

    Raises UsageError for what is unacceptable, before the database sees it where that
    is possible; for a connection that has failed or is busy, too (ConnectionUnfit).
    Refused if a guard of the queue says no, Blocked if another transaction is in the
    way for ten seconds, DatabaseUnavailable if the connection is closed,
    OutcomeUnknown if it is lost meanwhile: all of them are a PgflowError, and no error
    of psycopg comes through. It works within `connection.pipeline()` and waits there
    for its own outcome. Row and cursor factories do not matter. After an error of the
    database the caller's transaction is aborted, as with any other statement; put
    `with connection.transaction():` around the call to go on after a refusal.
    """
    job = _accepted(
        {
            "job_type": job_type,
            "payload": payload,
            "queue": queue,
            "run_at": run_at,
            "delay": delay,
            "priority": priority,
            "max_attempts": max_attempts,
            "job_timeout": job_timeout,
            "meta": meta,
            "job_id": job_id,
        }
    )
    with spans.sending(job.queue, job_type=job.job_type) as sending:
        sending.link(trace_context.of_meta(job.meta))
        found = repository.borrowed(connection).enqueue(
            job.job_type,
            job.payload,
            options=JobOptions(
                queue=job.queue,
                priority=job.priority,
                max_attempts=job.max_attempts,
                run_at=job.run_at,
                delay=job.delay,
                job_timeout=job.job_timeout,
                meta=_meta(trace_context.kept(job.meta, sending.context)),
            ),
            job_id=job.job_id,
        )
        sending.sent(found)
        return found


def enqueue_many(
    connection: psycopg.Connection[Any], jobs: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Enqueue jobs in the connection's own transaction and return their ids in order.

    Each job is a mapping with the parameters of `enqueue`. They are sent 1,000 at a
    time while the rest is read; all are enqueued or none. Up to 1,000 are one
    statement. For more there is a savepoint, so that whatever is raised, by `jobs` too,
    leaves the caller's transaction as it was; in autocommit mode, a transaction of
    their own. Threads may share a connection: their calls take turns. Raises what
    `enqueue` raises; if it is about one job, the message names it, counted from 1.
    """
    producing = repository.borrowed(connection)
    if isinstance(jobs, (Mapping, str, bytes)) or not isinstance(jobs, Iterable):
        raise UsageError(f"jobs must be a list of mappings, not {_kind(jobs)}")
    with spans.sending(None) as sending:
        return _send_all(producing, jobs, sending)


def record_refusal(connection: psycopg.Connection[Any], refused: Refused) -> bool:
    """Count a refusal as an ingest decision, in the connection's present transaction.

    To be called once the transaction that was refused has been rolled back. It waits
    for no other transaction; returns whether the refusal was counted, as it is unless
    the table of decisions is locked as a whole.
    """
    if not isinstance(refused, Refused):
        raise UsageError(
            f"record_refusal takes the Refused that was raised, not {_kind(refused)}"
        )
    return repository.borrowed(connection).record_refusals(refusals_of(refused))


def refusals_of(refused: Refused) -> list[dict[str, object]]:
    """Return the rows that tell what a guard refused: one per queue and reason."""
    given = refused.details.get("refused")
    parts = given if isinstance(given, list) else [dict(refused.details)]
    rows = []
    for part in parts:
        details = {k: v for k, v in part.items() if k not in _NO_EVIDENCE}
        queue = part.get("queue", "")
        reason = part.get("reason_code", refused.reason_code)
        if reason == "TOO_MANY_QUEUES":
            # The name of a queue that does not exist must not appear in lists and
            # metrics.
            queue, details = NEW_QUEUE, {**details, "queue": queue}
        rows.append(
            {
                "queue": queue,
                "reason_code": reason,
                "jobs": part.get("jobs", 1),
                "details": details,
            }
        )
    return rows


NEW_QUEUE = "(new)"
"""Stands in ingest decisions for a queue that was refused its first job."""

_NO_EVIDENCE = frozenset({"queue", "reason_code", "jobs", "ordinals", "refused"})


def new_job_id() -> str:
    """Return a UUIDv7 (RFC 9562): give it to a job that may have to be sent twice."""
    return new_job_ids(1)[0]


def new_job_ids(count: int) -> list[str]:
    """Return UUIDv7s that ascend: the clock to 1/4096 ms, then one tick for each."""
    ticks = time.time_ns() * 4096 // 1_000_000
    noise = os.urandom(8 * count).hex()
    ids = []
    for tick in range(ticks, ticks + count):
        at = (tick - ticks) * 16
        ms = f"{tick >> 12:012x}"
        variant = "89ab"[int(noise[at], 16) & 3]
        ids.append(
            f"{ms[:8]}-{ms[8:]}-7{tick & 4095:03x}-"
            f"{variant}{noise[at + 1 : at + 4]}-{noise[at + 4 : at + 16]}"
        )
    return ids


def renamed(
    error: UsageError | Refused, name: Callable[[int], str]
) -> UsageError | Refused:
    """Replace `job N:` in a message of the database by another name of the job."""
    if found := _JOB.match(error.message):
        error.message = f"{name(int(found[1]))}: {error.message[found.end() :]}"
        error.args = (error.message,)
    return error


_JOB = re.compile(r"job ([0-9]+): ")


def _send_all(
    producing: Enqueuing, jobs: Iterable[Mapping[str, Any]], sending: Sending
) -> list[str]:
    ids: list[str] = []
    queues: set[str] = set()
    elements = _elements(jobs, sending, queues)
    part, rest = _next_part(elements), _next_part(elements)
    # One statement is atomic by itself. Of several, a later one could fail alone, or
    # never be sent.
    with producing.transaction() if rest else nullcontext():
        while part:
            try:
                ids += producing.enqueue_many(
                    f"[{','.join(part)}]", options=JobOptions()
                )
            except (UsageError, Refused) as error:
                raise _counted_from(error, len(ids)) from None
            part, rest = rest, _next_part(elements)
    sending.sent(*ids, queues=queues)
    return ids


def _next_part(elements: Iterator[str]) -> list[str]:
    part: list[str] = []
    size = 0
    for element in islice(elements, JOBS_PER_CALL):
        part.append(element)
        size += len(element)
        if size >= _TEXT_PER_CALL:
            break
    return part


def _counted_from(error: UsageError | Refused, sent: int) -> UsageError | Refused:
    """Renumber the jobs in an error: from places in one call to places among all
    jobs.
    """
    refused = error.details.get("refused")
    for details in (error.details, *(refused if isinstance(refused, list) else ())):
        if isinstance(ordinals := details.get("ordinals"), list):
            details["ordinals"] = [sent + ordinal for ordinal in ordinals]
    return renamed(error, lambda ordinal: f"job {sent + ordinal}")


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _elements(
    jobs: Iterable[Mapping[str, Any]], sending: Sending, queues: set[str]
) -> Iterator[str]:
    """Yield each job as an element of the gate's document.

    It belongs to the trace of the call, unless it brings its own.
    """
    for number, given in enumerate(jobs, start=1):
        try:
            job = _accepted(given)
            sending.link(trace_context.of_meta(job.meta))
            element = job.element(trace_context.kept(job.meta, sending.context))
        except UsageError as error:
            details = {"ordinals": [number], "problems": [error.message]}
            raise type(error)(
                f"job {number}: {error.message}", *error.hints, details=details
            ) from None
        queues.add(job.queue)
        yield element


class _Job(NamedTuple):
    """A job of Python values that can be sent; lengths of time are seconds. A tuple,
    because it is made for every job.
    """

    job_type: str
    payload: str
    queue: str
    run_at: datetime | None
    delay: float | None
    priority: int
    max_attempts: int
    job_timeout: float | None
    meta: dict[str, object] | None
    job_id: str | None

    def element(self, meta: Mapping[str, object] | None) -> str:
        """Return it as an element of the gate's document, with the meta it is to have.

        Names, ids and times that were accepted have no characters to escape in JSON.
        """
        text = (
            f'{{"job_type":"{self.job_type}","queue":"{self.queue}","priority":'
            f'{self.priority},"max_attempts":{self.max_attempts}'
        )
        if self.job_id is not None:
            text += f',"job_id":"{self.job_id}"'
        if self.run_at is not None:
            text += f',"run_at":"{self.run_at.astimezone(UTC).isoformat()}"'
        if self.delay is not None:
            text += f',"run_at":"in {_exact(self.delay)}"'
        if self.job_timeout is not None:
            text += f',"job_timeout":"{_exact(self.job_timeout)}"'
        if meta is not None:
            text += f',"meta":{_meta(meta)}'
        return f'{text},"payload_json":{self.payload}}}'


def _accepted(job: Mapping[str, Any]) -> _Job:
    """Check a job as far as possible without the database, and return it; a field that
    is None takes its default.
    """
    if not isinstance(job, Mapping):
        raise UsageError(
            f"a job must be a mapping with the parameters of enqueue, not {_kind(job)}"
        )
    payload_text.check_names(job, _CLIENT_FIELDS)
    given = {name: value for name, value in job.items() if value is not None}
    payload_text.check_job_type(given.get("job_type"))
    payload_text.check_queue(queue := given.get("queue", "default"))
    payload_text.check_priority(priority := given.get("priority", 0))
    payload_text.check_max_attempts(attempts := given.get("max_attempts", 25))
    if "run_at" in given and "delay" in given:
        raise UsageError("run_at and delay exclude each other")
    if (meta := given.get("meta")) is not None:
        payload_text.check_meta(meta)
        meta = dict(meta)
        _meta(meta)
    if (timeout := _seconds(given.get("job_timeout"), "job_timeout")) is not None:
        payload_text.check_timeout_seconds(timeout)
        timeout = float(timeout)
    if (delay := _seconds(given.get("delay"), "delay")) is not None:
        if not 0 <= delay <= _LONGEST:
            raise OutOfRange("delay must be from 0 to 100 years")
        delay = float(delay)
    return _Job(
        # Of a subclass of str, such as an enumeration, its text.
        job_type=str.__str__(given["job_type"]),
        payload=payload_text.written(given.get("payload", {})),
        queue=str.__str__(queue),
        run_at=_moment(given.get("run_at")),
        delay=delay,
        priority=int(priority),
        max_attempts=int(attempts),
        job_timeout=timeout,
        meta=meta,
        job_id=_job_id(given.get("job_id")),
    )


def _job_id(given: object) -> str | None:
    if given is None:
        return None
    found = str(given) if isinstance(given, UUID) else given
    payload_text.check_job_id(found)
    return str.__str__(found)


def _exact(seconds: float) -> str:
    return times.exact_duration(timedelta(seconds=seconds))


def _meta(meta: Mapping[str, object] | None) -> str | None:
    return None if meta is None else payload_text.written(meta, what="meta")


def _moment(given: datetime | str | None) -> datetime | None:
    if given is None or isinstance(given, datetime):
        return None if given is None else _aware(given)
    payload_text.check_run_at(given)
    try:
        return times.parse_instant(given).at
    except ValueError:
        raise UsageError(payload_text.RUN_AT) from None


def _aware(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise UsageError(payload_text.RUN_AT, "Such as: datetime.now(UTC)")
    if not 2000 <= moment.year <= 9998:
        raise OutOfRange(payload_text.RUN_AT)
    return moment


def _seconds(given: Duration | None, what: str) -> float | None:
    if given is None:
        return None
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, str):
        given = payload_text.seconds_of(given, what=what)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise UsageError(f"{what} {payload_text.LENGTH}")
    return given
