"""What a trial runs: a server, supervisors, producers; and how it comes to rest."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import psycopg

from pgflow_cli.operations.enqueue import new_job_id
from tests.support import servers
from tests.support.private_servers import PrivateServer
from tests.support.servers import quickest_folder
from tests.trials.checker import Verdict, judge
from tests.trials.history import History, Scribe
from tests.trials.ledger import Ledger, install_witness
from tests.trials.producer import KINDS, Plan

PGFLOW = str(Path(sys.executable).with_name("pgflow"))
ROOT = Path(__file__).resolve().parents[2]
ROLE = "trial"  # workers and producers are this one; the trial itself is postgres
QUEUES = ("alpha", "beta")

_PIPE_BYTES = 4096  # a log that is not read blocks soon
_POLL = 0.1  # seconds; what is asked reads tables, and the workers want the cores
_EVENTS_OF_BUGS = ("thread_failed", "internal_error")
_REFUSED = 77  # by the server, at the very first connection

_LIMIT = """
import sys
from resource import RLIMIT_NOFILE, prlimit
pid, soft = map(int, sys.argv[1:])
try:
    before, hard = prlimit(pid, RLIMIT_NOFILE)
    prlimit(pid, RLIMIT_NOFILE, (soft, hard))
    print(before)
except ProcessLookupError:
    print(soft)
"""

# Whatever a fault does to the role or the database, the trial itself goes on.
_OPTIONS = (
    "-c statement_timeout=0 -c lock_timeout=0 -c default_transaction_read_only=off"
    " -c idle_session_timeout=0 -c client_encoding=UTF8"
)


class Supervisor:
    """A `pgflow work` process that is started again under the same name.

    Its log goes through a pipe, of which the reader can pause.
    """

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name, self.log_file = name, log
        self._begins = 0  # where the log of the process begins
        self.refusals: set[str] = set()  # lines of its log that are not JSON
        self._command, self._environment = command, environment
        self.reading = threading.Event()
        self.reading.set()
        self.process = self._start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """Return what it has written."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def connected(self) -> bool:
        """Whether it has come as far as its duties."""
        return '"event": "reap_expired_locks"' in self.log[self._begins :]

    def limit_descriptors(self, soft: int) -> int:
        """Set its limit, unless it has ended; return the one before.

        From a process of its own user: root may lack the right to do it for others.
        """
        words = [sys.executable, "-c", _LIMIT, str(self.pid), str(soft)]
        told = subprocess.run(
            words, capture_output=True, text=True, check=True, **_user()
        )
        return int(told.stdout)

    def children(self) -> list[psutil.Process]:
        """Return its worker processes, the one started first first."""
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid).children()
            workers = [c for c in found if "spawn_main" in " ".join(_words(c))]
            return sorted(workers, key=lambda child: child.pid)
        return []

    def signal(self, number: int, *, tree: bool = False) -> None:
        """Signal the supervisor alone, or its whole process group."""
        with suppress(ProcessLookupError):
            (os.killpg if tree else os.kill)(self.pid, number)

    def restart(self) -> None:
        """Start it again after it has ended."""
        self.process.wait(60)
        if self.process.returncode == _REFUSED:
            self.refusals.update(self.log[self._begins :].splitlines())
        self._begins = len(self.log)
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self._command,
            env=self._environment,
            cwd=self.log_file.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_user(),
        )
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        threading.Thread(
            target=self._read, args=(process.stdout.fileno(), process), daemon=True
        ).start()
        return process

    def _read(self, pipe: int, process: subprocess.Popen[bytes]) -> None:
        # The process is named so that it, and with it the pipe, lives as long as this.
        with self.log_file.open("ab") as log:
            while chunk := os.read(pipe, 65536):
                log.write(chunk)
                log.flush()
                self.reading.wait()
        assert process.stdout is not None
        process.stdout.close()


@dataclass
class Rig:
    """A server with supervisors and producers.

    `url` is what a new supervisor or producer gets unless it is told another.
    `unexpected` collects what went wrong and no ledger shows.
    """

    server: PrivateServer
    folder: Path
    seed: int
    url: str
    lease: int = 2
    supervisors: dict[str, Supervisor] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    _producers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _written: list[Path] = field(default_factory=list)
    _connection: psycopg.Connection[Any] | None = None

    @property
    def restores(self) -> Path:
        """Return the file in which restores are written down."""
        return self.folder / "restores.jsonl"

    def sql(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser that no fault touches.

        On a connection that lives as long as its server: there may be no other to get.
        """
        try:
            return self._run(text, values)
        except psycopg.OperationalError:
            assert self._connection is None or self._connection.closed
            return self._run(text, values)

    def _run(self, text: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self.server.url, autocommit=True, connect_timeout=5, options=_OPTIONS
            )
        cursor = self._connection.execute(text.encode(), values or None)
        return cursor.fetchall() if cursor.description else []

    def migrate(self) -> None:
        """Make the role, the schema, and the triggers of the trial."""
        self.sql(f"create role {ROLE} superuser login")
        self.server.migrated()
        with psycopg.connect(self.server.url) as connection:
            install_witness(connection)

    def pgflow(
        self, *words: str, may_end: Collection[int] = (0, 1, 3, 4, 75)
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as an operator does; another exit code than these is noted."""
        ended = subprocess.run(
            [PGFLOW, *words],
            env=self._environment(self.url),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **_user(),
        )
        if ended.returncode not in may_end:
            said = f"pgflow {' '.join(words[:2])} exits {ended.returncode}"
            self.unexpected.append(f"{said}: {ended.stderr[-300:]}")
        return ended

    def work(
        self,
        name: str,
        *options: str,
        url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Supervisor:
        """Start a supervisor with two processes."""
        command = [
            PGFLOW, "work", "--app", "tests.trials.handlers", "-q", ",".join(QUEUES),
            "--processes", "2", "-c", "8", "--lease-seconds", str(self.lease),
            "--reap-interval", "500ms", "--worker-id", name, "--log-jobs",
            "--maintenance-interval", "10s", *options,
        ]  # fmt: skip
        self.supervisors[name] = Supervisor(
            name,
            command,
            {**self._environment(url or self.url), **(environment or {})},
            self.folder / f"{name}.log",
        )
        return self.supervisors[name]

    def produce(
        self, rate: float, *, url: str | None = None, **kinds: int
    ) -> subprocess.Popen[bytes]:
        """Start a producer; `kinds` replace weights of the usual mix."""
        file = self.folder / f"producer-{len(self._written)}.jsonl"
        plan = Plan(
            url=url or self.url,
            file=str(file),
            seed=self.seed + len(self._written),
            rate=rate,
            lease=self.lease,
            queues=list(QUEUES),
            kinds={**KINDS, **kinds},
        )
        self._written.append(file)
        with (self.folder / "producers.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.trials.producer", plan.as_argument()],
                env=self._environment(self.url),
                cwd=ROOT,
                stdout=log,
                stderr=log,
                **_user(),
            )
        self._producers.append(process)
        return process

    def enqueue(self, job_type: str, queue: str) -> None:
        """Enqueue a job as a producer does."""
        file = self.folder / "trial.jsonl"
        job_id, write = new_job_id(), Scribe(file)
        write("try", id=job_id, job_type=job_type)
        words = ("enqueue", job_type, "-q", queue, "--id", job_id)
        if self.pgflow(*words, may_end=[0]).returncode == 0:
            write("acknowledged", id=job_id)
        if file not in self._written:
            self._written.append(file)

    def tend(self) -> None:
        """Start supervisors that have ended, though none was asked to."""
        for supervisor in self.supervisors.values():
            if supervisor.ended:
                self.unexpected.append(
                    f"{supervisor.name} ended with {supervisor.process.returncode}:"
                    f" {supervisor.log[-300:]}"
                )
                supervisor.restart()

    def tend_refused(self) -> None:
        """Start supervisors again that began while the server refused their role.

        They end with 77 and a sentence, as documented; one that was connected before
        does not.
        """
        for supervisor in self.supervisors.values():
            self.wait(
                lambda one=supervisor: one.connected or one.ended,
                f"{supervisor.name} connects, or is refused",
            )
            if supervisor.process.poll() == _REFUSED and not supervisor.connected:
                supervisor.restart()

    def wait(
        self,
        condition: Callable[[], object],
        what: str,
        seconds: float = 60,
        progress: Callable[[], object] = lambda: None,
    ) -> bool:
        """Wait for a condition; if it does not come, write that down.

        As long as `progress` tells something else than before, it may still come,
        however slow the machine is.
        """
        deadline, before = time.monotonic() + seconds, None
        while True:
            goes_on = False
            with suppress(psycopg.Error):
                if condition():
                    return True
                if goes_on := (now := progress()) != before:
                    deadline, before = time.monotonic() + seconds, now
            if not goes_on and time.monotonic() >= deadline:
                self.unexpected.append(f"not within {seconds:.0f} s: {what}")
                return False
            time.sleep(_POLL)

    def succeeded(self) -> int:
        """Return how many jobs have succeeded so far."""
        return int(self.sql(_SUCCEEDED)[0][0])

    def due_shorts(self) -> set[str]:
        """Return the jobs that would end in a moment if a healthy worker had them."""
        return {str(row[0]) for row in self.sql(_DUE_SHORTS)}

    def come_to_rest(self, seconds: float = 60) -> None:
        """Stop the producers and wait until every job has ended, as long as one does in
        so many seconds.
        """
        for producer in self._producers:
            producer.terminate()
        for producer in self._producers:
            try:
                status = producer.wait(30)
            except subprocess.TimeoutExpired:
                producer.kill()
                status = producer.wait()
            if status != 0:
                log = (self.folder / "producers.log").read_text()
                self.unexpected.append(f"a producer ended with {status}: {log[-500:]}")

        def nothing_is_left() -> bool:
            self.tend()
            return self.sql(_LEFT) == [(0,)]

        def ended() -> object:
            return self.sql(_ENDED)

        self.wait(nothing_is_left, "every job ends", seconds, ended)

    def end_supervisors(self, seconds: float = 30) -> None:
        """Ask every supervisor to end; each must, in good order."""
        for supervisor in self.supervisors.values():
            supervisor.signal(signal.SIGTERM)
        for supervisor in self.supervisors.values():
            self.expect_end(supervisor, seconds)

    def expect_end(self, supervisor: Supervisor, seconds: float = 30) -> None:
        """Wait for a supervisor that was asked to end; note it if it does not."""
        try:
            status = supervisor.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.unexpected.append(f"{supervisor.name} does not end on SIGTERM")
            supervisor.signal(signal.SIGKILL, tree=True)
            return
        if status != 0:
            self.unexpected.append(f"{supervisor.name} ends with {status} on SIGTERM")

    def verdict(self) -> Verdict:
        """Judge what has come of it all; for when nothing runs any more."""
        handlers = [self.folder / "handlers.jsonl"]
        history = History.read(self._written, handlers, [self.restores])
        with psycopg.connect(self.server.url, options=_OPTIONS) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            found = judge(history, Ledger.read(connection))
        notes = [*self.unexpected, *self._bugs_in_logs()]
        if notes:
            found.violations["unexpected"] = notes
        return found

    def _bugs_in_logs(self) -> Iterator[str]:
        for supervisor in self.supervisors.values():
            for line in supervisor.log.splitlines():
                # Each line is an event in JSON; a traceback by itself is not.
                if not line.startswith("{") and line not in supervisor.refusals:
                    yield f"{supervisor.name} logs what is no JSON: {line[:200]}"
                    break
                if any(f'"event": "{event}"' in line for event in _EVENTS_OF_BUGS):
                    yield f"{supervisor.name} logs {line[:400]}"

    def keep(self) -> Path:
        """Copy the logs and the history to where they stay; return the folder."""
        kept = Path(tempfile.mkdtemp(prefix="pgflow-trial-kept-"))
        shutil.copytree(self.folder, kept, dirs_exist_ok=True)
        return kept

    def close(self) -> None:
        """End whatever still runs, at once."""
        if self._connection is not None:
            self._connection.close()
        for supervisor in self.supervisors.values():
            supervisor.reading.set()
            supervisor.signal(signal.SIGKILL, tree=True)
            supervisor.process.wait()
        for producer in self._producers:
            producer.kill()
            producer.wait()

    def _environment(self, url: str) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith("PGFLOW_")}
        return {
            **kept,
            "DATABASE_URL": url,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PGFLOW_LOG_FORMAT": "json",
            "TRIAL_HISTORY": str(self.folder / "handlers.jsonl"),
            "HOME": str(self.folder),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "TMPDIR": str(self.folder),
        }


@contextmanager
def rig_of(server: PrivateServer, seed: int, url: str | None = None) -> Iterator[Rig]:
    """Yield a rig over a server that is running and empty."""
    folder = Path(tempfile.mkdtemp(prefix="pgflow-trial-", dir=quickest_folder()))
    folder.chmod(0o777)
    own = f"postgresql://{ROLE}@/postgres?host={server.folder}"
    rig = Rig(server, folder, seed, url or own)
    try:
        yield rig
    finally:
        rig.close()
        shutil.rmtree(folder)


@cache
def _user() -> dict[str, Any]:
    """Return whom the programs run as: as root, the server's owner if that one may read
    this Python at all.
    """
    owner = servers.server_owner()
    try:
        subprocess.run([PGFLOW, "--help"], capture_output=True, check=True, **owner)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return owner


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return list(process.cmdline())
    return []


_SUCCEEDED = "select count(*) from pgflow.any_attempts where status = 'succeeded'"
_ENDED = f"""
select ({_SUCCEEDED}) + (select count(*) from pgflow.dead_letters)
  + (select count(*) from pgflow.canceled_jobs)
"""
_LEFT = """
select (select count(*) from pgflow.pending)
  + (select coalesce(sum(cardinality(job_ids)), 0) from pgflow.leases)
"""
_DUE_SHORTS = """
select job_id::text from pgflow.pending where job_type = 'short' and run_at <= now()
union all
select job.id::text
from pgflow.leases
cross join lateral unnest(job_ids, attempt_nos) as entry (job_id, attempt_no)
join pgflow.jobs as job on job.id = entry.job_id
where job.job_type = 'short'
"""
