"""Handlers of the trials: `pgflow work --app tests.trials.handlers`.

Each start and end goes to the file TRIAL_HISTORY. Payloads say how long a handler
takes (`ms`) and how often it fails first (`fails`).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgflow_cli import App, Fail, Job, Retry, Snooze
from tests.trials.history import Scribe

app = App()
_write = Scribe(Path(os.environ["TRIAL_HISTORY"]))


@contextmanager
def _told(job: Job) -> Iterator[None]:
    """Write down that a run begins and how it ends."""
    run = uuid.uuid4().hex
    _write("start", run=run, id=job.id, attempt_no=job.attempt_no, pid=os.getpid())
    result = "fail"
    try:
        yield
        result = "ok"
    finally:
        _write("end", run=run, result=result)


def _nap(job: Job) -> None:
    time.sleep(job.payload.get("ms", 1) / 1000)


@app.handler("short", timeout="1m")
def short(job: Job) -> None:
    with _told(job):
        _nap(job)


@app.handler("short_async", timeout="1m")
async def short_async(job: Job) -> None:
    with _told(job):
        await asyncio.sleep(job.payload["ms"] / 1000)


@app.handler("long", timeout="10m")
def long(job: Job) -> None:
    """Outlives its lease."""
    with _told(job):
        _nap(job)


@app.handler("long_async", timeout="10m")
async def long_async(job: Job) -> None:
    with _told(job):
        await asyncio.sleep(job.payload["ms"] / 1000)


@app.handler("retried", timeout="1m")
def retried(job: Job) -> None:
    with _told(job):
        _nap(job)
        if job.attempt_no <= job.payload["fails"]:
            raise Retry(after=0.3, code="FLAKY")


@app.handler("failing", timeout="1m", backoff=lambda _: 0.2)
def failing(job: Job) -> None:
    with _told(job):
        _nap(job)
        raise RuntimeError("always")


@app.handler("gives_up", timeout="1m")
def gives_up(job: Job) -> None:
    with _told(job):
        raise Fail(code="BAD", message="no such customer")


@app.handler("snoozes", timeout="1m")
def snoozes(job: Job) -> None:
    with _told(job):
        if job.attempt_no == 1:
            raise Snooze(0.3)


@app.handler("exits", timeout="1m", backoff=lambda _: 0.2)
def exits(job: Job) -> None:
    with _told(job):
        if job.attempt_no == 1:
            raise SystemExit(3)


@app.handler("times_out", timeout="300ms", backoff=lambda _: 0.2)
async def times_out(job: Job) -> None:
    with _told(job):
        await asyncio.sleep(60 if job.attempt_no == 1 else 0.01)


@app.handler("overruns", timeout="300ms", backoff=lambda _: 0.2)
def overruns(job: Job) -> None:
    """Times out in a thread, which nothing can stop: its process is replaced."""
    with _told(job):
        time.sleep(1 if job.attempt_no == 1 else 0.01)


@app.handler("parent", timeout="1m")
def parent(job: Job) -> None:
    with _told(job):
        _nap(job)
        job.enqueue("child", {"parent": job.id, "ms": 5}, queue=job.queue)


@app.handler("child", timeout="1m")
def child(job: Job) -> None:
    with _told(job):
        _nap(job)


@app.handler("dies_after", timeout="1m")
def dies_after(job: Job) -> None:
    """Returns, and takes its process down before that is likely to be settled."""
    with _told(job):
        pass
    threading.Timer(0.001, os._exit, (9,)).start()
