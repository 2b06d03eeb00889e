"""`pgflow maintain`: passes of maintenance tasks; one pass at a time in a database."""

from __future__ import annotations

from pgflow_cli.maintenance.run import MaintenancePlan, Pass, run_forever

__all__ = ["MaintenancePlan", "Pass", "run_forever"]
