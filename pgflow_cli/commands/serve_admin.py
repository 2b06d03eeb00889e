"""Serve the HTTP API, the page and the metrics."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING, Any

import click

from pgflow_cli.cli import servers, settings
from pgflow_cli.cli.context import command, pass_database
from pgflow_cli.cli.settings import report, serve
from pgflow_cli.cli.settings.types import Duration, Number, Size
from pgflow_cli.errors import ConfigurationError

if TYPE_CHECKING:
    from pgflow_cli.repository import Database

log = logging.getLogger("pgflow.admin")


@command("serve-admin")
@serve.admin_address
@serve.serving_options
@click.option(
    "--threads",
    type=Number(2, 256),
    default=16,
    show_default=True,
    help="How many requests are answered at once.",
)
@click.option(
    "--max-sse",
    type=Number(0, 128),
    default=8,
    show_default=True,
    help="How many pages may listen for live updates, at most half the threads;"
    " others poll every 5s.",
)
@click.option(
    "--metrics-cache",
    type=Duration(0, 3600),
    default="5s",
    show_default=True,
    help="How old an answer to a scrape may be.",
)
@click.option(
    "--base-path",
    default="/",
    show_default=True,
    metavar="PATH",
    help="The path under which a gateway serves it.",
)
@click.option(
    "--proxy-hops",
    type=Number(0, 10),
    default=0,
    show_default=True,
    help="How many proxies in front set X-Forwarded-For, -Proto and -Host.",
)
@click.option(
    "--max-body",
    type=Size(1024, 67_108_864),
    default="1MiB",
    show_default=True,
    help="The largest request body.",
)
@click.option(
    "--access-log/--no-access-log",
    default=True,
    show_default=True,
    help="Whether to log each request.",
)
@click.option("--open", "browse", is_flag=True, help="Open the page in a browser.")
@pass_database
def serve_admin(database: Database, **options: Any) -> None:
    """Serve the HTTP API, the operators' page and the metrics, until told to stop.

    It listens on this host only, unless told otherwise; beyond it, clients need a
    token. GET /openapi.json describes the API.

    \b
    Examples:
      pgflow serve-admin --open
      pgflow serve-admin --addr 0.0.0.0:3003 --api-token-file /run/secrets/token
    """
    from pgflow_cli.admin import server
    from pgflow_cli.telemetry import logs

    address = options["address"]
    if address is None:
        raise ConfigurationError(
            "there is nowhere to listen: the address is off",
            "Set PGFLOW_ADMIN_ADDR to HOST:PORT, or try: --addr 127.0.0.1:3003",
        )
    logs.set_up(settings.given("log_format"), settings.given("log_level"))
    logs.say_settings(report.in_force(options))
    plan = servers.admin_plan(database, address, options)
    bound = server.listening(plan)
    url = f"http://{server.address_of(bound)}{plan.base_path}"
    log.info("serving %s", url, extra={"event": "listening"})
    if options["browse"]:
        click.launch(url)
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    server.run(plan, bound, ended=asked.is_set)
