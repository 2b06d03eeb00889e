"""Reasons why live worker processes lease nothing; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pgflow_cli.formats import times
from pgflow_cli.models.workers import WorkerProcess

_NAMED = 3  # workers that a sentence names


STATES: dict[str, Callable[[WorkerProcess], bool]] = {
    "silent": lambda worker: not worker.alive,
    "starting": lambda worker: worker.deaths == 0,
    "restarting": lambda worker: worker.deaths is not None,
    "spare": lambda worker: worker.spare,
    "retiring": lambda worker: worker.retiring,
    "quiet": lambda worker: worker.quiet,
    "stalled": lambda worker: worker.stalled_for is not None,
    "leasing": lambda _: True,
}
"""States of a process that leases nothing; the first that applies counts."""


def state_of(worker: WorkerProcess) -> str:
    """Return the state of a process."""
    return next(word for word, holds in STATES.items() if holds(worker))


def of_worker(worker: WorkerProcess) -> str | None:
    """Return a sentence why a live process leases nothing. None if it leases, or is the
    spare process of one that does.
    """
    if worker.deaths == 0:
        return (
            f"{worker.name} is starting: it loads its handlers (pid {worker.pid} on "
            f"{worker.host} is its supervisor); if that does not end, an import hangs"
        )
    if worker.deaths is not None:
        died = "1 process" if worker.deaths == 1 else f"{worker.deaths} processes"
        return (
            f"{worker.name} is restarting: {died} of it ended at once or could not be "
            f"started, and its supervisor, pid {worker.pid} on {worker.host}, tries "
            "again within 30s; read its log (process_died, process_not_started)"
        )
    if worker.retiring:
        return (
            f"{worker.name} is retiring: a handler outran its end, and the process "
            f"that replaces it leases ({worker.busy_slots} of {worker.slots} slots "
            "still busy)"
        )
    if worker.quiet:
        return (
            f"{worker.name} is quiet: an operator or a signal said so "
            f"(pgflow workers resume {worker.name})"
        )
    if worker.stalled_for is not None:
        return (
            f"{worker.name} is stalled: it has leased nothing for "
            f"{times.format_duration(worker.stalled_for)} with slots free "
            f"({worker.busy_slots} of {worker.slots} busy); read its log, restart it"
        )
    return None


def of_queue(workers: Sequence[WorkerProcess], queue: str) -> list[str]:
    """Return the reasons why live processes of a queue lease nothing."""
    said = [said for each in _known(workers, queue) if (said := of_worker(each))]
    more = len(said) - _NAMED
    return said[:_NAMED] + ([f"and {more} more lease nothing"] if more > 0 else [])


def in_brief(workers: Sequence[WorkerProcess], queue: str) -> list[str]:
    """Name the live processes of a queue that lease nothing, and their states."""
    known = _known(workers, queue)
    return [f"{w.name} is {state_of(w)}" for w in known if of_worker(w) is not None]


def quiet_workers(workers: Sequence[WorkerProcess], queue: str) -> list[str]:
    """Return the names of the workers of a queue that would lease if resumed."""
    return sorted({w.name for w in _known(workers, queue) if state_of(w) == "quiet"})


def is_restarting(workers: Sequence[WorkerProcess], queue: str) -> bool:
    """Return whether all processes of a worker of the queue die: those of another one
    would, too.
    """
    return any(w.deaths for w in _known(workers, queue))


def _known(workers: Sequence[WorkerProcess], queue: str) -> list[WorkerProcess]:
    return [w for w in workers if w.alive and w.is_of(queue) and not w.spare]
