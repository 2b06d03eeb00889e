"""The admin server as a process beside a worker."""

from __future__ import annotations

import socket
from typing import Protocol

from pgflow_cli.admin import server
from pgflow_cli.admin.plan import AdminPlan
from pgflow_cli.telemetry import logs


class Tie(Protocol):
    """What is known of the supervisor."""

    def turned_at(self) -> float:
        """Return when its loop last turned."""
        ...

    def is_cut(self) -> bool:
        """Whether it wants us to end."""
        ...


def main(plan: AdminPlan, bound: socket.socket, tie: Tie) -> None:
    """Serve until the tie is cut."""
    logs.set_up(plan.log_format, plan.log_level, worker_id=plan.worker_id)
    server.run(plan, bound, beat=tie.turned_at, ended=tie.is_cut)
