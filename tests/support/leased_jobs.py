"""Jobs as a worker receives them, for tests without a database."""

from __future__ import annotations

import json
from typing import Any

from pgflow_cli.models.jobs import LeasedJob

_PLAIN = LeasedJob(
    lease_id="5c1d7f52-31a8-4b7e-9a54-0f7f4e2f6a10",
    job_id="019ab3c2-7d0e-7c11-8a2b-9f0e9c41e07b",
    queue="default",
    rank=0,
    run_at="2026-11-23 15:20:41.123456",
    attempt_no=1,
    job_type="try",
    payload="{}",
    max_attempts=25,
    timeout_ms=None,
    meta=None,
    replay_of_job_id=None,
    failed_attempts=0,
    lost_attempts=0,
)


def leased(value: Any = None, **changes: Any) -> LeasedJob:
    """Return a leased job; `value` is its payload, `changes` are fields of the row."""
    payload = {} if value is None else {"payload": json.dumps(value)}
    return _PLAIN._replace(**{**payload, **changes})
