"""Tell what happened to a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgflow_cli import inquiry
from pgflow_cli.context import command, pass_repository

if TYPE_CHECKING:
    from pgflow_cli.repository import Repository


@command("timeline")
@inquiry.question
@pass_repository
def timeline(repository: Repository, asked: inquiry.Question) -> int:
    """Tell what happened to a job, as rows.

    Its attempts, what held its queue back while it waited, and what operators did to it
    or to its queue. It is `pgflow explain ID --timeline`.

    \b
    Examples:
      pgflow timeline 9c41e07b
      pgflow timeline 9c41e07b --attempts all -o md
    """
    return inquiry.answer(repository, asked, timeline=True)
