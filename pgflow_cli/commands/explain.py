"""Explain why a job is where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgflow_cli.cli.context import command, pass_repository
from pgflow_cli.cli.views import job

if TYPE_CHECKING:
    from pgflow_cli.repository import Repository


@command("explain")
@job.explain_options
@click.option("--timeline", is_flag=True, help="Only what happened to it, as rows.")
@click.option("--gates", is_flag=True, help="Every gate, not only the one that holds.")
@pass_repository
def explain(
    repository: Repository, options: job.ExplainOptions, timeline: bool, gates: bool
) -> int:
    """Explain why a job is where it is.

    ID is a job's id, or the last six digits of it or more. A job that has not ended is
    held up by the first of the gates that a worker's lease asks.

    \b
    Examples:
      pgflow explain 9c41e07b
      pgflow explain 9c41e07b --gates
      pgflow explain 9c41e07b --watch
      pgflow explain 9c41e07b -o json --exit-code
      pgflow explain 9c41e07b --bundle incident.json
    """
    return job.answer(repository, options, timeline=timeline, gates=gates)
