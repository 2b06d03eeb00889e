"""Enqueues the jobs of an operator exactly once, and waits until they have ended."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from pgflow_cli.errors import (
    Blocked,
    Contention,
    DatabaseUnavailable,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    PgflowError,
    Refused,
    TooSlow,
    TryLater,
    UsageError,
)
from pgflow_cli.formats.payload_text import (
    MAX_BYTES,
    check,
    check_payload,
    text_of,
    written,
)
from pgflow_cli.formats.times import Instant
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import JobOptions, JobOutcome
from pgflow_cli.operations import enqueue
from pgflow_cli.repository import Enqueuing, Repository
from pgflow_cli.telemetry import trace_context
from pgflow_cli.telemetry.trace_context import TraceContext

log = logging.getLogger("pgflow.enqueue")

ATTEMPTS = 5
"""How often something is sent whose reply was lost, or that met another transaction."""

Result = TypeVar("Result")


def payload_text(
    given: str | None,
    *,
    strings: Sequence[str] = (),
    documents: Sequence[str] = (),
    stdin: BinaryIO,
) -> str:
    """Return the payload an operator typed: JSON, `@file`, `-`, or single fields.

    `strings` are KEY=TEXT, `documents` KEY=JSON. The text has been checked, and is
    otherwise what was typed.
    """
    if given is not None and (strings or documents):
        raise UsageError("a payload and -F or -J exclude each other")
    if given is None:
        text = _object(strings, documents)
    elif given == "-":
        text = text_of(stdin.read(MAX_BYTES + 1))
    elif given.startswith("@"):
        text = text_of(_content(Path(given[1:])))
    else:
        text = given
    check_payload(text)
    return text


def meta_text(
    pairs: Sequence[str],
    *,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> str | None:
    """Return the meta of a job from KEY=TEXT; a trace context joins it if it is one."""
    context = trace_context.accepted(traceparent, tracestate)
    meta = trace_context.kept(dict(_split(pair, "--meta") for pair in pairs), context)
    return written(meta, what="meta") if meta else None


def traced(meta: str | None, context: TraceContext | None) -> str | None:
    """Return meta with a trace context in it; the rest stays as it was written."""
    if context is None:
        return meta
    given = {} if meta is None else json.loads(meta)
    added = json.dumps(context.fields())
    if meta is None or not given:
        return added
    if trace_context.kept(given, context) is given:
        return meta
    return f"{added[:-1]}, {meta.lstrip()[1:]}"


def starting(options: JobOptions, when: Instant | None) -> JobOptions:
    """Return the options with the time before which the job shall not run."""
    if when is None:
        return options
    if when.offset is not None:
        return replace(options, delay=when.offset.total_seconds())
    return replace(options, run_at=when.at)


def try_out(
    producing: Enqueuing,
    job_type: str,
    payload: str,
    *,
    options: JobOptions,
    job_id: str,
) -> dict[str, object]:
    """Enqueue a job and roll it back; return the job's fields. Raises as `enqueue`
    does.
    """
    with suppress(_Undone), producing.transaction():
        producing.enqueue(job_type, payload, options=options, job_id=job_id)
        raise _Undone
    return {
        "job_type": job_type,
        "queue": options.queue,
        "priority": options.priority,
        "max_attempts": options.max_attempts,
        "run_at": options.run_at,
        "delay": options.delay,
        "job_timeout": options.job_timeout,
        "payload_bytes": len(payload.encode()),
    }


class _Undone(Exception):
    """Rolls the trial's transaction back; it is no error."""


def record_quietly(producing: Enqueuing, refused: Refused) -> None:
    """Count a refusal if the role may; it never hides the refusal itself."""
    try:
        if producing.record_refusals(enqueue.refusals_of(refused)):
            return
        why = "the table of ingest decisions is locked"
    except PermissionDenied:
        return
    except PgflowError as error:
        why = error.message
    log.warning(
        "a refusal was not counted: %s", why, extra={"event": "refusal_not_counted"}
    )


def by_hand(
    repository: Repository,
    job_type: str,
    payload: str,
    *,
    options: JobOptions,
    job_id: str,
    operator: Operator,
) -> str:
    """Enqueue one job and record that an operator did, both or neither; the same id
    twice is one job and one action.
    """
    with repository.transaction():
        is_new = not repository.enqueue.has_job(job_id)
        repository.enqueue.enqueue(job_type, payload, options=options, job_id=job_id)
        if is_new:
            action = repository.audit.begin_action(
                operator, "jobs.enqueue", queue=options.queue
            )
            repository.audit.extend_action(action, job_ids=[job_id])
            repository.audit.finish_action(action)
    return job_id


def enqueue_once(
    producing: Enqueuing,
    job_type: str,
    payload: str,
    *,
    options: JobOptions,
    job_id: str,
    send: Callable[..., str] | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> str:
    """Enqueue one job in a transaction of its own, exactly once.

    A lost reply is answered by sending again with the same id. A refusal is recorded as
    an ingest decision, then raised. `send` does it instead of the plain statement.
    Raises `Blocked`, with the sessions to look at, where another transaction is in the
    way for ten seconds, or for the session's own lock_timeout.
    """
    call = partial(
        send or producing.enqueue, job_type, payload, options=options, job_id=job_id
    )
    try:
        return persistently(call, pause=pause)
    except Refused as refused:
        record_quietly(producing, refused)
        raise
    except Blocked as blocked:
        raise told(producing, blocked) from blocked


def told(producing: Enqueuing, blocked: Blocked) -> Blocked:
    """Add the transactions that may hold the lock to the error; never replaces the
    error.
    """
    with suppress(PgflowError):
        for writer in producing.list_open_writers():
            blocked.hints = (*blocked.hints, f"In the way may be {writer}.")
    return blocked


def persistently(
    send: Callable[[], Result], *, pause: Callable[[float], object] = time.sleep
) -> Result:
    """Call until the database answers, up to `ATTEMPTS` times; the call must be safe to
    repeat.

    A call that was too slow, or waited for another transaction, is not repeated. Raises
    OutcomeUnknown if one of the calls may have had its effect, whatever the last one
    raised.
    """
    doubt: OutcomeUnknown | None = None
    for attempt in range(1, ATTEMPTS):
        try:
            return send()
        except OutcomeUnknown as unknown:
            doubt = unknown
        except (TooSlow, Blocked):
            if doubt is not None:
                raise doubt from None
            raise
        except (DatabaseUnavailable, Contention):
            pass
        # Full jitter: many producers lose their connection in the same instant.
        pause(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311
    try:
        return send()
    except (DatabaseUnavailable, Contention):
        if doubt is not None:
            raise doubt from None
        raise


def wait_for_outcomes(
    producing: Enqueuing,
    job_ids: Sequence[str],
    *,
    seconds: float,
    any_of_them: bool = False,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[JobOutcome]:
    """Wait until jobs have ended and return how, in the order of their ids.

    `any_of_them`: until one of them has; only those that have are returned.

    Raises TryLater if some have not after so many seconds.
    """
    deadline = clock() + seconds
    ended: dict[str, JobOutcome] = {}
    interval = 0.05
    while open_ids := [job_id for job_id in job_ids if job_id not in ended]:
        for start in range(0, len(open_ids), enqueue.JOBS_PER_CALL):
            part = open_ids[start : start + enqueue.JOBS_PER_CALL]
            for outcome in producing.list_outcomes(part):
                ended[outcome.job_id] = outcome
        remaining = deadline - clock()
        if ended and any_of_them:
            break
        if len(ended) < len(set(job_ids)):
            if remaining <= 0:
                raise TryLater(
                    f"{len(set(job_ids)) - len(ended)} of {len(set(job_ids))} jobs "
                    f"have not ended after {seconds:g} s",
                    f"Try: pgflow explain {open_ids[0]}",
                )
            pause(min(interval, max(0.0, remaining)))
            interval = min(1.0, interval * 1.5)
    return [ended[job_id] for job_id in job_ids if job_id in ended]


def _object(strings: Sequence[str], documents: Sequence[str]) -> str:
    """Return an object of fields; the JSON of a field stays as it was typed."""
    fields: dict[str, str] = {}
    for pair in strings:
        name, value = _split(pair, "-F")
        _add(fields, name, json.dumps(value))
    for pair in documents:
        name, value = _split(pair, "-J")
        check(value, what=f'the value of field "{name}"')
        _add(fields, name, value)
    return f"{{{', '.join(f'{json.dumps(k)}: {v}' for k, v in fields.items())}}}"


def _add(fields: dict[str, str], name: str, value: str) -> None:
    if name in fields:
        raise UsageError(f'field "{name}" is given twice')
    fields[name] = value


def _split(pair: str, option: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not name or not equals:
        # The text is not repeated: it may be payload.
        raise UsageError(f"{option} takes KEY=VALUE")
    return name, value


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from None
