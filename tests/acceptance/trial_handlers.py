"""Handlers for the trials: `pgflow work --app …/trial_handlers.py`.

Each start and end is written to a witness table on a connection of the handler's own,
so that what really ran can be held against what pgflow says of it. `gate` in a payload
names a file to wait for: trials wait for conditions.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from pgflow_cli import App, Fail, Retry, Snooze

app = App()
WITNESS = os.environ["WITNESS_URL"]


def witness(job, event):
    with psycopg.connect(WITNESS, autocommit=True) as connection:
        connection.execute(
            "insert into witness (job_id, attempt_no, event, pid)"
            " values (%s, %s, %s, %s)",
            (job.id, job.attempt_no, event, os.getpid()),
        )


def wait_for(gate):
    while not Path(gate).exists():
        time.sleep(0.01)


@app.handler("quick")
def quick(job):
    pass


@app.handler("naps")
def naps(job):
    time.sleep(job.payload["seconds"])


@app.handler("chatty")
def chatty(job):
    for number in range(100):
        job.log.info("%d %s", number, "x" * 2000)


@app.handler("seen")
def seen(job):
    witness(job, "start")
    witness(job, "end")


@app.handler("gated", timeout="10m")
def gated(job):
    witness(job, "start")
    wait_for(job.payload["gate"])
    witness(job, "end")


@app.handler("gated_async", timeout="10m")
async def gated_async(job):
    witness(job, "start")
    while not Path(job.payload["gate"]).exists():
        await asyncio.sleep(0.01)
    witness(job, "end")


@app.handler("patient", timeout="10m")
def patient(job):
    """Runs until it is told that it has been canceled."""
    witness(job, "start")
    job.canceled.wait()
    witness(job, "canceled")


@app.handler("failing", backoff=lambda _: 0.0)
def failing(job):
    raise ConnectionError("smtp.example: connection refused")


@app.handler("depends", max_attempts=1)
def depends(job):
    """Fails until what it depends on is there."""
    if not Path(job.payload["gate"]).exists():
        raise ConnectionError(f"smtp.example: refused job {job.id}")


@app.handler("gives_up")
def gives_up(job):
    raise Fail(code="NON_RETRYABLE", message="no such customer")


@app.handler("recovers", backoff=lambda _: 0.0)
def recovers(job):
    if job.attempt_no < 3:
        raise Retry(after=0, code="RATE_LIMIT", message="slow down")


@app.handler("snoozes")
def snoozes(job):
    if job.attempt_no == 1:
        raise Snooze(0)


@app.handler("exits")
def exits(job):
    raise SystemExit(3)


@app.handler("poison")
def poison(job):
    witness(job, "start")
    os.kill(os.getpid(), signal.SIGKILL)


@app.handler("poison_at_first")
def poison_at_first(job):
    """Kills its process so many times, then succeeds."""
    if job.attempt_no <= job.payload["times"]:
        os.kill(os.getpid(), signal.SIGKILL)


@app.handler("ends_its_process_first", timeout="10m")
def ends_its_process_first(job):
    """Ends its process once its gate is open, and succeeds when it runs again."""
    if job.attempt_no == 1:
        witness(job, "start")
        wait_for(job.payload["gate"])
        os._exit(3)


@app.handler("starts_a_program_that_hangs_up", max_attempts=1)
def starts_a_program_that_hangs_up(job):
    subprocess.run(["sh", "-c", "kill -HUP $$; exit 0"], check=True)


@app.handler("poisons_all")
def poisons_all(job):
    """Kills the supervisor, and with it every process."""
    witness(job, "start")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


@app.handler("crashes")
def crashes(job):
    ctypes.string_at(0)


@app.handler("stuck", timeout="300ms", max_attempts=1)
def stuck(job):
    witness(job, "start")
    while True:
        time.sleep(0.01)


@app.handler("stuck_async", timeout="300ms")
async def stuck_async(job):
    await asyncio.sleep(3600)


def hold_the_interpreter(seconds):
    """Keep the interpreter lock, as a regular expression may; but use no processor."""
    ctypes.PyDLL(None).sleep(seconds)


@app.handler("holds_the_interpreter", timeout="10m")
def holds_the_interpreter(job):
    witness(job, "start")
    hold_the_interpreter(job.payload["length"])
    witness(job, "end")


@app.handler("holds_for_ever", timeout="500ms")
def holds_for_ever(job):
    hold_the_interpreter(3600)


@app.handler("stops_the_clock")
def stops_the_clock(job):
    """Replaces the clock wherever it is a module's own, as freezegun does, and does not
    give it back.
    """
    real = time.monotonic
    for name, module in list(sys.modules.items()):
        if name == "time" or name.startswith("pgflow_cli"):
            for attribute, value in list(vars(module).items()):
                if value is real:
                    setattr(module, attribute, lambda: 0.0)


@app.handler("limited", concurrency=1)
def limited(job):
    witness(job, "start")
    witness(job, "end")


@app.handler("followed")
def followed(job):
    job.enqueue("seen", {"from": job.id})
    if job.attempt_no == 1:
        raise ConnectionError("after it has asked for a follower")


@app.handler("followed_badly", max_attempts=1)
def followed_badly(job):
    job.enqueue("seen", {"text": "x" * 300_000})


@app.handler("progresses", timeout="10m")
def progresses(job):
    job.progress(4, 10)
    wait_for(job.payload["gate"])
