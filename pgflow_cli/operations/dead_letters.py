"""Selects dead letters for a change, discards and exports them, and counts them for
lists.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from io import TextIOWrapper
from itertools import islice
from typing import TextIO

from pgflow_cli.errors import NotFound, OutputFailed, PgflowError, Refused, UsageError
from pgflow_cli.formats import values
from pgflow_cli.formats.words import short_id, up_to
from pgflow_cli.local import output_files
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.dead_letters import DeadLetterCount, ExportedLetter, LookedUpJob
from pgflow_cli.models.selection import JobFilter, Position
from pgflow_cli.repository import Repository

LIMIT = 10_000  # the highest count of dead letters: a list reads no further
_LOOKED_UP = 5_000  # ids in one statement
_COMPLAINTS = 20  # lines about jobs that are left out; the rest is a count
_CAUSES = 5  # error codes in the footer of a list

Names = dict[str, str]


@dataclass(frozen=True, slots=True)
class Done:
    """Why a job needs no change any more, and the job that replays it."""

    reason: str
    replay_job_id: str | None = None


@dataclass(slots=True)
class SelectedJobs:
    """The jobs that a change is about, and why others of those named are not.

    `skipped` need no change any more; the two others map what was typed to a reason.
    """

    job_ids: list[str] = field(default_factory=list)
    skipped: dict[str, Done] = field(default_factory=dict)
    failed: dict[str, PgflowError] = field(default_factory=dict)
    hints: tuple[str, ...] = ()

    def complaints(self) -> Iterator[str]:
        """Yield a line about each that is left out, up to a few."""
        for short, error in islice(self.failed.items(), _COMPLAINTS):
            yield f"{short}: {error.message}"
        if len(self.failed) > _COMPLAINTS:
            yield f"{len(self.failed) - _COMPLAINTS:,} more failed"
        for short, done in islice(self.skipped.items(), 1):
            rest = len(self.skipped) - 1
            others = f", and so it is with {rest:,} more" if rest else ""
            yield f"{short} is skipped: {done.reason}{others}"


def look_up(
    repository: Repository,
    given: Sequence[str],
    *,
    verb: str,
    again: bool = False,
    any_status: bool = False,
    by_flag: bool = True,
) -> SelectedJobs:
    """Look the given jobs up, and select those that are dead letters and can be
    changed.

    `again` lets resolved ones pass, `any_status` jobs that have ended otherwise. `verb`
    is what is to be done to them, such as "replayed". `by_flag`: errors say with what
    flag of the command line to insist.
    """
    found = SelectedJobs()
    if verb == "replayed":
        insist = "--again" if by_flag else '"again": true'
        found.hints = (f"Try: {insist}, to insist",)
    names = _full_ids(repository, given, found)
    for job in _looked_up(repository, list(names)):
        short = names[job.job_id]
        problem = _problem(job, verb, any_status=any_status, by_flag=by_flag)
        done = _done_before(job, again=again)
        if problem is not None:
            found.failed[short] = problem
        elif done is not None:
            found.skipped[short] = done
        else:
            found.job_ids.append(job.job_id)
    return found


def choose(
    repository: Repository,
    chosen: JobFilter,
    *,
    limit: int | None = None,
    newest_first: bool = False,
    again: bool = False,
    readable: bool = False,
) -> SelectedJobs:
    """Return the open dead letters of a filter; `again`: and those replayed before,
    `readable`: without those whose job's row cannot be read.
    """
    return SelectedJobs(
        repository.dead_letters.choose_dead_letters(
            repository.queues.resolve_queues(chosen),
            limit=limit,
            newest_first=newest_first,
            again=again,
            readable=readable,
        )
    )


def require_the_one(given: Sequence[str], found: SelectedJobs) -> None:
    """Raise what is wrong with a single id that was typed; lists go on without it."""
    if len(given) != 1 or given[0].startswith(("-", "@")) or found.job_ids:
        return
    for error in found.failed.values():
        raise error
    for short, done in found.skipped.items():
        replayed = done.replay_job_id is not None
        raise Refused(
            f"nothing to do for job {short}: {done.reason}",
            *found.hints,
            reason_code="ALREADY_REPLAYED" if replayed else "NOT_REPLAYABLE",
            details={"replay_job_id": done.replay_job_id} if replayed else None,
        )


def require(repository: Repository, given: str) -> str:
    """Return the full id of a dead letter; raise if it is anything else."""
    job_id = repository.jobs.find_job(given)
    [job] = repository.dead_letters.look_up_jobs([job_id])
    problem = _problem(job, "shown here", any_status=False)
    if problem is not None:
        raise problem
    return job_id


def discard(
    repository: Repository,
    job_ids: Sequence[str],
    operator: Operator,
    *,
    batch_size: int,
    forever: bool = False,
    advance: Callable[[int], None] = lambda _jobs: None,
) -> tuple[int, int]:
    """Resolve dead letters as discarded, or remove them and their jobs for good.

    Each batch is a transaction. Return the number of the action and how many were still
    open.
    """
    action = repository.audit.begin_action(
        operator, "dlq.discard", details={"forever": forever}
    )
    total = 0
    for batch in batches(job_ids, batch_size):
        with repository.transaction():
            done = (
                repository.dead_letters.delete_dead_letters(batch)
                if forever
                else repository.dead_letters.discard_dead_letters(
                    batch, action_id=action
                )
            )
            repository.audit.extend_action(action, job_ids=done)
        total += len(done)
        advance(len(batch))
    repository.audit.finish_action(action)
    return action, total


def count(number: int) -> str:
    """Return a count as screens show it, which stops somewhere."""
    return up_to(LIMIT, number)


def footer(
    repository: Repository, chosen: JobFilter, shown: int, *, include_resolved: bool
) -> Iterator[str]:
    """Yield how many there are, those shown among them, and what they died of."""
    tallies = repository.dead_letters.count_dead_letters(chosen, limit=LIMIT + 1)
    total, resolved = totals(tallies)
    if include_resolved:
        yield f"{shown:,} of {count(total + resolved)} shown."
    else:
        hidden = f", {count(resolved)} resolved are hidden" if resolved else ""
        some = f"{shown:,} of {count(total)} shown" if total else "No dead letters"
        yield f"{some}{hidden}."
    if total:
        yield f"By error: {causes(tallies)}"


def totals(tallies: Iterable[DeadLetterCount]) -> tuple[int, int]:
    """Return how many are open and how many resolved."""
    rows = list(tallies)
    return (
        sum(row.jobs for row in rows if not row.resolved),
        sum(row.jobs for row in rows if row.resolved),
    )


def causes(tallies: Iterable[DeadLetterCount]) -> str:
    """Return the most frequent error codes: `TIMEOUT 14, BAD_PAYLOAD 2`."""
    rows = [row for row in tallies if not row.resolved]
    named = [f"{row.error_code or '(none)'} {count(row.jobs)}" for row in rows]
    more = [f"{len(named) - _CAUSES} more codes"] if len(named) > _CAUSES else []
    return ", ".join([*named[:_CAUSES], *more])


def batches(job_ids: Sequence[str], size: int) -> Iterator[list[str]]:
    """Yield the ids in lists of at most so many."""
    rest = iter(job_ids)
    while batch := list(islice(rest, size)):
        yield batch


def _full_ids(
    repository: Repository, given: Sequence[str], found: SelectedJobs
) -> Names:
    """Return full ids and what was given for each; what is no job's id has failed."""
    names: Names = {}
    for short in given:
        try:
            names.setdefault(repository.jobs.find_job(short), short)
        except (NotFound, UsageError) as error:
            found.failed[short] = error
    return names


def _looked_up(repository: Repository, job_ids: Sequence[str]) -> Iterator[LookedUpJob]:
    for batch in batches(job_ids, _LOOKED_UP):
        yield from repository.dead_letters.look_up_jobs(batch)


def _problem(
    job: LookedUpJob, verb: str, *, any_status: bool, by_flag: bool = True
) -> PgflowError | None:
    short = short_id(job.job_id)
    code = "NOT_REPLAYABLE" if verb == "replayed" else "NO_DEAD_LETTER"
    if job.state is None:
        return NotFound(f"there is no job {job.job_id}")
    if job.unreadable and verb == "replayed":
        return Refused(
            f"job …{short} cannot be replayed: its row is damaged and cannot be read",
            "Restore the row, or have its producer enqueue it again; then: "
            f"pgflow dlq discard {short}  (RUNBOOK: Jobs that cannot be read)",
            reason_code=code,
        )
    if job.state in ("open", "replayed", "discarded"):
        return None
    if job.state in ("succeeded", "canceled"):
        if any_status:
            return None
        can_insist = by_flag and verb == "replayed"
        insist = " (--any-status to insist)" if can_insist else ""
        return Refused(
            f"job …{short} has {_ended(job.state)}; only dead letters can be {verb}"
            f"{insist}",
            f"Try: pgflow explain {short}",
            reason_code=code,
        )
    return Refused(
        f"job …{short} is {job.state}; only dead letters can be {verb}",
        f"Try: pgflow explain {short}",
        reason_code=code,
    )


def _ended(state: str) -> str:
    return "been canceled" if state == "canceled" else state


def _done_before(job: LookedUpJob, *, again: bool) -> Done | None:
    if again or job.state not in ("replayed", "discarded", "succeeded", "canceled"):
        return None
    if job.replay_job_id is not None:
        by = job.replay_job_id
        return Done(f"it has been replayed by job {by}", by)
    return Done("it has been discarded") if job.state == "discarded" else None


FORMATS = ("jsonl", "csv")
_PAGE = 100  # payloads may be large
_NOT_ASCII = re.compile(r"[^ -~]")
_NAMES = tuple(field.name for field in fields(ExportedLetter))
_JSON = ("meta", "payload")  # these are JSON texts; they stand last

Write = Callable[[ExportedLetter], None]


def export(repository: Repository, chosen: JobFilter, *, form: str, target: str) -> int:
    """Write every open dead letter of a filter; return how many they are.

    `target` is a path, or `-` for stdout. Raises OutputFailed if it cannot be written;
    then there is no such file.
    """
    total = 0
    try:
        with _opened(target) as stream:
            write = _writer(form, stream)
            for letter in _letters(repository, chosen):
                write(letter)
                total += 1
            stream.flush()
    except OSError as error:
        if target == "-" and isinstance(error, BrokenPipeError):
            raise
        name = "stdout" if target == "-" else target
        raise OutputFailed(f"cannot write {name}: {error.strerror}") from None
    return total


def _letters(repository: Repository, chosen: JobFilter) -> Iterator[ExportedLetter]:
    after: Position | None = None
    while rows := repository.dead_letters.export_dead_letters(
        chosen, limit=_PAGE, after=after
    ):
        yield from rows
        after = rows[-1].position


def _writer(form: str, stream: TextIO) -> Write:
    if form == "jsonl":
        return lambda letter: _write_line(stream, letter)
    table = csv.writer(stream, lineterminator="\n")
    table.writerow([*_NAMES[:-2], "meta", "payload_json"])

    def write(letter: ExportedLetter) -> None:
        table.writerow([values.separated(getattr(letter, name)) for name in _NAMES])

    return write


def _write_line(stream: TextIO, letter: ExportedLetter) -> None:
    """Write an object; payload and meta as the database's own text, in ASCII.

    Decoded and encoded again, a number beyond float64 would be another one.
    """
    plain = {name: getattr(letter, name) for name in _NAMES if name not in _JSON}
    meta, payload = (_ascii(getattr(letter, name) or "null") for name in _JSON)
    head = values.json_of(plain).removesuffix("}")
    stream.write(f'{head}, "meta": {meta}, "payload_json": {payload}}}\n')


def _ascii(text: str) -> str:
    # Characters outside of ASCII stand in strings only, where an escape means the same.
    return _NOT_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text)


@contextmanager
def _opened(target: str) -> Iterator[TextIO]:
    """Hand out a stream; a file gets its name when all of it is on the disk."""
    if target == "-":
        yield sys.stdout
        return
    with output_files.opened(target) as file:
        stream = TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        yield stream
