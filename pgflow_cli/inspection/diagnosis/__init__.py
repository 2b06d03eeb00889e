"""`pgflow doctor`: asks a database its questions, judges the answers, reports them.

`doctor` asks, `checks` runs the checks, `report` prints what they found. All other
modules are pure: each takes values and returns findings.
"""

from __future__ import annotations

from pgflow_cli.inspection.diagnosis.finding import FAIL, OK, WARN, Finding

__all__ = ["FAIL", "OK", "WARN", "Finding"]
