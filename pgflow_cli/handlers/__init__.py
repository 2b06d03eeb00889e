"""Handlers: what an application declares, and how one job of it runs.

No database, no worker. A module imports only modules to its left, except `loading`,
which knows `examples` by name:

error_codes, exceptions, fingerprints, forks → payload_types → handler → outcomes → job
→ tasks, outcome_log, execution → app → examples, loading
"""

from pgflow_cli.handlers.app import App, declared_codes
from pgflow_cli.handlers.error_codes import BUILT_IN, ErrorCode
from pgflow_cli.handlers.exceptions import Fail, PayloadError, Retry, Snooze
from pgflow_cli.handlers.execution import run, run_async
from pgflow_cli.handlers.handler import UNKNOWN_TYPE as UNKNOWN
from pgflow_cli.handlers.handler import Handler
from pgflow_cli.handlers.job import Hooks, Job, JobFields, fields, prepare
from pgflow_cli.handlers.loading import load
from pgflow_cli.handlers.outcome_log import log_outcome
from pgflow_cli.handlers.outcomes import (
    CANCELED,
    EVENTS,
    Outcome,
    conclude,
    failed,
    refused,
    released,
    timed_out,
    told_apart,
)

__all__ = [
    "BUILT_IN",
    "CANCELED",
    "EVENTS",
    "UNKNOWN",
    "App",
    "ErrorCode",
    "Fail",
    "Handler",
    "Hooks",
    "Job",
    "JobFields",
    "Outcome",
    "PayloadError",
    "Retry",
    "Snooze",
    "conclude",
    "declared_codes",
    "failed",
    "fields",
    "load",
    "log_outcome",
    "prepare",
    "refused",
    "released",
    "run",
    "run_async",
    "timed_out",
    "told_apart",
]
