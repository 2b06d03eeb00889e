"""Every shared flag, variable, default and help text, once.

A flag's variable is derived from it (`--lease-seconds` → `PGFLOW_LEASE_SECONDS`) unless
the operators' documents name another. Stack a setting on a command as a decorator; one
without a flag is asked for its `value()`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pgflow_cli.cli.settings import common, serve, work
from pgflow_cli.cli.settings.option import Session
from pgflow_cli.errors import UsageError

ALL = (
    *common.GLOBAL,
    common.queue_name,
    common.sort,
    common.columns,
    common.no_headers,
    common.actor,
    common.pg_bin,
    *work.WORK.settings,
    *work.MAINTAIN,
    serve.admin_address,
    *common.VARIABLE_ONLY,
)
VARIABLES = frozenset(setting.variable for setting in ALL if setting.variable)


def given(name: str) -> Any:
    """Return a global option as it is in force, such as `given("timeout")`."""
    return Session.current().given.get(name)


def heartbeat_seconds(lease: int, wanted: float | None) -> float:
    """Return how often to renew leases; more than a third of the lease is refused."""
    if wanted is not None and wanted > lease / 3:
        raise UsageError(
            f"--heartbeat is longer than a third of the lease ({lease}s)",
            "A worker that misses one heartbeat would lose its jobs.",
        )
    return lease / 3 if wanted is None else wanted


def status_folders() -> list[Path]:
    """Return where workers of this user write their status, the first choice first."""
    from pgflow_cli.telemetry import status_files

    return status_files.folders(os.environ.get("XDG_STATE_HOME"))


def trace_context() -> dict[str, str | None]:
    """Return the caller's trace context: no settings of ours, but a convention."""
    names = ("traceparent", "tracestate")
    return {name: os.environ.get(name.upper()) for name in names}


def notify_socket() -> str | None:
    """Return where systemd wants to hear of a service; no setting of ours either."""
    return os.environ.get("NOTIFY_SOCKET") or None


def watchdog_seconds() -> float:
    """Return how long systemd lets this very process be silent; 0: for ever."""
    micros = os.environ.get("WATCHDOG_USEC", "")
    meant = os.environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
    return int(micros) / 1e6 if meant and micros.isdecimal() else 0.0
