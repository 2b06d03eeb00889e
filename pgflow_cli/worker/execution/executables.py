"""Runs a job by a program: payload on stdin, exit status as outcome (WORKER.md §4)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pgflow_cli.formats.error_text import excerpt
from pgflow_cli.handlers import (
    App,
    Handler,
    Job,
    Outcome,
    conclude,
    failed,
    fingerprints,
    outcomes,
    released,
)
from pgflow_cli.handlers.exceptions import seconds
from pgflow_cli.handlers.outcomes import SUCCEEDED
from pgflow_cli.local import processes
from pgflow_cli.local.processes import CannotStart, Ending
from pgflow_cli.models.jobs import LeasedJob

TAIL = 2048  # bytes of stderr that become the error message
MOST_SPARED = 10  # attempts in a shortage of the host's; further ones are failures
_HEAD = 256  # bytes of a file that the kernel looks at

_CODES = {
    64: "NON_RETRYABLE",
    65: "BAD_PAYLOAD",
    69: "DEPENDENCY_DOWN",
    75: "DEPENDENCY_DOWN",
    78: "NON_RETRYABLE",
    124: "TIMEOUT",
}
_MAY_SAY_WHEN = (69, 75)

# Secrets, besides the worker's own settings; what --exec-env allows comes back as
# `environment`.
_WITHHELD = {
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "PGPASSWORD",
    "TRACEPARENT",
    "TRACESTATE",
}


def run(
    handler: Handler, job: Job, environment: Mapping[str, str] | None = None
) -> Outcome:
    """Run a job's program to its end. Never raises.

    `environment` is added to the program's: so --exec-env hands over DATABASE_URL. A
    program that `job.canceled` stops is released.
    """
    command = handler.command or (handler.job_type,)
    job.begin()
    try:
        with _control_file() as control:
            surroundings = _environment(job, control, environment)
            ending = processes.run(
                command,
                data=job.leased.payload.encode(errors="replace"),
                environment=surroundings,
                timeout=job.timeout,
                is_canceled=job.canceled.is_set,
                keep=TAIL,
                # Of a file in a folder that was made for this attempt.
                mark="PGFLOW_CONTROL_FILE",
            )
            # What `env` says of an interpreter that is not in PATH.
            if (ending.status, ending.stopped) == (127, None) and (
                fault := fault_of(command, surroundings.get("PATH", ""))
            ):
                return failed(handler, job.leased, "NOT_STARTED", fault)
            return _outcome(handler, job, ending, _retry_after(control))
    except CannotStart as error:
        reason = f"cannot start {command[0]}: {error}"
        return _not_started(handler, job.leased, reason, passing=error.passing)
    # One job's end, never its thread's.
    except BaseException as error:
        return conclude(handler, job, error)


def _not_started(
    handler: Handler, leased: LeasedJob, reason: str, *, passing: bool
) -> Outcome:
    """Return the outcome of a program that could not be started.

    A shortage of the host's is no fault of the job's, which is spared `MOST_SPARED`
    times, for half an hour; any other cause stays until the file is mended.
    """
    spared = leased.attempt_no - 1 - leased.failed_attempts - leased.lost_attempts
    if passing and spared < MOST_SPARED:
        return released(reason, delay=outcomes.backoff_delay(spared + 1))
    return failed(handler, leased, "NOT_STARTED", reason)


@contextlib.contextmanager
def _control_file() -> Iterator[Path]:
    """Make an empty file, in a directory of its own that goes away with it."""
    try:
        control = Path(tempfile.mkdtemp(prefix="pgflow-"), "control")
    except OSError as error:
        raise CannotStart(error.strerror or str(error), passing=True) from error
    try:
        try:
            control.touch(0o600)
        except OSError as error:
            raise CannotStart(error.strerror or str(error), passing=True) from error
        yield control
    finally:
        shutil.rmtree(control.parent, ignore_errors=True)
        # It needs a descriptor, and there may be none left. This does not.
        with contextlib.suppress(OSError):
            control.unlink(missing_ok=True)
            control.parent.rmdir()


def is_withheld(name: str) -> bool:
    """Say whether a variable is the worker's own: programs do not get it."""
    return name in _WITHHELD or name.startswith("PGFLOW_")


def _environment(
    job: Job, control: Path, added: Mapping[str, str] | None
) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not is_withheld(name)
    }
    own = {
        "PGFLOW_JOB_ID": job.id,
        "PGFLOW_JOB_TYPE": job.type,
        "PGFLOW_QUEUE": job.queue,
        "PGFLOW_ATTEMPT_NO": str(job.attempt_no),
        "PGFLOW_MAX_ATTEMPTS": str(job.max_attempts),
        "PGFLOW_DEADLINE": job.deadline.isoformat(timespec="seconds"),
        "PGFLOW_CONTROL_FILE": str(control),
    }
    if job.trace is not None:
        own |= {name.upper(): text for name, text in job.trace.fields().items()}
    return {**inherited, **(added or {}), **own}


def _outcome(
    handler: Handler, job: Job, ending: Ending, retry_after: float | None
) -> Outcome:
    words = _words(ending.status)
    # Not what it printed: that may be the payload.
    job.log.debug("program ended: %s", words, extra={"event": "program_ended"})
    if ending.stopped == "canceled":
        return released("the program was stopped before it ended")
    if ending.status == 0 and ending.stopped is None:
        return SUCCEEDED
    said = _shown(ending.stderr)
    if ending.stopped == "timeout":
        code, words, last = "TIMEOUT", "timeout", ""
        message = f"no result within {job.timeout:g} s\n{said}".strip()
    else:
        code = "PANIC" if ending.status < 0 else _CODES.get(ending.status, "UNKNOWN")
        message = said or f"{words}, and nothing on stderr"
        # Programs say last what ended them; what they say before differs from run to
        # run.
        last = said.rpartition("\n")[2]
    return failed(
        handler,
        job.leased,
        code,
        message,
        delay=retry_after if ending.status in _MAY_SAY_WHEN else None,
        fingerprint=fingerprints.fingerprint(
            job.type, code, error_class=words, message=last
        ),
    )


def _words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _shown(tail: bytes) -> str:
    """Return the last bytes a program printed as text, from a whole character on."""
    if len(tail) > TAIL:
        tail = tail[-TAIL:]
        while tail and tail[0] & 0xC0 == 0x80:
            tail = tail[1:]
    return excerpt(tail).strip()


def faults_of(app: App) -> list[str]:
    """Return why programs among an application's handlers could not be started."""
    found = []
    for handler in app.handlers.values():
        if handler.command and (fault := fault_of(handler.command)):
            found.append(f"{handler.job_type}: {fault}")
    return found


def fault_of(command: Sequence[str], path: str | None = None) -> str | None:
    """Return why a program could not be started, as far as its file tells; None if
    nothing speaks against it. `path` is the program's PATH if it is not ours.
    """
    file = shutil.which(command[0])
    if file is None:
        return f"{command[0]} does not exist or cannot be executed"
    if not Path(file).is_file():
        return f"{file} is no regular file"  # to open a named pipe would wait
    try:
        with open(file, "rb") as opened:
            head = opened.read(_HEAD)
    except OSError:
        return None  # a program need not be readable
    if head.startswith(b"#!"):
        return _fault_of_interpreter(file, os.fsdecode(head[2:].split(b"\n")[0]), path)
    if b"\0" not in head:
        return f"{file} has no first line #! that names its interpreter"
    return None


def _fault_of_interpreter(file: str, line: str, path: str | None) -> str | None:
    # As the kernel reads it: the return of a Windows line belongs to the name.
    interpreter, _, argument = line.strip(" \t").partition(" ")
    if not os.access(interpreter, os.X_OK) or Path(interpreter).is_dir():
        return f"the first line of {file} names {interpreter!r}, which is no program"
    if Path(interpreter).name == "env" and argument and not argument.startswith("-"):
        name = argument.strip()
        if shutil.which(name, path=path) is None:
            return f"the first line of {file} names {name!r}, which is not in PATH"
    return None


def _retry_after(control: Path) -> float | None:
    """Read `retry_after=5m` from the control file, whatever was made of it."""
    try:
        # No link to follow, no FIFO to wait for.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
        with open(os.open(control, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            lines = file.read(TAIL).decode(errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition("=") for line in lines)
    settings = {name.strip(): value.strip() for name, _, value in pairs}
    return seconds(settings.get("retry_after"))
