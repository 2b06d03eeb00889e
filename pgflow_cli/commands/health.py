"""Say whether a worker, the database or the admin server is well; for probes."""

from __future__ import annotations

import click

from pgflow_cli.cli import settings
from pgflow_cli.cli.context import command, open_repository
from pgflow_cli.cli.output import messages
from pgflow_cli.cli.settings.types import Duration
from pgflow_cli.errors import CheckFailed, UsageError


@command("health")
@click.option("--ready", is_flag=True, help="Ask the database, and look at its schema.")
@click.option(
    "--worker",
    is_flag=False,
    flag_value="",
    metavar="[ID]",
    help="Look at a worker of this host, or the one of this name, by its status file.",
)
@click.option("--url", metavar="URL", help="Ask an HTTP health endpoint.")
@click.option(
    "--max-age",
    type=Duration(1, 86_400),
    default="60s",
    show_default=True,
    help="How long a worker may stand still.",
)
def health(ready: bool, worker: str | None, url: str | None, max_age: float) -> None:
    """Say whether a worker, the database or the admin server is well.

    Exit 0 if so, 5 if not, 69 if none answers. --worker asks no database; with
    --ready it wants the worker's own last heartbeat to have been answered, and fails
    when due jobs wait that the worker may run and it has leased nothing for three
    leases. A worker that an operator has made quiet is well, and said to be quiet.
    --worker without a name is satisfied by one that is well, and names the others of
    the last ten minutes.

    \b
    Examples:
      pgflow health --ready
      pgflow health --worker
      pgflow health --url http://localhost:3003/health
    """
    from pgflow_cli.inspection import health as health_probe

    if url is not None:
        if worker is not None or ready:
            raise UsageError("--url asks a server, and nothing else")
        messages.say(
            health_probe.check_url(url, timeout=settings.given("connect_timeout"))
        )
    elif worker is not None or not ready:
        places = settings.status_folders()
        said = health_probe.check_worker(
            places, worker or None, max_age=max_age, ready=ready
        )
        messages.say(said)
    else:
        _check_database()


def _check_database() -> None:
    from pgflow_cli.maintenance import migrations

    with open_repository(tries=1) as repository:
        migrations.require_current(repository)
        facts = repository.schema.inspect_server()
        if facts.in_recovery:
            raise CheckFailed(f'database "{facts.database}" is in recovery')
        messages.say(f"{facts.database}: ok")
