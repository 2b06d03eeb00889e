"""Print the metrics of every queue, for persons, programs and Prometheus."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pgflow_cli import output, settings
from pgflow_cli.context import command, pass_repository
from pgflow_cli.errors import UsageError
from pgflow_cli.filters import filter_options

if TYPE_CHECKING:
    from pgflow_cli.models.selection import JobFilter
    from pgflow_cli.repository import Repository


@command("metrics")
@click.option("--prom", is_flag=True, help="In the text format of Prometheus.")
@click.option("--json", "as_json", is_flag=True, help="As GET /metrics answers.")
@filter_options("queues")
@settings.list_options
@pass_repository
def metrics(
    repository: Repository, prom: bool, as_json: bool, chosen: JobFilter
) -> None:
    """Print depth, rates and times of each queue; rates are of the last minute.

    --prom prints everything there is, of all queues.

    \b
    Examples:
      pgflow metrics
      pgflow metrics --json -q emails
      pgflow metrics --prom > /var/lib/node_exporter/pgflow.prom
    """
    from pgflow_cli import census, queue_tables
    from pgflow_cli import metrics as measured

    if prom and (as_json or not chosen.is_empty):
        raise UsageError("--prom is for all queues, and in no other format")
    if prom:
        text = measured.text(measured.collect(repository))
        sys.stdout.write(text.decode())
        return
    taken = census.take(repository, chosen)
    if taken.left_out:
        output.hint(
            f"{len(taken.queues):,} of {taken.known:,} queues, those whose jobs wait"
            " longest. More: pgflow queues list"
        )
    if as_json or output.chosen_format() == "json":
        output.write_document(measured.document(taken))
    elif output.is_machine():
        output.write(measured.records(taken), queue_tables.METRICS_RECORDS)
    else:
        output.write(taken.queues, queue_tables.METRICS, now=taken.now)
