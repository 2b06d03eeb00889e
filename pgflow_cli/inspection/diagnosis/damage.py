"""Finds what the server cannot read, and says what mends it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pgflow_cli.errors import DataDamaged, TryLater
from pgflow_cli.formats import safe_text
from pgflow_cli.formats.words import plural
from pgflow_cli.inspection.diagnosis.finding import Finding, fail, ok, warn
from pgflow_cli.repository import Repository

CHECK = "jobs.unreadable"
_BLOCKS = 128  # of a table, read at once: one damaged block in each is found
_MOST_TOLD = 20
_SECTION = "RUNBOOK, Pages that are damaged"


def found(check: str, error: DataDamaged) -> Finding:
    """Return the damage that stopped a check as a finding, with its repair."""
    told = safe_text.redact(error.message)
    if error.is_index:
        # Without loss: all that it holds stands in its table, too.
        again = "then, for what lies behind it: pgflow doctor --check unreadable"
        return fail(check, told, sql=error.repair, command=again)
    look = "" if check == CHECK else "pgflow doctor --check unreadable  |  "
    return fail(check, told, command=f"{look}{_SECTION}")


def everything(repository: Repository, seconds: float) -> Iterator[Finding]:
    """Read every table and every index, for so long at most; yield what is damaged.

    Raises `DataDamaged` if not even the catalogs say what there is to be read.
    """
    deadline = time.monotonic() + seconds
    parts = repository.diagnosis.plan_reading(blocks=_BLOCKS)
    told: set[str] = set()
    for place, part in enumerate(parts):
        try:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TryLater(f"not done within {seconds:g}s")
            repository.diagnosis.read(part, seconds=left)
        except DataDamaged as error:
            if error.message not in told:
                yield found(CHECK, error)
            told.add(error.message)
        except TryLater as error:
            yield _cut(f"{error}: {place:,} of {len(parts):,} parts were read")
            return
        if len(told) == _MOST_TOLD:
            yield _cut(f"{len(told)} told, and there may be more")
            return
    if not told:
        indexes = {part.name for part in parts if part.is_index}
        tables = {part.name for part in parts} - indexes
        yield ok(
            CHECK,
            f"none: {plural(len(tables), 'table')} and "
            f"{plural(len(indexes), 'index', 'indexes')} were read from end to end",
        )


def _cut(why: str) -> Finding:
    return warn(
        CHECK,
        f"not everything was looked at: {why}",
        command="pgflow doctor --check unreadable --timeout 30m",
    )
