"""How many jobs of a type may run at once in this process, as its handler says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pgflow_cli.worker.execution.run import Run


def full(held: Sequence[Run]) -> set[str]:
    """Return the types of which as many run, or wait to, as may run at once."""
    of_type = Counter(run.leased.job_type for run in held)
    limits = {
        run.leased.job_type: run.handler.concurrency
        for run in held
        if run.handler.concurrency is not None
    }
    return {job_type for job_type, most in limits.items() if of_type[job_type] >= most}


def first_below(waiting: Iterable[Run], running: Sequence[Run]) -> Run | None:
    """Return the first job whose type may have one more, beside those that run."""
    of_type = Counter(run.leased.job_type for run in running)
    for run in waiting:
        most = run.handler.concurrency
        if most is None or of_type[run.leased.job_type] < most:
            return run
    return None
