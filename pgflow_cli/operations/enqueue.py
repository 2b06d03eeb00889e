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
from typing import TYPE_CHECKING, Any
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
_QUEUE = "default"  # the gate's own, too

Duration = float | timedelta | str


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
    given, meta = job.get, job.get("meta")
    to_queue = given("queue", _QUEUE)
    with spans.sending(to_queue, job_type=job["job_type"]) as sending:
        sending.link(trace_context.of_meta(meta))
        found = repository.borrowed(connection).enqueue(
            job["job_type"],
            job["payload"],
            options=JobOptions(
                queue=to_queue,
                priority=given("priority"),
                max_attempts=given("max_attempts"),
                run_at=given("run_at"),
                delay=given("delay"),
                job_timeout=given("job_timeout"),
                meta=_meta(trace_context.kept(meta, sending.context)),
            ),
            job_id=given("job_id"),
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
        rows.append(
            {
                "queue": part.get("queue", ""),
                "reason_code": part.get("reason_code", refused.reason_code),
                "jobs": part.get("jobs", 1),
                "details": details,
            }
        )
    return rows


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
            if "meta" in job or sending.context is not None:
                sending.link(trace_context.of_meta(job.get("meta")))
                job["meta"] = trace_context.kept(job.get("meta"), sending.context)
        except UsageError as error:
            details = {"ordinals": [number], "problems": [error.message]}
            raise type(error)(
                f"job {number}: {error.message}", *error.hints, details=details
            ) from None
        queues.add(job.get("queue", _QUEUE))
        yield _element(job)


def _accepted(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a job if it can be sent, as far as that is known before.

    What is None is left out and takes the database's default; lengths of time become
    seconds.
    """
    if not isinstance(job, Mapping):
        raise UsageError(
            f"a job must be a mapping with the parameters of enqueue, not {_kind(job)}"
        )
    payload_text.check_names(job, _CLIENT_FIELDS)
    if (job_type := job.get("job_type")) is None:
        payload_text.check_job_type(job_type)
    # Only of what is given: most jobs have a type and a payload, and nine readers for
    # each cost 3 microseconds more.
    found = {
        name: _READERS[name](value) for name, value in job.items() if value is not None
    }
    if "run_at" in found and "delay" in found:
        raise UsageError("run_at and delay exclude each other")
    found.setdefault("payload", "{}")
    return found


def _element(job: Mapping[str, Any]) -> str:
    """Return an accepted job as an element of the document for the database.

    A name, an id or a time has nothing to escape.
    """
    return "{" + ",".join([_WRITERS[name](job[name]) for name in job]) + "}"


def _job_type(given: Any) -> str:
    payload_text.check_job_type(given)
    # Of a subclass of str, such as an enumeration, its text.
    return str.__str__(given)


def _queue(given: Any) -> str:
    payload_text.check_queue(given)
    return str.__str__(given)


def _priority(given: Any) -> int:
    payload_text.check_priority(given)
    return int(given)


def _max_attempts(given: Any) -> int:
    payload_text.check_max_attempts(given)
    return int(given)


def _job_id(given: object) -> str:
    found = str(given) if isinstance(given, UUID) else given
    payload_text.check_job_id(found)
    return str.__str__(found)


def _delay(given: Duration) -> float:
    seconds = _seconds(given, "delay")
    if not 0 <= seconds <= _LONGEST:
        raise OutOfRange("delay must be from 0 to 100 years")
    return float(seconds)


def _timeout(given: Duration) -> float:
    seconds = _seconds(given, "job_timeout")
    payload_text.check_timeout_seconds(seconds)
    return float(seconds)


def _checked_meta(given: Any) -> dict[str, object]:
    payload_text.check_meta(given)
    found = dict(given)
    _meta(found)
    return found


def _meta(meta: Mapping[str, object] | None) -> str | None:
    return None if meta is None else payload_text.written(meta, what="meta")


def _moment(given: datetime | str) -> datetime:
    if isinstance(given, datetime):
        return _aware(given)
    found = payload_text.instant_of(given).at
    if found is None:  # 'in 5m': that is `delay`
        raise UsageError(payload_text.RUN_AT)
    return found


def _aware(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise UsageError(payload_text.RUN_AT, "Such as: datetime.now(UTC)")
    if not 2000 <= moment.year <= 9998:
        raise OutOfRange(payload_text.RUN_AT)
    return moment


def _seconds(given: Duration, what: str) -> float:
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, str):
        given = payload_text.seconds_of(given, what=what)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise UsageError(f"{what} {payload_text.LENGTH}")
    return given


def _exact(seconds: float) -> str:
    return times.exact_duration(timedelta(seconds=seconds))


# Accept the value of a field, or raise UsageError.
_READERS: dict[str, Callable[[Any], Any]] = {
    "job_type": _job_type,
    "payload": payload_text.written,
    "queue": _queue,
    "run_at": _moment,
    "delay": _delay,
    "priority": _priority,
    "max_attempts": _max_attempts,
    "job_id": _job_id,
    "job_timeout": _timeout,
    "meta": _checked_meta,
}
_CLIENT_FIELDS = _READERS.keys()

# A member of the gate's document for each.
_WRITERS: dict[str, Callable[[Any], str]] = {
    "job_type": lambda text: f'"job_type":"{text}"',
    "payload": lambda text: f'"payload_json":{text}',
    "queue": lambda text: f'"queue":"{text}"',
    "run_at": lambda moment: f'"run_at":"{moment.astimezone(UTC).isoformat()}"',
    "delay": lambda seconds: f'"run_at":"in {_exact(seconds)}"',
    "priority": lambda number: f'"priority":{number}',
    "max_attempts": lambda number: f'"max_attempts":{number}',
    "job_id": lambda text: f'"job_id":"{text}"',
    "job_timeout": lambda seconds: f'"job_timeout":"{_exact(seconds)}"',
    "meta": lambda meta: f'"meta":{_meta(meta)}',
}
