"""What a handler has spoilt for every job of its process, by code that is not Python's:
the process ends, and what runs in it is lost.
"""

from __future__ import annotations

from pgflow_cli.worker import descriptors
from pgflow_cli.worker.execution import resource_limits, users

STDERR = 2


def found() -> str | None:
    """Return what a handler has done, to go on after "a handler has"; None if nothing
    is spoilt.
    """
    if any(descriptors.has_lost(number) for number in descriptors.STANDARD):
        return "closed a descriptor of its process"
    if users.have_changed():
        return "changed the user of the process"
    if resource_limits.are_lowered():
        return "lowered the resource limits of its process"
    return None


def has_lost_log() -> bool:
    """Say whether what the process logs may go to the file of a job."""
    return descriptors.has_lost(STDERR)
