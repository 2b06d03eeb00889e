"""Serve the HTTP API, the page and the metrics."""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli import servers, settings, startup
from pgflow_cli.cli.context import command, pass_database
from pgflow_cli.cli.settings import report, serve
from pgflow_cli.cli.settings.option import OptionGroup, declared, option
from pgflow_cli.cli.settings.serve import ServingOptions
from pgflow_cli.cli.settings.types import Duration, Endpoint, Number, Size
from pgflow_cli.errors import ConfigurationError

if TYPE_CHECKING:
    from pgflow_cli.repository import Database

log = logging.getLogger("pgflow.admin")


@dataclass(frozen=True)
class ServeAdminOptions:
    """What `pgflow serve-admin` was told."""

    address: Endpoint | None = declared(serve.admin_address)
    serving: ServingOptions = declared(serve.SERVING)
    threads: int = option(
        "--threads",
        type=Number(2, 256),
        default=16,
        show_default=True,
        help="How many requests are answered at once.",
    )
    max_sse: int = option(
        "--max-sse",
        type=Number(0, 128),
        default=8,
        show_default=True,
        help="How many pages may listen for live updates, at most half the threads;"
        " others poll every 5s.",
    )
    metrics_cache: float = option(
        "--metrics-cache",
        type=Duration(0, 3600),
        default="5s",
        show_default=True,
        help="How old an answer to a scrape may be.",
    )
    base_path: str = option(
        "--base-path",
        default="/",
        show_default=True,
        metavar="PATH",
        help="The path under which a gateway serves it.",
    )
    proxy_hops: int = option(
        "--proxy-hops",
        type=Number(0, 10),
        default=0,
        show_default=True,
        help="How many proxies in front set X-Forwarded-For, -Proto and -Host.",
    )
    max_body: int = option(
        "--max-body",
        type=Size(1024, 67_108_864),
        default="1MiB",
        show_default=True,
        help="The largest request body.",
    )
    access_log: bool = option(
        "--access-log/--no-access-log",
        default=True,
        show_default=True,
        help="Whether to log each request.",
    )
    browse: bool = option(
        "--open", "browse", is_flag=True, help="Open the page in a browser."
    )


@command("serve-admin")
@OptionGroup(ServeAdminOptions)
@pass_database
def serve_admin(database: Database, options: ServeAdminOptions) -> None:
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

    if options.address is None:
        raise ConfigurationError(
            "there is nowhere to listen: the address is off",
            "Set PGFLOW_ADMIN_ADDR to HOST:PORT, or try: --addr 127.0.0.1:3003",
        )
    logs.set_up(settings.given("log_format"), settings.given("log_level"))
    logs.say_settings(report.in_force())
    wanted = servers.admin_options(database, options.address, options.serving, options)
    bound = server.listening(wanted)
    url = f"http://{server.address_of(bound)}{wanted.base_path}"
    log.info("serving %s", url, extra={"event": "listening"})
    if options.browse:
        click.launch(url)
    asked = threading.Event()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            startup.act_on(getattr(signal, name), lambda *_: asked.set())
    server.run(wanted, bound, ended=asked.is_set)
