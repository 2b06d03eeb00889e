"""Demo handlers, for `work --simulate` and the demo.

They act, always in the same way, and touch nothing outside.

Job types and payloads:

ok          returns at once
demo_ok     works for {"ms": 50}
demo_flaky  a dependency is down until attempt {"succeeds_on": 3}
demo_slow   works for {"seconds": 3} in steps, shows progress, stops when it is canceled
fail_me     gives up at once; with {"retry": true} it fails until its last attempt
email_send  wants {"to": "a@example.org", "subject": …}; sends nothing
"""

from __future__ import annotations

from pgflow_cli.handlers import App, Fail, Job

app = App()

app.error_code(
    "ADDRESS_REJECTED",
    retry=False,
    action="Correct the address with `replay --patch`, or discard the job.",
)


@app.handler("ok")
def ok(job: Job) -> None:
    """Succeed, as fast as a job can."""


@app.handler("demo_ok")
def demo_ok(job: Job) -> None:
    """Succeed after a moment of work: `ms`, 50 unless given, at most 10,000."""
    _work(job, min(_number(job, "ms", 50), 10_000) / 1000)


@app.handler("demo_flaky", errors={ConnectionRefusedError: "DEPENDENCY_DOWN"})
def demo_flaky(job: Job) -> None:
    """Fail as if a dependency were down, until attempt `succeeds_on` (3)."""
    _work(job, 0.05)
    if job.attempt_no < _number(job, "succeeds_on", 3):
        raise ConnectionRefusedError("inventory.internal:443 refused the connection")


@app.handler("demo_slow", timeout="10m")
def demo_slow(job: Job) -> None:
    """Take `seconds` (3, at most 600); show progress ten times; stop when canceled."""
    length = min(_number(job, "seconds", 3), 600)
    for step in range(10):
        job.progress(step, 10)
        if _work(job, length / 10):
            raise Fail(message="stopped half-way, because the result no longer counts")
    job.progress(10, 10)


@app.handler("fail_me")
def fail_me(job: Job) -> None:
    """Become a dead letter: at once, or with `retry` when the attempts are used up."""
    _work(job, 0.02)
    if _field(job, "retry"):
        raise ValueError(f"order {job.id[-8:]} has no lines")
    raise Fail(message="this job was made to fail")


@app.handler("email_send", timeout="20s")
def email_send(job: Job) -> None:
    """Pretend to send an email.

    Without a usable `to` the payload is bad; addresses in `.invalid` are rejected.
    """
    to = _field(job, "to")
    if not isinstance(to, str):
        raise Fail(code="BAD_PAYLOAD", message="missing 'to'")
    name, at, domain = to.rpartition("@")
    if not (name and at and "." in domain):
        raise Fail(code="BAD_PAYLOAD", message="'to' is not an email address")
    _work(job, 0.03)
    if domain.endswith(".invalid"):
        raise Fail(code="ADDRESS_REJECTED", message="550 no such domain")


def _field(job: Job, name: str) -> object:
    return job.payload.get(name) if isinstance(job.payload, dict) else None


def _number(job: Job, name: str, default: float) -> float:
    value = _field(job, name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    return max(value, 0)


def _work(job: Job, seconds: float) -> bool:
    """Spend time as work does; tell whether the job was canceled meanwhile."""
    return job.canceled.wait(seconds)
