"""Enqueues at a steady rate and writes down what it tried and what was confirmed.

A process of its own: `python -m tests.trials.producer JSON`, until SIGTERM.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

import pgflow_cli
from pgflow_cli.errors import PgflowError
from pgflow_cli.operations.enqueue import new_job_id
from tests.trials.history import Scribe

# How many of a hundred jobs or so are of a kind. What outlives a lease takes a slot for
# seconds, so there are few of them, but there always are some.
KINDS = {
    "short": 50,
    "short_async": 16,
    "long": 3,
    "long_async": 3,
    "retried": 8,
    "failing": 3,
    "gives_up": 2,
    "snoozes": 3,
    "exits": 2,
    "times_out": 2,
    "overruns": 1,
    "parent": 8,
}

_CALL_SECONDS = 4.0  # before the producer gives a reply up for lost


@dataclass(frozen=True)
class Plan:
    """What a producer does; all of it follows from the seed."""

    url: str
    file: str
    seed: int
    rate: float = 40.0  # jobs a second
    lease: float = 3.0
    queues: list[str] = field(default_factory=lambda: ["alpha", "beta"])
    kinds: dict[str, int] = field(default_factory=lambda: dict(KINDS))

    def as_argument(self) -> str:
        """Return it as the argument of the process."""
        return json.dumps(asdict(self))


class Batches:
    """Makes batches of jobs from a seed."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._random = plan, random.Random(plan.seed)

    def next(self) -> list[dict[str, Any]]:
        """Return one job, or a few."""
        chance = self._random
        count = 1 if chance.random() < 0.6 else chance.randint(2, 12)
        return [self._job() for _ in range(count)]

    def _job(self) -> dict[str, Any]:
        chance, kinds = self._random, self._plan.kinds
        [kind] = chance.choices(list(kinds), list(kinds.values()))
        payload = {"ms": chance.randint(1, 50), "fails": chance.randint(1, 3)}
        if kind.startswith("long"):
            payload["ms"] = int(1000 * self._plan.lease * chance.uniform(1.1, 2.5))
        return {
            "job_id": new_job_id(),
            "job_type": kind,
            "payload": payload,
            "queue": chance.choice(self._plan.queues),
            "priority": chance.choice([0, 0, 0, 5, -5]),
            "max_attempts": chance.randint(1, 4) if kind == "failing" else 25,
        }


class Sender:
    """Sends batches over one connection, each call with a deadline."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None
        self._deadline: float | None = None
        self._warned = False
        threading.Thread(target=self._watch, daemon=True).start()

    def send(self, batch: list[dict[str, Any]]) -> None:
        """Enqueue a batch, or raise an error of psycopg."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=3
            )
            self._connection.add_notice_handler(self._notice)
        self._warned = False
        self._deadline = time.monotonic() + _CALL_SECONDS
        try:
            pgflow_cli.enqueue_many(self._connection, batch)
        finally:
            self._deadline = None
        if self._warned:
            raise psycopg.OperationalError("the commit was not confirmed")

    def hang_up(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        # A commit whose wait for a standby was canceled reports success, and this.
        self._warned = self._warned or diagnostic.sqlstate == "01000"

    def _watch(self) -> None:
        while True:
            time.sleep(0.1)
            connection, deadline = self._connection, self._deadline
            if connection and deadline and time.monotonic() > deadline:
                self._deadline = None
                try:
                    with socket.socket(fileno=os.dup(connection.fileno())) as peer:
                        peer.shutdown(socket.SHUT_RDWR)
                except (OSError, psycopg.Error):
                    pass


def produce(plan: Plan) -> None:
    """Send batches until SIGTERM; after an error, most of them again and again."""
    write, batches, sender = Scribe(Path(plan.file)), Batches(plan), Sender(plan.url)
    chance = random.Random(plan.seed + 1)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    due = time.monotonic()
    while not stopped.is_set():
        batch = batches.next()
        for job in batch:
            write("try", id=job["job_id"], job_type=job["job_type"])
        _insist(sender, batch, write, stopped, stubborn=chance.random() < 0.8)
        # Never faster than the rate to make up for an outage.
        due = max(due + len(batch) / plan.rate, time.monotonic() - 1)
        stopped.wait(max(0.0, due - time.monotonic()))


def _insist(
    sender: Sender,
    batch: list[dict[str, Any]],
    write: Scribe,
    stopped: threading.Event,
    *,
    stubborn: bool,
) -> None:
    """Send a batch until it is confirmed; who is not stubborn tries once."""
    while True:
        try:
            sender.send(batch)
        except (psycopg.Error, PgflowError) as error:
            write("unconfirmed", error=type(error).__name__)
            sender.hang_up()
            if not stubborn or stopped.wait(0.2):
                return
        else:
            for job in batch:
                write("acknowledged", id=job["job_id"])
            return


if __name__ == "__main__":
    produce(Plan(**json.loads(sys.argv[1])))
