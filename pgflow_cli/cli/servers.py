"""Turns the options of `serve-admin`, `work` and `dev` into admin servers' plans."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pgflow_cli.cli import settings
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.database import api_tokens, metrics_tokens
from pgflow_cli.errors import UsageError

if TYPE_CHECKING:
    from pgflow_cli.admin.options import AdminOptions
    from pgflow_cli.cli.settings.types import Endpoint
    from pgflow_cli.repository import Database
    from pgflow_cli.worker.companion import Companion

log = logging.getLogger("pgflow.supervisor")

_BASE_PATH = re.compile(r"/(?:[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*)?", re.ASCII)
# Options that only `serve-admin` has, by the field of the plan.
_OWN = {
    "threads": "threads",
    "max_sse": "max_sse",
    "metrics_cache": "metrics_cache",
    "base_path": "base_path",
    "proxy_hops": "proxy_hops",
    "max_body": "max_body",
    "access_log": "access_log",
}


def admin_plan(
    database: Database, address: Endpoint, options: Mapping[str, Any]
) -> AdminOptions:
    """Return the plan of an admin server; raises UsageError or ConfigurationError."""
    from pgflow_cli.admin import options as plan
    from pgflow_cli.admin import server

    own = {field: options[name] for name, field in _OWN.items() if name in options}
    if "base_path" in own:
        own["base_path"] = _base_path(own["base_path"])
    if "max_sse" in own:
        own["max_sse"] = min(own["max_sse"], own["threads"] // 2)
    made = plan.AdminOptions(
        url=database.url,
        host=address.host,
        port=address.port,
        api_tokens=tuple(api_tokens()),
        metrics_tokens=tuple(metrics_tokens()),
        insecure=options["insecure_no_token"],
        read_only=options["read_only"],
        allowed_hosts=options["allow_host"],
        production=common.production.value(),
        connect_timeout=settings.given("connect_timeout"),
        max_payload_bytes=common.max_payload_bytes.value(),
        max_enqueue_per_minute=common.max_enqueue_per_minute.value(),
        log_format=settings.given("log_format"),
        log_level=settings.given("log_level"),
        **own,
    )
    database.parameters()  # so a URL that cannot be read is refused at once
    server.require_safe(made)
    if made.insecure and made.is_open and not made.on_loopback:
        log.warning(
            "whoever reaches %s may do everything: no token is set",
            made.address,
            extra={"event": "no_token"},
        )
    return made


def probe_plan(database: Database, address: Endpoint) -> AdminOptions:
    """Return the plan of a server that answers health probes and nothing else."""
    from pgflow_cli.admin import options as plan

    return plan.AdminOptions(
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
def beside(
    database: Database, worker_id: str, options: Mapping[str, Any]
) -> Iterator[list[Companion]]:
    """Run the servers that `work` was asked for in processes of their own, for as long
    as the block does.
    """
    from pgflow_cli.admin import server
    from pgflow_cli.admin import server as admin_server
    from pgflow_cli.worker import companion as companions

    plans = {}
    if options["admin"] is not None:
        plans["admin server"] = admin_plan(database, options["admin"], options)
    if options["probe"] is not None:
        plans["probe server"] = probe_plan(database, options["probe"])
    bound = [server.listening(plan) for plan in plans.values()]
    kept = [
        companions.Companion(
            name, admin_server.main, (replace(plan, worker_id=worker_id), listens)
        )
        for (name, plan), listens in zip(plans.items(), bound, strict=True)
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
