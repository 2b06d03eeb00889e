"""Enqueues jobs: from Python inside the caller's own transaction, or once and for all.

Every way leads through the same gate in the database. What it refuses it does not
remember: an error ends the caller's transaction, and with it whatever would have been
written down. So whoever enqueues records the refusal afterwards, with
`record_refusal(connection, refused)`; the command line does so by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from pgflow_cli import repository
from pgflow_cli.errors import Refused, UsageError
from pgflow_cli.formats import payload_text
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.telemetry import spans, trace_context

if TYPE_CHECKING:
    import psycopg

    from pgflow_cli.repository import Enqueuing
    from pgflow_cli.telemetry.spans import Sending

JOBS_PER_CALL = 1000

Duration = float | timedelta | str

_CLIENT_FIELDS = frozenset(
    {
        "job_type",
        "payload",
        "queue",
        "run_at",
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
    queue: str = "default",
    run_at: datetime | str | None = None,
    delay: Duration | None = None,
    priority: int = 0,
    max_attempts: int = 25,
    job_timeout: Duration | None = None,
    meta: Mapping[str, object] | None = None,
    job_id: str | None = None,
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
    payload_text.check_job_type(job_type)
    options = _options(queue, priority, max_attempts, meta)
    if run_at is not None and delay is not None:
        raise UsageError("run_at and delay exclude each other")
    if job_id is not None:
        payload_text.check_job_id(job_id)
    with spans.sending(queue, job_type=job_type) as sending:
        sending.link(trace_context.of_meta(meta))
        found = repository.borrowed(connection).enqueue(
            job_type,
            payload_text.written({} if payload is None else payload),
            options=replace(
                options,
                run_at=_moment(run_at),
                delay=_seconds(delay, "delay"),
                job_timeout=_seconds(job_timeout, "job_timeout"),
                meta=_meta(trace_context.kept(meta, sending.context)),
            ),
            job_id=job_id,
        )
        sending.sent(found)
        return found


def enqueue_many(
    connection: psycopg.Connection[Any], jobs: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Enqueue jobs in the connection's own transaction and return their ids in order.

    Each job is a mapping with the parameters of `enqueue`, without `delay`. They are
    sent 1,000 at a time; all are enqueued or none, if the connection is in autocommit
    mode too. Threads may share a connection: their calls take turns. Raises what
    `enqueue` raises; the message names the job, counted from 1.
    """
    producing = repository.borrowed(connection)
    if isinstance(jobs, (Mapping, str, bytes)) or not isinstance(jobs, Iterable):
        raise UsageError(f"jobs must be a list of mappings, not {_kind(jobs)}")
    with spans.sending(None) as sending:
        return _send_all(producing, jobs, sending)


def record_refusal(connection: psycopg.Connection[Any], refused: Refused) -> None:
    """Count a refusal as an ingest decision, in the connection's present transaction.

    To be called once the transaction that was refused has been rolled back.
    """
    repository.borrowed(connection).record_ingest_decisions(refusals_of(refused))


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
            # What has been made up shall not become a name in lists and metrics.
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


def _send_all(
    producing: Enqueuing, jobs: Iterable[Mapping[str, Any]], sending: Sending
) -> list[str]:
    ids: list[str] = []
    queues: set[str] = set()
    elements = (_element(job, sending, queues) for job in jobs)
    part, rest = _next_part(elements), _next_part(elements)
    # A statement is all or nothing by itself. Several need a transaction: without one
    # of the caller's own, a later part could fail alone.
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
    return list(islice(elements, JOBS_PER_CALL))


def _counted_from(error: UsageError | Refused, sent: int) -> UsageError | Refused:
    """Let a message name the job by its place among all of them."""
    ordinals = error.details.get("ordinals")
    if isinstance(ordinals, list) and ordinals:
        first = f"job {ordinals[0]}: "
        error.message = error.message.replace(first, f"job {sent + ordinals[0]}: ", 1)
        error.args = (error.message,)
    return error


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _element(job: Mapping[str, Any], sending: Sending, queues: set[str]) -> str:
    """Return one job of Python values as an element of the gate's document.

    It belongs to the trace of the call, unless it brings its own.
    """
    if not isinstance(job, Mapping):
        raise UsageError(
            f"a job must be a mapping with the parameters of enqueue, not {_kind(job)}"
        )
    stray = sorted(str(name) for name in job.keys() - _CLIENT_FIELDS)
    if stray:
        raise UsageError(
            "a job has an unknown field",
            f"It may have: {', '.join(sorted(_CLIENT_FIELDS))}",
        )
    element = {name: value for name, value in job.items() if value is not None}
    payload = element.pop("payload", {})
    if isinstance(when := element.get("run_at"), datetime):
        element["run_at"] = _aware(when).isoformat()
    if "job_timeout" in element:
        seconds = _seconds(element["job_timeout"], "job_timeout") or 0
        element["job_timeout"] = f"{round(seconds * 1000)}ms"
    element["payload_json"] = payload
    if isinstance(meta := element.get("meta", {}), Mapping):
        sending.link(trace_context.of_meta(meta))
        if kept := trace_context.kept(meta, sending.context):
            element["meta"] = kept
    queues.add(str(element.get("queue", "default")))
    text = payload_text.written(element, what="a job")
    payload_text.check_job(element)
    return text


def _options(
    queue: str, priority: int, max_attempts: int, meta: Mapping[str, object] | None
) -> JobOptions:
    payload_text.check_queue(queue)
    payload_text.check_priority(priority)
    payload_text.check_max_attempts(max_attempts)
    if meta is not None:
        payload_text.check_meta(meta)
    return JobOptions(
        queue=queue,
        priority=priority,
        max_attempts=max_attempts,
        meta=_meta(meta),
    )


def _meta(meta: Mapping[str, object] | None) -> str | None:
    return None if meta is None else payload_text.written(meta, what="meta")


def _moment(given: datetime | str | None) -> datetime | None:
    if given is None or isinstance(given, datetime):
        return None if given is None else _aware(given)
    payload_text.check_run_at(given)
    try:
        return datetime.fromisoformat(given)
    except ValueError:
        raise UsageError(
            "run_at must be a time with a zone, from 2000 to 9998"
        ) from None


def _aware(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise UsageError("run_at must have a zone, such as datetime.now(UTC)")
    if not 2000 <= moment.year <= 9998:
        raise UsageError("run_at must be a time with a zone, from 2000 to 9998")
    return moment


def _seconds(given: Duration | None, what: str) -> float | None:
    if given is None:
        return None
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, str):
        return payload_text.seconds_of(given, what=what)
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise UsageError(f"{what} must be seconds, a timedelta, or text such as 5m")
    if not 0 <= given <= 3.2e9:
        raise UsageError(f"{what} must be from 0 to 100 years")
    return float(given)
