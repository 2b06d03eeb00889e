"""What a handler has spoilt for every job of its process, by code that is not Python's:
the process ends, and what runs in it is lost.
"""

from __future__ import annotations

import logging
import threading

from pgflow_cli.worker import descriptors, safeguards
from pgflow_cli.worker.execution import resource_limits, users

log = logging.getLogger("pgflow.worker")

STDERR = 2
_ending = threading.Lock()  # of the thread that ends the process; the others wait


def found() -> str | None:
    """Name the damage, to go on after "a handler has"; None if nothing
    is spoilt.
    """
    if any(descriptors.has_lost(number) for number in descriptors.STANDARD):
        return "closed a descriptor of its process"
    if users.have_changed():
        return "changed the user of the process"
    if resource_limits.are_lowered():
        return "lowered the resource limits of its process"
    return None


def end_spoilt_process() -> None:
    """End the process if anything is spoilt. What runs in it has not ended then, and
    its supervisor settles it as lost.
    """
    spoilt = found()
    if spoilt is None:
        return
    _ending.acquire()  # for good
    if descriptors.has_lost(STDERR):  # what is logged may go to the file of a job
        safeguards.end_silently(safeguards.FAILED)
    log.critical("a handler has %s: it ends", spoilt, extra={"event": "process_failed"})
    safeguards.end(safeguards.FAILED)
