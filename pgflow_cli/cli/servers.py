"""Admin servers and probe servers as `serve-admin` and `work` were told to run them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.cli import settings
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.database import api_tokens, metrics_tokens
from pgflow_cli.cli.settings.option import build
from pgflow_cli.errors import UsageError

if TYPE_CHECKING:
    from pgflow_cli.cli.settings.serve import ServingOptions
    from pgflow_cli.cli.settings.types import Endpoint
    from pgflow_cli.cli.settings.work import WorkOptions
    from pgflow_cli.repository import Database
    from pgflow_cli.worker.companion import Companion

log = logging.getLogger("pgflow.supervisor")

_BASE_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*)?", re.ASCII)


def admin_options(
    database: Database, address: Endpoint, serving: ServingOptions, *own: object
) -> AdminOptions:
    """Return the options of an admin server; `own` are those of `serve-admin`.

    Raises UsageError or ConfigurationError.
    """
    from pgflow_cli.admin import server

    made = build(
        AdminOptions,
        serving,
        *own,
        url=database.url,
        host=address.host,
        port=address.port,
        api_tokens=api_tokens(serving),
        metrics_tokens=metrics_tokens(serving),
        insecure=serving.insecure_no_token,
        allowed_hosts=serving.allow_host,
        production=common.production.value(),
        connect_timeout=settings.given("connect_timeout"),
        max_payload_bytes=common.max_payload_bytes.value(),
        max_enqueue_per_minute=common.max_enqueue_per_minute.value(),
        log_format=settings.given("log_format"),
        log_level=settings.given("log_level"),
    )
    made = replace(
        made,
        base_path=_base_path(made.base_path),
        max_sse=min(made.max_sse, made.threads // 2),
    )
    database.parameters()  # so a URL that cannot be read is refused at once
    server.require_safe(made)
    if made.insecure and made.is_open and not made.on_loopback:
        log.warning(
            "every client that reaches %s may do everything: no token is set",
            made.address,
            extra={"event": "no_token"},
        )
    return made


def probe_options(database: Database, address: Endpoint) -> AdminOptions:
    """Return the options of a server that answers health probes and nothing else."""
    return AdminOptions(
        url=database.url,
        host=address.host,
        port=address.port,
        threads=2,
        max_sse=0,
        access_log=False,
        connect_timeout=settings.given("connect_timeout"),
        probe_only=True,
        log_format=settings.given("log_format"),
        log_level=settings.given("log_level"),
    )


@contextmanager
def companion_servers(
    database: Database, worker_id: str, options: WorkOptions
) -> Iterator[list[Companion]]:
    """Run the servers that `work` was asked for in processes of their own, for as long
    as the block does.
    """
    from pgflow_cli.admin import server
    from pgflow_cli.worker.companion import Companion

    wanted = {}
    if options.admin is not None:
        wanted["admin server"] = admin_options(database, options.admin, options.serving)
    if options.probe is not None:
        wanted["probe server"] = probe_options(database, options.probe)
    bound = [server.listening(each) for each in wanted.values()]
    kept = [
        Companion(name, server.main, (replace(each, worker_id=worker_id), listens))
        for (name, each), listens in zip(wanted.items(), bound, strict=True)
    ]
    try:
        for each, listens in zip(kept, bound, strict=True):
            log.info(
                "the %s listens on http://%s",
                each.name,
                server.address_of(listens),
                extra={"event": "listening"},
            )
            each.start()
        yield kept
    finally:
        for each in kept:
            each.stop()
        for listens in bound:
            listens.close()


def _base_path(text: str) -> str:
    path = text.rstrip("/") or "/"
    # A browser takes dots out of a path.
    if not _BASE_PATH.fullmatch(path) or {".", ".."} & {*path.split("/")}:
        raise UsageError("--base-path is a path such as /pgflow")
    return path
