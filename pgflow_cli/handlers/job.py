"""The job as its handler sees it."""

from __future__ import annotations

import contextvars
import json
import logging
import threading
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any, NoReturn

import msgspec

from pgflow_cli.errors import UsageError
from pgflow_cli.formats import payload_text, times
from pgflow_cli.formats.clock import since_epoch
from pgflow_cli.handlers import outcomes
from pgflow_cli.handlers.exceptions import Delay, PayloadError, seconds
from pgflow_cli.handlers.handler import Handler
from pgflow_cli.models.jobs import LeasedJob
from pgflow_cli.telemetry import spans, trace_context

_log = logging.getLogger("pgflow.jobs")
_one_event_only = threading.Lock()

current: contextvars.ContextVar[Job | None] = contextvars.ContextVar(
    "pgflow_job", default=None
)


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions that a worker gives to a running job.

    Without them, progress stays in memory, and followers are part of the outcome.
    """

    report_progress: Callable[[float, float], None] | None = None
    enqueue_now: Callable[[list[dict[str, object]]], list[str]] | None = None


_ALONE = Hooks()


class Job:
    """One attempt of one job.

    `canceled` is set when the result no longer counts: at the timeout, when the lease
    is lost, when the worker stops, when an operator cancels the job. A handler that
    takes long looks at it, or waits on it instead of sleeping.
    """

    __slots__ = (
        "_canceled",
        "_followers",
        "_hooks",
        "_log",
        "_started",
        "argument",
        "handler",
        "leased",
        "meta",
        "over",
        "payload",
        "progress_made",
        "timeout",
        "trace",
    )

    def __init__(
        self,
        handler: Handler,
        leased: LeasedJob,
        *,
        payload: Any,
        meta: dict[str, Any],
        argument: Any,
        timeout: float,
        hooks: Hooks,
    ) -> None:
        self.handler = handler
        self.leased = leased
        self.payload = payload
        self.meta = meta
        self.argument = (
            argument  # the payload as the type of the handler's second parameter
        )
        self.timeout = timeout
        # The trace of this attempt: of its producer, or of its span.
        self.trace = trace_context.of_meta(meta) if meta else None
        self._canceled: Event | None = None
        self.progress_made: tuple[float, float] | None = None
        self._hooks = hooks
        self._log: JobLog | None = None
        self._followers: list[dict[str, object]] = []
        self._started = since_epoch()
        self.over = False  # its coroutine has ended

    def __repr__(self) -> str:
        return f"<Job {self.type} {self.id} attempt {self.attempt_no}>"

    @property
    def id(self) -> str:
        return self.leased.job_id

    @property
    def canceled(self) -> Event:
        """Set when the result no longer counts.

        It is created on first use: creating an event takes longer than the rest of a
        job, and few handlers use it.
        """
        if self._canceled is None:
            with _one_event_only:
                self._canceled = self._canceled or Event()
        return self._canceled

    @property
    def type(self) -> str:
        return self.leased.job_type

    @property
    def queue(self) -> str:
        return self.leased.queue

    @property
    def attempt_no(self) -> int:
        return self.leased.attempt_no

    @property
    def max_attempts(self) -> int:
        return self.leased.max_attempts

    @property
    def failed_attempts(self) -> int:
        """How many attempts have failed before this one: what `max_attempts` limits."""
        return self.leased.failed_attempts

    @property
    def run_at(self) -> datetime:
        return datetime.fromisoformat(self.leased.run_at).replace(tzinfo=UTC)

    @property
    def replay_of(self) -> str | None:
        """The id of the dead letter this job is a replay of."""
        return self.leased.replay_of_job_id

    @property
    def deadline(self) -> datetime:
        """When this attempt's time is over, by the worker's clock."""
        return datetime.fromtimestamp(self._started, UTC) + timedelta(
            seconds=self.timeout
        )

    @property
    def log(self) -> JobLog:
        """A logger whose lines carry the job's id, type, queue and attempt."""
        if self._log is None:
            self._log = JobLog(_log, fields(self))
        return self._log

    @property
    def followers(self) -> tuple[dict[str, object], ...]:
        """The jobs to enqueue with this one's success, as bodies of `POST /jobs`."""
        return tuple(self._followers)

    def progress(self, n: float, total: float) -> None:
        """Show how far the job is: `n` of `total`."""
        self.progress_made = (float(n), float(total))
        if self._hooks.report_progress is not None:
            self._hooks.report_progress(*self.progress_made)

    def enqueue(
        self,
        type: str,  # noqa: A002 - named like the property
        payload: Any = None,
        *,
        queue: str | None = None,
        run_at: datetime | str | None = None,
        priority: int | None = None,
        max_attempts: int | None = None,
        job_timeout: Delay | None = None,
        meta: Mapping[str, object] | None = None,
        now: bool = False,
    ) -> str | None:
        """Enqueue a job that follows from this one.

        It is written in the statement that records this job's success: an attempt that
        fails adds none. With `now` it is written at once, whatever becomes of this
        attempt, and its id is returned. Raises UsageError for what is unacceptable.
        """
        declared = self.handler.siblings.get(type)
        to_queue = queue or (declared and declared.queue)
        body = {
            "job_type": type,
            "payload_json": {} if payload is None else payload,
            "queue": to_queue,
            "run_at": run_at.isoformat() if isinstance(run_at, datetime) else run_at,
            "priority": priority,
            "max_attempts": max_attempts or (declared and declared.max_attempts),
            "job_timeout": None if job_timeout is None else _milliseconds(job_timeout),
        }
        with spans.sending(to_queue or "default", job_type=type) as sending:
            sending.link(trace_context.of_meta(meta))
            kept = trace_context.kept(meta, sending.context or self.trace)
            body["meta"] = None if kept is None else dict(kept)
            checked = _checked({k: v for k, v in body.items() if v is not None})
            if now and self._hooks.enqueue_now is not None:
                job_id = self._hooks.enqueue_now([checked])[0]
                sending.sent(job_id)
                return job_id
            self._followers.append(checked)
            return None

    def begin(self) -> None:
        """Start the attempt's time."""
        self._started = since_epoch()


def _checked(body: dict[str, Any]) -> dict[str, object]:
    """Return a body as JSON has it, if the gate can take it.

    Checked here, where the traceback names the line, and copied: what the handler does
    to its payload afterwards must not spoil the settlement.
    """
    copy: dict[str, object] = json.loads(payload_text.written(body, what="a job"))
    payload_text.check_job(copy)
    return copy


def _milliseconds(length: Delay) -> str:
    found = seconds(length)
    if found is None:
        raise UsageError(f"job_timeout {payload_text.LENGTH}")
    return times.exact_duration(timedelta(seconds=found))


class JobLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the job's fields to each line; fields of the call itself win."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class JobFields(logging.Filter):
    """A filter that adds the job's fields to every record logged inside a job, by any
    library.

    Put it on a log handler.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        job = current.get()
        if job is not None:
            for name, value in fields(job).items():
                record.__dict__.setdefault(name, value)
        return True


def fields(job: Job | LeasedJob) -> dict[str, object]:
    """Return the fields of every log line of a job."""
    leased = job.leased if isinstance(job, Job) else job
    trace = job.trace if isinstance(job, Job) else trace_context.of_text(job.meta)
    found: dict[str, object] = {
        "queue": leased.queue,
        "job_id": leased.job_id,
        "job_type": leased.job_type,
        "attempt_no": leased.attempt_no,
    }
    return {**found, "trace_id": trace.trace_id} if trace else found


def prepare(
    handler: Handler,
    leased: LeasedJob,
    hooks: Hooks = _ALONE,
    *,
    timeout: float | None = None,
) -> Job:
    """Decode a leased job for its handler.

    Raises PayloadError, which `conclude` turns into BAD_PAYLOAD.
    """
    payload = _decoded(leased.payload, "payload")
    meta = {} if leased.meta is None else _decoded(leased.meta, "meta")
    argument = None
    if handler.decode is not None:
        try:
            argument = handler.decode(payload, "payload")
        except RecursionError:
            raise PayloadError("the payload is nested too deeply") from None
    return Job(
        handler,
        leased,
        payload=payload,
        meta=meta,
        argument=argument,
        timeout=outcomes.time_limit(handler, leased) if timeout is None else timeout,
        hooks=hooks,
    )


def _decoded(text: str, name: str) -> Any:
    try:
        # Both parsers agree on text that both accept; this one takes a fifth of the
        # time.
        return _decode(text)
    except (msgspec.MsgspecError, RecursionError):
        pass
    # jsonb allows values that Python refuses: nesting beyond its stack, integers of
    # more than 4,300 digits.
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise PayloadError(f"the {name} is nested too deeply") from None
    except ValueError as error:
        raise PayloadError(f"the {name} cannot be decoded: {error}") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_decode = msgspec.json.Decoder().decode
_DECODER = json.JSONDecoder(parse_constant=_no_number)
