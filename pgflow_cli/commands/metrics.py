"""Print the metrics of every queue, for readers, programs and Prometheus."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli.context import command, pass_repository
from pgflow_cli.cli.filters import filter_options
from pgflow_cli.cli.output import messages, records
from pgflow_cli.cli.settings import common
from pgflow_cli.errors import UsageError

if TYPE_CHECKING:
    from pgflow_cli.models.selection import JobFilter
    from pgflow_cli.repository import Repository


@command("metrics")
@click.option("--prom", is_flag=True, help="In the text format of Prometheus.")
@click.option("--json", "as_json", is_flag=True, help="As GET /metrics answers.")
@filter_options("queues")
@common.list_options
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
    from pgflow_cli.cli.views import queues
    from pgflow_cli.inspection import prometheus
    from pgflow_cli.inspection import queues as queue_report

    if prom and (as_json or not chosen.is_empty):
        raise UsageError("--prom is for all queues, and in no other format")
    if prom:
        text = prometheus.text(prometheus.collect(repository))
        sys.stdout.write(text.decode())
        return
    taken = queue_report.take(repository, chosen)
    if taken.left_out:
        messages.hint(
            f"{len(taken.queues):,} of {taken.known:,} queues, those whose jobs wait"
            " longest. More: pgflow queues list"
        )
    if as_json or records.chosen_format() == "json":
        records.write_document(prometheus.document(taken))
    elif records.is_machine():
        records.write(prometheus.records(taken), queues.METRICS_RECORDS)
    else:
        records.write(taken.queues, queues.METRICS, now=taken.now)
