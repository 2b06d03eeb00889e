"""pgflow: a PostgreSQL job queue that is operated from a terminal.

    from pgflow_cli import App, Fail, Retry, Snooze, enqueue, enqueue_many

Nothing is loaded before it is asked for: `pgflow --help` needs no database driver.
"""

from __future__ import annotations

from importlib import import_module

# Not typing's: the program loads this before it can hold a signal.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pgflow_cli.errors import (
        Blocked,
        ConnectionUnfit,
        Contention,
        DatabaseUnavailable,
        DataDamaged,
        OutcomeUnknown,
        OutOfRange,
        PermissionDenied,
        PgflowError,
        Refused,
        SchemaMissing,
        StatementFailed,
        TooSlow,
        UsageError,
    )
    from pgflow_cli.handlers import App, Fail, Job, Retry, Snooze
    from pgflow_cli.operations.enqueue import (
        enqueue,
        enqueue_many,
        new_job_id,
        record_refusal,
    )

_HOMES = {
    "App": "handlers",
    "Blocked": "errors",
    "ConnectionUnfit": "errors",
    "Contention": "errors",
    "DataDamaged": "errors",
    "DatabaseUnavailable": "errors",
    "Fail": "handlers",
    "Job": "handlers",
    "OutOfRange": "errors",
    "OutcomeUnknown": "errors",
    "PermissionDenied": "errors",
    "PgflowError": "errors",
    "Refused": "errors",
    "Retry": "handlers",
    "SchemaMissing": "errors",
    "Snooze": "handlers",
    "StatementFailed": "errors",
    "TooSlow": "errors",
    "UsageError": "errors",
    "enqueue": "operations.enqueue",
    "enqueue_many": "operations.enqueue",
    "new_job_id": "operations.enqueue",
    "record_refusal": "operations.enqueue",
}

__all__ = [
    "App",
    "Blocked",
    "ConnectionUnfit",
    "Contention",
    "DataDamaged",
    "DatabaseUnavailable",
    "Fail",
    "Job",
    "OutOfRange",
    "OutcomeUnknown",
    "PermissionDenied",
    "PgflowError",
    "Refused",
    "Retry",
    "SchemaMissing",
    "Snooze",
    "StatementFailed",
    "TooSlow",
    "UsageError",
    "enqueue",
    "enqueue_many",
    "new_job_id",
    "record_refusal",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
