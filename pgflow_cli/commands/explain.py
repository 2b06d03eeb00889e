"""Explain why a job is where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pgflow_cli import output, portraits, settings
from pgflow_cli.context import command, pass_repository
from pgflow_cli.parameters import Kind

if TYPE_CHECKING:
    from pgflow_cli.repository import Repository
    from pgflow_cli.times import Instant

STORY = (
    output.Column("at", "TIME (UTC)", kind="time"),
    output.Column("after", kind="seconds"),
    output.Column("event"),
    output.Column("worker_id", "WORKER"),
    output.Column("took_ms", "TOOK", kind="ms"),
    output.Column("detail"),
)


class _HowMany(Kind):
    """A whole number, or `all`, which is given on as 0."""

    name = "N|all"
    expects = "a whole number from 1, or all"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if value == "all":
            return 0
        most = settings.Number(1, 1_000_000)
        return value if value == 0 else most.convert(value, param, ctx)


@command("explain")
@click.argument("job_id", metavar="ID", type=settings.JOB_ID)
@click.option("--timeline", is_flag=True, help="Only what happened to it, as rows.")
@click.option("--payload", is_flag=True, help="Its payload, too.")
@click.option(
    "--attempts",
    type=_HowMany(),
    default="3",
    show_default=True,
    help="How many attempts to show, or all.",
)
@click.option("--gates", is_flag=True, help="Every gate, not only the one that holds.")
@click.option("--exit-code", is_flag=True, help="Exit 5 if it is held up or dead.")
@click.option(
    "--since",
    type=settings.InstantType("past"),
    default="1d",
    show_default=True,
    help="How far back to look for the end of an id.",
)
@pass_repository
def explain(
    repository: Repository,
    job_id: str,
    timeline: bool,
    payload: bool,
    attempts: int,
    gates: bool,
    exit_code: bool,
    since: Instant,
) -> int:
    """Explain why a job is where it is.

    ID is a job's id, or the last six digits of it or more.

    \b
    Examples:
      pgflow explain 9c41e07b
      pgflow explain 9c41e07b --timeline --attempts all
      pgflow explain 9c41e07b -o json --exit-code
    """
    from pgflow_cli import explanation, migrations  # noqa: PLC0415 - start-up stays quick

    migrations.require_current(repository)
    found = repository.find_job(job_id, since=since)
    facts = repository.describe_job(found, attempts=attempts or None)
    explained = explanation.explain(facts)
    text = repository.read_payload(found) if payload else None
    if timeline:
        output.write(explained.story, STORY)
    else:
        portraits.show(explained, payload=text, gates=gates)
    return 5 if exit_code and not explained.in_order else 0
