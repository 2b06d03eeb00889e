"""Tell what happened to a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgflow_cli.cli.context import command, pass_repository
from pgflow_cli.cli.views import job

if TYPE_CHECKING:
    from pgflow_cli.repository import Repository


@command("timeline")
@job.explain_options
@pass_repository
def timeline(repository: Repository, options: job.ExplainOptions) -> int:
    """Tell what happened to a job, as rows.

    Its attempts, what held its queue back while it waited, and what operators did to it
    or to its queue. It is `pgflow explain ID --timeline`.

    \b
    Examples:
      pgflow timeline 9c41e07b
      pgflow timeline 9c41e07b --attempts all -o md
    """
    return job.answer(repository, options, timeline=True)
