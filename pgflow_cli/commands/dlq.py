"""Look at dead letters, export them, discard them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgflow_cli.cli import changes
from pgflow_cli.cli.changes import Change, change_options
from pgflow_cli.cli.context import group, pass_repository
from pgflow_cli.cli.filters import (
    DEAD_LETTERS,
    filter_options,
    page_options,
    watch_option,
)
from pgflow_cli.cli.output import live, messages, records, terminal
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.types import JOB_ID, Choice, Duration, Number
from pgflow_cli.cli.views import dead_letters as dead_letter_views
from pgflow_cli.cli.views import job
from pgflow_cli.errors import UsageError
from pgflow_cli.formats.words import short_id
from pgflow_cli.models.dead_letters import KEYS
from pgflow_cli.models.selection import JobFilter, Page, Position, token

if TYPE_CHECKING:
    from pgflow_cli.models.dead_letters import DeadLetter, DeadLetterGroup
    from pgflow_cli.repository import Repository

_MOST_ROWS = 10_000  # of groups and counts, which have no pages


@group("dlq")
def dlq() -> None:
    """Look at dead letters, export them, discard them.

    A dead letter is a job that will not run again by itself. One that was replayed or
    discarded is resolved, and out of these lists.

    \b
    Examples:
      pgflow dlq list --since 2h --group
      pgflow dlq show 9c41e07b
      pgflow dlq list --error-code BAD_PAYLOAD -o ids | pgflow replay - --dry-run
    """


@dlq.command("list")
@filter_options(*DEAD_LETTERS)
@click.option(
    "--group",
    "by",
    type=Choice(KEYS),
    is_flag=False,
    flag_value=KEYS[0],
    metavar="[KEY]",
    help=f"One row for what they have in common: {', '.join(KEYS)}.",
)
@click.option("--include-resolved", is_flag=True, help="The resolved ones, too.")
@click.option("--exit-code", is_flag=True, help="Exit 5 if there are any.")
@page_options
@watch_option
@pass_repository
def list_(
    repository: Repository,
    chosen: JobFilter,
    by: str | None,
    include_resolved: bool,
    exit_code: bool,
    page: Page,
    watch: float | None,
) -> int:
    """List dead letters, the latest death first.

    \b
    Examples:
      pgflow dlq list --since 2h
      pgflow dlq list -q 'emails.*' --match refused --all-pages -o jsonl
      pgflow dlq list --since 1d --group code-version
    """

    chosen = repository.queues.resolve_queues(chosen)

    def fetch(limit: int, after: Position | None) -> list[DeadLetter]:
        return repository.dead_letters.list_dead_letters(
            chosen, limit=limit, after=after, include_resolved=include_resolved
        )

    def fetch_groups() -> list[DeadLetterGroup]:
        limit = _MOST_ROWS if page.everything else page.limit
        return repository.dead_letters.group_dead_letters(
            chosen, by=by or "", limit=limit, include_resolved=include_resolved
        )

    if by is not None and page.after is not None:
        raise UsageError("--group has no pages; --all-pages shows every group")
    columns = dead_letter_views.groups(by) if by else dead_letter_views.dead_letters()
    if watch is not None:
        live.watch(
            fetch_groups if by else lambda: fetch(page.limit, page.after),
            columns,
            seconds=watch,
            title="pgflow dlq list",
        )
        return 0
    if by is not None:
        groups = fetch_groups()
        records.write(groups, columns)
        if groups and by == KEYS[0] and not records.is_machine():
            messages.hint(
                f"Next: pgflow dlq show {short_id(groups[0].sample_job_id)}  |  "
                f"pgflow replay --fingerprint {groups[0].key} --dry-run"
            )
        return 5 if exit_code and groups else 0
    rows, cursor = page.read(fetch, lambda dead_letter: dead_letter.position)
    records.write(rows, columns, cursor=cursor)
    if not page.everything:
        shown = list(rows)
        _footer(repository, chosen, shown, cursor, include_resolved=include_resolved)
    return 5 if exit_code and fetch(1, None) else 0


@dlq.command("show")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@click.option(
    "--attempts",
    type=Number(1, 1_000_000),
    default=3,
    show_default=True,
    help="How many attempts to show.",
)
@pass_repository
def show(repository: Repository, job_id: str, attempts: int) -> None:
    """Explain a dead letter and show its payload.

    ID is a job's id, or the last six digits of it or more.

    \b
    Examples:
      pgflow dlq show 9c41e07b
      pgflow dlq show 9c41e07b -o json
    """
    from pgflow_cli.inspection import explanation
    from pgflow_cli.operations import dead_letters

    found = dead_letters.require(repository, job_id)
    explained = explanation.explain(
        repository.explanation.describe_job(found, attempts=attempts)
    )
    job.show(explained, payload=repository.jobs.read_payload(found))


@dlq.command("stats")
@filter_options(*DEAD_LETTERS)
@click.option(
    "--by",
    type=Choice(KEYS),
    default=KEYS[0],
    show_default=True,
    metavar="KEY",
    help=f"What to count by: {', '.join(KEYS)}.",
)
@click.option(
    "--bucket",
    type=Duration(1, 31_536_000),
    default="5m",
    show_default=True,
    help="How much time a row is about.",
)
@common.list_options
@pass_repository
def stats(repository: Repository, chosen: JobFilter, by: str, bucket: float) -> None:
    """Count dead letters by when they died and what they have in common.

    \b
    Examples:
      pgflow dlq stats --since 2h --by error-code
      pgflow dlq stats -q emails --by reason --bucket 1h -o csv
    """

    chosen = repository.queues.resolve_queues(chosen)
    rows = repository.dead_letters.count_deaths(
        chosen, by=by, bucket=bucket, limit=_MOST_ROWS
    )
    records.write(rows, dead_letter_views.COUNTS)
    if len(rows) == _MOST_ROWS:
        messages.warn(f"only the latest {_MOST_ROWS:,} rows; try a larger --bucket")


@dlq.command("export")
@filter_options(*DEAD_LETTERS)
@click.option(
    "--format",
    "form",
    type=Choice(("jsonl", "csv")),
    default="jsonl",
    show_default=True,
    help="An object on each line, or rows for a spreadsheet.",
)
@click.argument("target", metavar="[FILE|-]", default="-")
@pass_repository
def export(repository: Repository, chosen: JobFilter, form: str, target: str) -> None:
    """Write dead letters with their payloads to a file, or to stdout.

    The file appears when all of it is written, readable by you only. Cells that a
    spreadsheet would take for formulas begin with an apostrophe.

    \b
    Examples:
      pgflow dlq export --since 2h dead.jsonl
      pgflow dlq export -q billing --format csv - | head
    """
    from pgflow_cli.operations import dead_letters as dead_letter_operations

    chosen = repository.queues.resolve_queues(chosen)
    total = dead_letter_operations.export(repository, chosen, form=form, target=target)
    messages.say(f"exported {total:,} dead letters")


@dlq.command("discard")
@click.argument("ids", metavar="[ID]...", nargs=-1, type=JOB_ID)
@filter_options(*DEAD_LETTERS)
@click.option(
    "--to-archive/--delete",
    "keep",
    default=True,
    show_default=True,
    help="Resolve them, to stay until their retention ends; or remove them, their"
    " jobs and attempts for good.",
)
@change_options(bulk=True)
@pass_repository
def discard(
    repository: Repository,
    ids: tuple[str, ...],
    chosen: JobFilter,
    keep: bool,
    change: Change,
) -> int:
    """Give up dead letters that will never be right.

    ID is a job's id or the end of it; - reads ids from stdin, @FILE from a file.

    \b
    Examples:
      pgflow dlq discard 9c41e07b --note "no such customer"
      pgflow dlq discard --fingerprint f1-3ac91b20 --dry-run
      pgflow dlq list -t gives_up -o ids | pgflow dlq discard - --yes
    """
    from pgflow_cli.operations import dead_letters

    change.require_selection(ids, chosen)
    if ids:
        given = changes.read_ids(ids)
        found = dead_letters.look_up(repository, given, verb="discarded")
        dead_letters.require_the_one(ids, found)
    else:
        found = dead_letters.choose(repository, chosen)
    count = len(found.job_ids)
    change.require_at_most(count)
    for line in found.complaints():
        messages.warn(line)
    verb = "Discard" if keep else "Delete for good"
    if change.dry_run:
        changes.tell_dry_run([f"Would {verb.lower()} {count:,} dead letters"])
        return 0
    if count:
        change.confirm(f"{verb} {count:,} dead letters", count=count)
    done, action = 0, None
    if count:
        with terminal.progress(verb.lower(), total=count) as advance:
            action, done = dead_letters.discard(
                repository,
                found.job_ids,
                change.operator,
                batch_size=change.batch_size,
                forever=not keep,
                advance=advance,
            )
    changes.tell_tally(
        {
            "discarded" if keep else "deleted": done,
            "skipped": len(found.skipped) + count - done,
            "failed": len(found.failed),
        },
        {"action": action},
    )
    return int(bool(found.failed))


def _footer(
    repository: Repository,
    chosen: JobFilter,
    shown: list[DeadLetter],
    cursor: Position | None,
    *,
    include_resolved: bool,
) -> None:
    from pgflow_cli.operations import dead_letters

    next_page = f" Next page: --cursor {token(cursor)}" if cursor else ""
    if records.is_machine():
        if cursor:
            messages.hint(f"{len(shown):,} shown, there are more.{next_page}")
        return
    counted, *causes = dead_letters.footer(
        repository, chosen, len(shown), include_resolved=include_resolved
    )
    for line in (counted + next_page, *causes):
        messages.hint(line)
    if shown:
        again = changes.command_line()
        messages.hint(f"Next: pgflow explain {shown[0].short_id}  |  {again} --group")
