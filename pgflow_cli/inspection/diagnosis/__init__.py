"""`pgflow doctor`: asks a database its questions, judges the answers, reports them.

`patient` asks, `examination` runs the checks, `reports` words what they found. All
other modules are pure: facts in, findings out.
"""

from __future__ import annotations

from pgflow_cli.inspection.diagnosis.finding import FAIL, OK, WARN, Finding

__all__ = ["FAIL", "OK", "WARN", "Finding"]
