"""Add jobs to a queue."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from pgflow_cli.cli import changes, settings
from pgflow_cli.cli.context import command, pass_any_repository
from pgflow_cli.cli.output import messages, records, reports, terminal
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.option import (
    OptionGroup,
    build,
    declared,
    option,
)
from pgflow_cli.cli.settings.types import (
    ANY_TYPE,
    QUEUE,
    Duration,
    InstantType,
    Number,
    Rate,
)
from pgflow_cli.errors import NotFound, Refused, UsageError
from pgflow_cli.formats.words import plural
from pgflow_cli.models.jobs import JobOptions

if TYPE_CHECKING:
    from pgflow_cli.formats.times import Instant
    from pgflow_cli.repository import Repository

COLUMNS = (
    Column("job_id", "ID", kind="id"),
    Column("status"),
    Column("error_code", "ERROR"),
)
TRIAL = (
    Column("job_type", "TYPE"),
    Column("queue"),
    Column("priority", kind="number"),
    Column("max_attempts", kind="number"),
    Column("run_at", kind="time"),
    Column("delay", kind="seconds"),
    Column("job_timeout", kind="seconds"),
    Column("payload_bytes", kind="number"),
)


@dataclass(frozen=True)
class EnqueueOptions:
    """What `pgflow enqueue` was told."""

    job_type: str | None = declared(
        click.argument("job_type", metavar="[TYPE]", required=False, type=ANY_TYPE)
    )
    payload: str | None = declared(click.argument("payload", required=False))
    strings: tuple[str, ...] = option(
        "-F",
        "strings",
        metavar="KEY=TEXT",
        multiple=True,
        help="A field of the payload, as text; repeatable.",
    )
    documents: tuple[str, ...] = option(
        "-J",
        "documents",
        metavar="KEY=JSON",
        multiple=True,
        help="A field of the payload, as JSON; repeatable.",
    )
    queue: str = option(
        "-q",
        "--queue",
        type=QUEUE,
        default="default",
        show_default=True,
        help="The queue.",
    )
    priority: int = option(
        "--priority",
        type=Number(-100, 100),
        default=0,
        show_default=True,
        help="Higher runs first.",
    )
    max_attempts: int = option(
        "--max-attempts",
        type=Number(1, 10_000),
        default=25,
        show_default=True,
        help="Failed attempts that make it a dead letter.",
    )
    run_at: Instant | None = option(
        "--run-at", type=InstantType("future"), help="Not before this time."
    )
    delay: float | None = option(
        "--in",
        "delay",
        type=Duration(0, 3_153_600_000),
        help="Not before so long from now.",
    )
    job_timeout: float | None = option(
        "--job-timeout",
        type=Duration(0.001, 2_592_000),
        help="Limit of one attempt, instead of the handler's.",
    )
    pairs: tuple[str, ...] = option(
        "--meta",
        "pairs",
        metavar="KEY=TEXT",
        multiple=True,
        help="Kept beside the payload; repeatable.",
    )
    job_id: str | None = option(
        "--id", "job_id", metavar="UUID", help="A UUIDv7; the same twice is one job."
    )
    batch: str | None = option(
        "--batch",
        metavar="FILE",
        help="One job per line, each a body of POST /jobs; - is stdin.",
    )
    rate: float | None = option(
        "--rate",
        type=Rate(),
        metavar="N/s",
        help="With --batch: space run_at so that N become due a second.",
    )
    atomic: bool = option(
        "--atomic/--no-atomic",
        default=True,
        show_default=True,
        help="With --batch: all lines or none, or all that are accepted.",
    )
    wait: bool = option(
        "--wait", is_flag=True, help="Wait for the end; exit 1 if it failed."
    )
    wait_timeout: float = option(
        "--wait-timeout",
        type=Duration(0, 31_536_000),
        default="75s",
        show_default=True,
        help="Wait no longer; then exit 75.",
    )
    dry_run: bool = option(
        "-n", "--dry-run", is_flag=True, help="Change nothing; tell what would be done."
    )


@command("enqueue")
@OptionGroup(EnqueueOptions)
@pass_any_repository
def enqueue(repository: Repository, options: EnqueueOptions) -> int:
    """Add a job to a queue, or a file of jobs.

    PAYLOAD is JSON, @FILE, or - for stdin; without it and without -F and -J it is {}.
    The job's id goes to stdout. A job that a guard of its queue refuses is exit 4: its
    policy, else PGFLOW_MAX_PAYLOAD_BYTES and PGFLOW_MAX_ENQUEUE_PER_MINUTE. Batches
    that add more than 10 new queues or priorities in one transaction take turns: one
    waits for the other, 10 s at most, then exit 75.

    \b
    Examples:
      pgflow enqueue email_send '{"to": "a@example.org"}' -q emails
      pgflow enqueue report_build -F name=march -J pages=12 --in 10m --wait
      pgflow enqueue thumbnail @payload.json --priority 10
      pgflow enqueue --batch jobs.jsonl --no-atomic
    """
    job = _job_options(options)
    try:
        if options.batch is None:
            return _enqueue_one(repository, job, options)
        return _enqueue_batch(repository, job, options, options.batch)
    except Refused as refused:
        raise _naming_the_setting(refused) from None


def _enqueue_one(
    repository: Repository, job: JobOptions, options: EnqueueOptions
) -> int:
    from pgflow_cli.formats import payload_text
    from pgflow_cli.operations import delivery
    from pgflow_cli.operations.enqueue import new_job_id

    if options.rate is not None or not options.atomic:
        raise UsageError("--rate and --no-atomic belong to --batch")
    payload_text.check_job_type(options.job_type)
    job_id = options.job_id or new_job_id()
    payload_text.check_job_id(job_id)
    text = delivery.payload_text(
        options.payload,
        strings=options.strings,
        documents=options.documents,
        stdin=sys.stdin.buffer,
    )
    job_type = str(options.job_type)
    if options.dry_run:
        fields = delivery.try_out(
            repository.enqueue, job_type, text, options=job, job_id=job_id
        )
        messages.say("DRY RUN, nothing changed. Would enqueue:")
        records.write_record(fields, TRIAL)
        return 0
    reports.require_stdout()
    delivery.enqueue_once(
        repository.enqueue, job_type, text, options=job, job_id=job_id
    )
    return _finish(repository, [job_id], options)


def _enqueue_batch(
    repository: Repository, job: JobOptions, options: EnqueueOptions, file: str
) -> int:
    from pgflow_cli.operations import batch

    if options.payload or options.strings or options.documents or options.job_id:
        raise UsageError("--batch brings payloads and ids itself")
    plan = batch.Plan(
        job,
        options.job_type,
        options.atomic,
        options.rate,
        operator=changes.operator(),
    )
    ids: list[str] = []
    keep = options.wait or records.is_machine()
    if keep:
        reports.require_stdout()
    with (
        _opened(file) as stream,
        terminal.progress("enqueue", total=None) as advance,
    ):

        def enqueued(some: list[str]) -> None:
            advance(len(some))
            if keep:
                ids.extend(some)

        summary = batch.run(
            repository,
            stream,
            plan,
            refused=lambda number, reason: messages.warn(f"line {number}: {reason}"),
            enqueued=enqueued,
            dry_run=options.dry_run,
        )
    messages.say(summary.sentence(dry_run=options.dry_run))
    code = _finish(repository, ids, options) if ids else 0
    return code or int(summary.refused > 0)


def _finish(repository: Repository, ids: list[str], options: EnqueueOptions) -> int:
    """Print ids, or with --wait how the jobs have ended; 1 if one has failed."""
    from pgflow_cli.operations import delivery

    several = len(ids) > 1
    done = f"job {ids[0]} was enqueued"
    if several:
        done = f"{len(ids):,} jobs were enqueued ({ids[0]} to {ids[-1]})"
    if not options.wait:
        with reports.after(done, "their ids" if several else "its id"):
            if records.is_machine():
                records.write([{"job_id": job_id} for job_id in ids], COLUMNS[:1])
            else:
                records.write_text(ids)
        return 0
    messages.say(f"waiting for {plural(len(ids), 'job')}")
    outcomes = delivery.wait_for_outcomes(
        repository.enqueue, ids, seconds=options.wait_timeout
    )
    failed = sum(outcome.status != "succeeded" for outcome in outcomes)
    ended = f"{len(outcomes) - failed:,} succeeded, {failed:,} did not"
    with reports.after(f"{done}; {ended}", "this"):
        records.write(outcomes, COLUMNS)
    return int(failed > 0)


def _job_options(options: EnqueueOptions) -> JobOptions:
    from pgflow_cli.operations import delivery

    if options.run_at is not None and options.delay is not None:
        raise UsageError("--run-at and --in exclude each other")
    made = build(
        JobOptions,
        options,
        run_at=None,
        meta=delivery.meta_text(options.pairs, **settings.trace_context()),
        max_payload_bytes=common.max_payload_bytes.value(),
        max_enqueue_per_minute=common.max_enqueue_per_minute.value(),
    )
    return delivery.starting(made, options.run_at)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115 - closed below; the error is ours
    except OSError as error:
        raise NotFound(f"cannot read {name}: {error.strerror}") from None
    with file:
        yield file


def _naming_the_setting(refused: Refused) -> Refused:
    """Let the refusal say where its limit comes from."""
    if refused.reason_code == "TOO_MANY_QUEUES":
        refused.hints = (
            "TOO_MANY_QUEUES: see pgflow queues bound; maintain forgets unused ones.",
        )
    by_reason = {
        "PAYLOAD_TOO_LARGE": common.max_payload_bytes,
        "ENQUEUE_RATE_EXCEEDED": common.max_enqueue_per_minute,
    }
    if refused.reason_code not in by_reason:
        return refused
    source = by_reason[refused.reason_code].variable
    if refused.details.get("from_policy"):
        source = f'the policy of queue "{refused.details.get("queue")}"'
    refused.hints = (f"{refused.reason_code}: the limit is set by {source}.",)
    return refused
