"""`pgflow maintain`: passes of upkeep, one at a time in a database, task after task."""

from __future__ import annotations

from pgflow_cli.maintenance.run import MaintenancePlan, Pass, run_forever

__all__ = ["MaintenancePlan", "Pass", "run_forever"]
