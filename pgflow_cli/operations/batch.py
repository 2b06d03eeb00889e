"""Enqueues a file of jobs, a line each, with flat memory.

Each line is checked and sent as it was written, up to 1,000 in a call; only times are
rewritten for the database. The lines of the next call are read while the database works
on the present ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import BinaryIO

from pgflow_cli.errors import (
    Blocked,
    DatabaseUnavailable,
    OutcomeUnknown,
    PgflowError,
    Refused,
    UsageError,
)
from pgflow_cli.formats import job_body, payload_text
from pgflow_cli.formats.job_body import JobBody
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.operations import delivery, enqueue
from pgflow_cli.repository import Repository

# Bytes of lines in one call: large lines make calls of fewer jobs, and memory stays
# flat.
BYTES_PER_CALL = 4_194_304
# A payload of the largest size, and room for the other fields of a job.
LONGEST_LINE = payload_text.MAX_BYTES + 65_536


@dataclass(frozen=True, slots=True)
class Plan:
    """How a batch is sent. `job_type` and `options` apply to lines without these
    fields. A line with a note is recorded in the audit as a change by `operator`, if
    there is one.

    `rate`, in jobs a second, spaces their run_at: the jobs are there at once, and
    become due one second's worth after the other.
    """

    options: JobOptions
    job_type: str | None = None
    atomic: bool = True
    rate: float | None = None
    operator: Operator | None = None


@dataclass(slots=True)
class Summary:
    """What became of the lines; `last_id` is of those enqueued."""

    enqueued: int = 0
    refused: int = 0
    last_id: str | None = None

    def sentence(self, *, dry_run: bool = False) -> str:
        """Say it in one line."""
        done = "would enqueue" if dry_run else "enqueued"
        left_out = f", refused {self.refused:,} lines" if self.refused else ""
        not_asked = "; the queues' guards were not asked" if dry_run else ""
        return f"{done} {self.enqueued:,} jobs{left_out}{not_asked}"


@dataclass(slots=True)
class Chunk:
    """The lines of one call, their numbers in the file, their notes by position, and
    the lines that are bad.
    """

    numbers: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    notes: dict[int, str] = field(default_factory=dict)
    refused: list[tuple[int, str]] = field(default_factory=list)
    size: int = 0

    def add(self, number: int, line: str, note: str | None) -> None:
        """Add a line that is good."""
        if note:
            self.notes[len(self.lines)] = note
        self.numbers.append(number)
        self.lines.append(line)


Told = Callable[[int, str], object]
"""Is told a line's number and why it was refused."""


def run(
    repository: Repository,
    stream: BinaryIO,
    plan: Plan,
    *,
    refused: Told,
    enqueued: Callable[[list[str]], object],
    dry_run: bool = False,
) -> Summary:
    """Enqueue every line of a stream; `enqueued` is told the ids of each call.

    If the plan is atomic, the first bad line raises UsageError or Refused and nothing
    is enqueued, whatever `enqueued` was told before. A dry run checks every line as far
    as that is possible without the database.
    """
    if dry_run:
        return _check_lines(stream, plan, refused)
    sender = _Sender(repository, plan, refused, enqueued)
    chunks = _ahead(read(stream, plan))
    if not plan.atomic:
        for chunk in chunks:
            sender.send_what_passes(chunk)
        return sender.summary
    complete = False
    try:
        with repository.transaction():
            for chunk in chunks:
                sender.send_all(chunk)
            complete = True
    except Refused as error:
        delivery.record_quietly(repository.enqueue, error)
        raise
    except Blocked as error:
        raise delivery.told(repository.enqueue, error) from error
    except OutcomeUnknown as error:
        if not complete:
            raise DatabaseUnavailable(
                f"{error.message}; nothing of the batch was enqueued", *error.hints
            ) from error
        _settle_doubt(repository, sender.summary.last_id, error)
    return sender.summary


def _check_lines(stream: BinaryIO, plan: Plan, refused: Told) -> Summary:
    summary = Summary()
    for chunk in read(stream, plan):
        summary.enqueued += len(chunk.lines)
        summary.refused += len(chunk.refused)
        for number, reason in chunk.refused:
            refused(number, reason)
    return summary


def read(stream: BinaryIO, plan: Plan) -> Iterator[Chunk]:
    """Read and check lines; a chunk is what one call takes."""
    most = enqueue.JOBS_PER_CALL
    if plan.rate is not None:
        most = max(1, min(most, int(plan.rate)))
    chunk = Chunk()
    for number, raw in _lines(stream):
        try:
            body = _checked(raw, plan.job_type)
        except UsageError as error:
            chunk.refused.append((number, error.message))
        else:
            if chunk.lines and chunk.size + len(raw) > BYTES_PER_CALL:
                yield chunk
                chunk = Chunk()
            chunk.add(number, body.element(), body.fields.get("note"))
            chunk.size += len(raw)
        if len(chunk.lines) >= most or len(chunk.refused) >= most:
            yield chunk
            chunk = Chunk()
    if chunk.lines or chunk.refused:
        yield chunk


class _Sender:
    """Sends chunk after chunk and keeps count."""

    def __init__(
        self,
        repository: Repository,
        plan: Plan,
        refused: Told,
        enqueued: Callable[[list[str]], object],
    ) -> None:
        self.repository = repository
        self.plan = plan
        self.refused = refused
        self.enqueued = enqueued
        self.summary = Summary()
        self._sent = 0

    def send_all(self, chunk: Chunk) -> None:
        """Send a chunk as a whole; raise at its first bad line."""
        if chunk.refused:
            number, reason = chunk.refused[0]
            raise UsageError(f"line {number}: {reason}")
        try:
            self._counted(self._call(chunk, enqueue.new_job_ids(len(chunk.lines))))
        except (UsageError, Refused) as error:
            raise _at_line(error, chunk) from None

    def send_what_passes(self, chunk: Chunk) -> None:
        """Send a chunk in a transaction of its own, without the lines that are refused.

        A lost reply is answered by sending the same ids again.
        """
        for number, reason in chunk.refused:
            self._refuse(number, reason)
        ids = enqueue.new_job_ids(len(chunk.lines))
        while chunk.lines:
            try:
                sent = delivery.persistently(partial(self._call, chunk, ids))
            except (UsageError, Refused) as error:
                if isinstance(error, Refused):
                    delivery.record_quietly(self.repository.enqueue, error)
                chunk, ids = self._without_refused(chunk, ids, error)
            except Blocked as blocked:
                raise delivery.told(self.repository.enqueue, blocked) from blocked
            else:
                self._counted(sent)
                return

    def _call(self, chunk: Chunk, ids: list[str]) -> list[str]:
        if chunk.notes and self.plan.operator is not None:
            with self.repository.transaction():
                return self._noted(chunk, ids, self.plan.operator)
        return self._enqueued(chunk, ids)

    def _enqueued(self, chunk: Chunk, ids: list[str]) -> list[str]:
        return self.repository.enqueue.enqueue_many(
            f"[{','.join(chunk.lines)}]",
            options=self._options(),
            job_type=self.plan.job_type,
            job_ids=ids,
        )

    def _noted(self, chunk: Chunk, ids: list[str], operator: Operator) -> list[str]:
        """Send a chunk and record each note with its jobs: of a job that was there
        before, it is recorded already.
        """
        done: dict[tuple[str, str], list[str]] = {}
        for place, note in chunk.notes.items():
            job = json.loads(chunk.lines[place])
            job_id = (job.get("job_id") or ids[place]).lower()
            if not self.repository.enqueue.has_job(job_id):
                queue = job.get("queue") or self.plan.options.queue or "default"
                done.setdefault((note, queue), []).append(job_id)
        sent = self._enqueued(chunk, ids)
        for (note, queue), job_ids in done.items():
            action = self.repository.audit.begin_action(
                replace(operator, note=note), "jobs.enqueue", queue=queue
            )
            self.repository.audit.extend_action(action, job_ids=job_ids)
            self.repository.audit.finish_action(action)
        return sent

    def _options(self) -> JobOptions:
        options = self.plan.options
        if self.plan.rate is None or not self._sent:
            return options
        later = self._sent / self.plan.rate
        if options.run_at is not None:
            return replace(options, run_at=options.run_at + timedelta(seconds=later))
        return replace(options, delay=(options.delay or 0.0) + later)

    def _counted(self, ids: list[str]) -> None:
        if ids:
            self.summary.last_id = ids[-1]
        self.summary.enqueued += len(ids)
        self._sent += len(ids)
        self.enqueued(ids)

    def _refuse(self, number: int, reason: str) -> None:
        self.summary.refused += 1
        self.refused(number, reason)

    def _without_refused(
        self, chunk: Chunk, ids: list[str], error: UsageError | Refused
    ) -> tuple[Chunk, list[str]]:
        reasons = _reasons(error)
        if not reasons:
            # These errors are about no single line: each line would fail in the same
            # way.
            raise error
        rest, rest_ids = Chunk(), []
        rows = zip(chunk.numbers, chunk.lines, ids, strict=True)
        for place, (number, line, job_id) in enumerate(rows):
            if place + 1 in reasons:
                self._refuse(number, reasons[place + 1])
                continue
            rest.add(number, line, chunk.notes.get(place))
            rest_ids.append(job_id)
        return rest, rest_ids


def _reasons(error: UsageError | Refused) -> dict[int, str]:
    """Return why each refused element of a call was refused, by its ordinal."""
    if isinstance(error, UsageError):
        ordinals, problems = (
            error.details.get("ordinals"),
            error.details.get("problems"),
        )
        if isinstance(ordinals, list) and isinstance(problems, list):
            return dict(zip(ordinals, problems, strict=True))
        return {}
    reasons: dict[int, str] = {}
    refused = error.details.get("refused")
    for part in refused if isinstance(refused, list) else []:
        reason = _sentence(part)
        for ordinal in part["ordinals"]:
            reasons.setdefault(ordinal, reason)
    return reasons


def _sentence(part: dict[str, object]) -> str:
    code, queue, limit = part["reason_code"], part["queue"], part["limit"]
    if code == "PAYLOAD_TOO_LARGE":
        what = f'the payload exceeds the {limit} bytes of queue "{queue}"'
    elif code == "TOO_MANY_QUEUES":
        what = f"its queue and priority would be new, and {limit} may be in use"
    else:
        what = f'queue "{queue}" takes at most {limit} jobs a minute'
    return f"{code}: {what}"


def _at_line(error: UsageError | Refused, chunk: Chunk) -> UsageError | Refused:
    """Let a message name the line of the file instead of the element of the call."""
    return enqueue.renamed(error, lambda n: f"line {chunk.numbers[n - 1]}")


def _checked(raw: bytes, job_type: str | None) -> JobBody:
    text = payload_text.text_of(raw, what="the line")
    return job_body.read(text, what="the line", job_type=job_type)


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Number the lines that are not blank; a line that is too long is not read to its
    end.
    """
    number = 0
    while raw := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            raise UsageError(f"line {number} is longer than {LONGEST_LINE} bytes")
        if line := raw.strip(b" \t\r\n"):
            yield number, line


def _ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Read the next chunk while the caller works on the present one."""
    with ThreadPoolExecutor(1, "pgflow-reader") as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield chunk


def _settle_doubt(
    repository: Repository,
    last_id: str | None,
    error: OutcomeUnknown,
    *,
    seconds: float = 5.0,
) -> None:
    """After a commit without a reply: all jobs exist, or none; ask for the last one.

    The server may still be committing, so this waits a while for the answer.
    """
    deadline = time.monotonic() + seconds
    while last_id is not None:
        try:
            if repository.enqueue.has_job(last_id):
                return
        except PgflowError:
            pass
        if time.monotonic() >= deadline:
            break
        time.sleep(0.2)
    raise OutcomeUnknown(
        f"{error.message}; nothing of the batch was found afterwards",
        *([f"Try: pgflow explain {last_id}"] if last_id else []),
    ) from error
