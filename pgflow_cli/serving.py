"""What `serve-admin`, `work` and `dev` are told of the admin server, as its plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pgflow_cli import output, settings
from pgflow_cli.errors import UsageError

if TYPE_CHECKING:
    from pgflow_cli.admin.plan import AdminPlan
    from pgflow_cli.repository import Database

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
    database: Database, address: tuple[str, int], options: Mapping[str, Any]
) -> AdminPlan:
    """Return the plan of an admin server; what it cannot be is refused."""
    from pgflow_cli.admin import plan, server  # noqa: PLC0415 - start-up stays quick

    own = {field: options[name] for name, field in _OWN.items() if name in options}
    if "base_path" in own:
        own["base_path"] = _base_path(own["base_path"])
    if "max_sse" in own:
        own["max_sse"] = min(own["max_sse"], own["threads"] // 2)
    made = plan.AdminPlan(
        url=database.url,
        host=address[0],
        port=address[1],
        api_tokens=tuple(settings.api_tokens()),
        metrics_tokens=tuple(settings.metrics_tokens()),
        insecure=options["insecure_no_token"],
        read_only=options["read_only"],
        allowed_hosts=options["allow_host"],
        connect_timeout=settings.given("connect_timeout"),
        max_payload_bytes=settings.max_payload_bytes.value(),
        max_enqueue_per_minute=settings.max_enqueue_per_minute.value(),
        log_format=settings.given("log_format"),
        log_level=settings.given("log_level"),
        **own,
    )
    server.require_safe(made)
    if made.insecure and made.is_open and not made.on_loopback:
        output.warn(
            f"whoever reaches {made.address} may do everything: no token is set"
        )
    return made


def probe_plan(database: Database, address: tuple[str, int]) -> AdminPlan:
    """Return the plan of a server that answers health probes and nothing else."""
    from pgflow_cli.admin import plan  # noqa: PLC0415 - start-up stays quick

    return plan.AdminPlan(
        url=database.url,
        host=address[0],
        port=address[1],
        threads=2,
        max_sse=0,
        access_log=False,
        connect_timeout=settings.given("connect_timeout"),
        probe_only=True,
        log_format=settings.given("log_format"),
        log_level=settings.given("log_level"),
    )


def _base_path(text: str) -> str:
    path = text.rstrip("/") or "/"
    if not _BASE_PATH.fullmatch(path):
        raise UsageError("--base-path is a path such as /pgflow")
    return path
