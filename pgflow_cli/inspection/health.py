"""Checks the health of workers by their status files, and of a server by HTTP."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from pgflow_cli.errors import CheckFailed, DatabaseUnavailable, UsageError
from pgflow_cli.telemetry import status_files

# Seconds for which a worker that was killed is told of beside one that is well: as long
# as its row stays in the database at least.
REMEMBERED = 600.0


def check_worker(
    places: Sequence[Path], name: str | None, *, max_age: float, ready: bool
) -> str:
    """Return the workers that are healthy; raise `CheckFailed` if none is, or if the
    named one is not.

    While one worker is healthy, those that are not are named and do not count: for ten
    minutes, because only a worker of the same name removes the status file of one that
    was killed. A quiet worker is healthy, and the text says that it is quiet.
    `max_age` is in seconds.
    """
    found = status_files.read_all(places, name)
    problems = [status.problem(max_age=max_age, ready=ready) for status in found]
    well = [s.words() for s, p in zip(found, problems, strict=True) if p is None]
    if well:
        told = [p for s, p in zip(found, problems, strict=True) if s.age < REMEMBERED]
        return "; ".join([f"{', '.join(well)}: ok", *filter(None, told)])
    if found:
        raise CheckFailed(problems[0] or "", "Its log says why.")
    who = f"worker {name}" if name else "worker"
    raise CheckFailed(f"no {who} of this user has written a status on this host")


def check_url(url: str, *, timeout: float) -> str:
    """Return the body of an HTTP health endpoint that answers with status 200.

    Raises `CheckFailed` for another status, `DatabaseUnavailable` without an answer in
    `timeout` seconds.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError("--url takes an http or https URL")
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - checked above
            return f"{url}: {answer.read(200).decode(errors='replace').strip()}"
    except urllib.error.HTTPError as error:
        error.close()
        raise CheckFailed(f"{url} answers {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DatabaseUnavailable(f"{url} does not answer: {reason}") from None
