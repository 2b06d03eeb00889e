"""What facts about a database mean: pure, facts in, findings out."""

from __future__ import annotations

from pgflow_cli.diagnosis.findings import FAIL, OK, WARN, Finding

__all__ = ["FAIL", "OK", "WARN", "Finding"]
