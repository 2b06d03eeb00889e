"""Runs real and failing jobs on a private server, which is removed afterwards."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pgflow_cli.errors import PgflowError, Refused
from pgflow_cli.handlers import App, Job
from pgflow_cli.local import LocalServer, dev
from pgflow_cli.local.worker import LocalWorker
from pgflow_cli.models.dead_letters import DeadLetter
from pgflow_cli.models.explanation import JobEvidence
from pgflow_cli.models.jobs import JobOptions, TypeCounts
from pgflow_cli.repository import Database, Repository

_LOOK_SECONDS = 0.25  # seconds between two looks at the progress
_NEWS_SECONDS = 1.0  # seconds between two lines of progress in a log
# Slots of each worker process; mixed_jobs computes the length of its jobs from both.
_SLOTS = 4
_PROCESSES = 2
_PATIENCE_SECONDS = 60.0  # seconds beyond the time that the jobs should take

app = App()


@app.handler("poison")
def poison(job: Job) -> None:
    """Kill the process that runs this job, as a bug in a C extension would."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the demonstration."""

    counts: Sequence[TypeCounts]
    seconds: float
    is_news: bool = False  # a job has ended in the last second

    @property
    def total(self) -> int:
        """Return how many jobs there are."""
        return self.final + sum(c.queued + c.scheduled + c.running for c in self.counts)

    @property
    def final(self) -> int:
        """Return how many jobs will not run again."""
        return sum(c.succeeded + c.dlq + c.canceled for c in self.counts)

    def __str__(self) -> str:
        """Return one line for a log."""
        running = sum(c.running for c in self.counts)
        dead = sum(c.dlq for c in self.counts)
        retrying = sum(c.scheduled for c in self.counts)
        return (
            f"{self.seconds:4.1f}s  {self.final} of {self.total} jobs done, "
            f"{running} running, {retrying} to be tried again, {dead} dead letters"
        )


class Demonstration:
    """A server, a worker and some jobs; made by `demonstration.running`."""

    def __init__(
        self,
        repository: Repository,
        worker: LocalWorker,
        worker_log: Path,
        *,
        patience: float,
    ) -> None:
        self.repository = repository
        self._patience = patience
        self._worker = worker
        self._worker_log = worker_log

    def progress(self) -> Iterator[Progress]:
        """Yield the progress until every job has ended."""
        began = time.monotonic()
        told, told_at = -1, -_NEWS_SECONDS
        while True:
            counts = self.repository.queues.count_jobs_by_type()
            now = Progress(counts, time.monotonic() - began)
            over = now.final == now.total
            news = now.final != told and now.seconds - told_at >= _NEWS_SECONDS
            if news or over:
                told, told_at = now.final, now.seconds
            yield replace(now, is_news=news or over)
            if over:
                return
            self._check_worker(now)
            time.sleep(_LOOK_SECONDS)

    def dead_letters(self) -> list[DeadLetter]:
        """Return the jobs that failed for good, the latest first."""
        return self.repository.dead_letters.list_dead_letters(limit=50)

    def most_telling(self, dead: list[DeadLetter]) -> JobEvidence:
        """Return the evidence of the dead letter that explains most."""
        order = {"MAX_ATTEMPTS_EXCEEDED": 0, "CRASH_LOOP": 1}
        chosen = min(dead, key=lambda letter: order.get(letter.dlq_reason_code, 2))
        return self.repository.explanation.describe_job(chosen.id, attempts=None)

    def wait_for_signal(self) -> None:
        """Keep everything as it is until Ctrl-C or SIGTERM."""
        with dev.noted_signals() as signals:
            while not signals:
                time.sleep(_LOOK_SECONDS)

    def _check_worker(self, now: Progress) -> None:
        code = self._worker.exit_code
        if code is None and now.seconds < self._patience:
            return
        lines = self._worker_log.read_text(errors="replace").splitlines()[-5:]
        if code is not None:
            raise PgflowError(f"the demo's worker ended with exit code {code}", *lines)
        raise PgflowError(f"the demo's jobs did not end: {now}", *lines)


@contextmanager
def running(
    *,
    jobs: int,
    seconds: float,
    url: str | None = None,
    pg_bin: Path | None = None,
    say: Callable[[str], None],
) -> Iterator[Demonstration]:
    """Yield a running demonstration; everything is removed afterwards.

    It has a private server, unless a URL is given: then that database must not have a
    schema pgflow, and keeps the one that is made.
    """
    with ExitStack() as stack:
        server = None
        if url is None:
            server = stack.enter_context(LocalServer(pg_bin=pg_bin, say=say))
            for note in server.notes:
                say(note)
            say("It does not wait for the disk (fsync=off), and goes when this ends.")
            url = server.url
        repository = Repository.of(Database(url, application_name="pgflow demo"))
        stack.callback(repository.close)
        if repository.queues.holds_any_relation():
            raise Refused(
                "the database already holds a pgflow schema; the demo changes none",
                "Without --database-url it starts a private server.",
            )
        dev.migrate(url)
        enqueue(repository, jobs=jobs, seconds=seconds)
        say(f"enqueued {jobs} jobs; starting {_PROCESSES} worker processes")
        folder = stack.enter_context(_log_folder(server))
        log = stack.enter_context((folder / "worker.log").open("wb"))
        worker = LocalWorker(
            url,
            _worker_options(),
            server=server,
            log=log,
            environment=_environment(folder),
        )
        stack.callback(worker.kill)
        yield Demonstration(
            repository,
            worker,
            folder / "worker.log",
            patience=seconds + _PATIENCE_SECONDS,
        )
        worker.drain()
        worker.wait(30)


def enqueue(repository: Repository, *, jobs: int, seconds: float) -> None:
    """Enqueue the demonstration's jobs in one call."""
    text = json.dumps(mixed_jobs(jobs, seconds=seconds))
    repository.enqueue.enqueue_many(text, options=JobOptions())


def mixed_jobs(jobs: int, *, seconds: float) -> list[dict[str, Any]]:
    """Return `count` jobs that keep the workers busy for about `seconds`.

    Each kind of failure occurs once or a few times; the other jobs succeed.
    """
    bad = [
        _job("poison", "imports", {"file": "prices.csv"}),
        _job("email_send", "emails", {"subject": "no address"}),
        _job("email_send", "emails", {"to": "nobody@example.invalid"}),
        _job("fail_me", "default", {}),
        _job("fail_me", "default", {"retry": True}, max_attempts=2),
    ]
    slow = [_job("demo_slow", "reports", {"seconds": seconds / 4}) for _ in range(2)]
    flaky = [
        _job("demo_flaky", "imports", {"succeeds_on": 2 + number % 2})
        for number in range(max(1, jobs // 8))
    ]
    rest = jobs - len(bad) - len(slow) - len(flaky)
    emails = [
        _job("email_send", "emails", {"to": f"user{number}@example.org"})
        for number in range(rest // 3)
    ]
    easy = rest - len(emails)
    each = max(50, min(3000, round(seconds * 0.4 * _SLOTS * _PROCESSES / easy * 1000)))
    work = [_job("demo_ok", "default", {"ms": each}) for _ in range(easy)]
    return [*bad, *flaky, *slow, *emails, *work]


def _job(
    job_type: str, queue: str, payload: dict[str, object], **more: object
) -> dict[str, Any]:
    return {"job_type": job_type, "queue": queue, "payload_json": payload, **more}


def _worker_options() -> list[str]:
    return [
        *("--app", "pgflow_cli.handlers.examples:app", "--app", f"{__name__}:app"),
        *("--queue", "default,emails,imports,reports"),
        *("--processes", str(_PROCESSES), "--concurrency", str(_SLOTS)),
        *("--lease-seconds", "2", "--reap-interval", "500ms", "--crash-budget", "3"),
        *("--log-format", "text", "--log-level", "info"),
    ]


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment without the operator's settings, which are for real
    queues.
    """
    kept = {n: v for n, v in os.environ.items() if not n.startswith("PGFLOW_")}
    return {**kept, "XDG_CONFIG_HOME": str(folder)}


@contextmanager
def _log_folder(server: LocalServer | None) -> Iterator[Path]:
    if server is not None:
        # Removed with the server, even if this process is killed.
        yield server.folder.path
        return
    with TemporaryDirectory(prefix="pgflow-demo-") as made:
        yield Path(made)
