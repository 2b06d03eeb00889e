"""The words of `protocol.py` for programs in Python; a queue brings five coroutines.

It stands alone: a peer's environment has no pgflow.
"""

from __future__ import annotations

import array
import asyncio
import base64
import itertools
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

URL = os.environ["PEER_URL"]
OPTIONS = json.loads(os.environ["PEER_OPTIONS"])
TASK = json.loads(os.environ["PEER_TASK"])
QUEUES = [f"queue{n}" for n in range(TASK["queues"])]
FLUSHED_EVERY = 0.02  # seconds

Payload = dict[str, Any]


class Queue(Protocol):
    """What a peer's program brings along."""

    async def migrate(self) -> None: ...
    async def connect(self) -> None: ...
    async def enqueue(self, payload: Payload) -> None: ...
    async def enqueue_many(self, payloads: list[Payload]) -> None: ...
    async def work(self, stopped: asyncio.Event) -> None: ...


class FailsOnce(Exception):
    """What a handler raises the first time it runs a job that is to fail."""


class Starts:
    """Notes when handlers start, at the cost of one append each.

    The first job of a process waits at the gate, if there is one.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, float]] = []
        self._lock = threading.Lock()
        self._begun = False
        self._failed: set[int] = set()

    def note(self, payload: Payload) -> None:
        """Raises FailsOnce, if jobs are to fail and this one has not."""
        if not self._begun:
            self._begin()
        self._rows.append((payload["n"], payload["sent"], time.time()))
        if TASK["fails"] and payload["n"] not in self._failed:
            self._failed.add(payload["n"])
            raise FailsOnce

    async def run(self, payload: Payload) -> None:
        """Do what a handler does that is a coroutine; raises like `note`."""
        self.note(payload)
        if TASK["pause"]:
            await asyncio.sleep(TASK["pause"])

    def _begin(self) -> None:
        # With the first job: a supervisor may import this before it forks.
        with self._lock:
            if not self._begun:
                _wait_at_gate()
                threading.Thread(target=self._write, daemon=True).start()
                self._begun = True

    def _write(self) -> None:
        path = os.path.join(os.environ["PEER_STARTS"], str(os.getpid()))
        with open(path, "ab", buffering=0) as file:
            while True:
                time.sleep(FLUSHED_EVERY)
                # Rows are only added at the end, so these stay the first.
                rows = self._rows[:]
                file.write(array.array("d", itertools.chain.from_iterable(rows)))
                del self._rows[: len(rows)]


def _wait_at_gate() -> None:
    if gate := os.environ.get("PEER_GATE"):
        open(os.path.join(gate, str(os.getpid())), "w").close()
        while not os.path.exists(os.path.join(gate, "open")):
            time.sleep(0.001)


# Text that does not get much smaller when the server compresses it.
BODY = base64.b64encode(random.Random(1).randbytes(TASK["bytes"])).decode()
BODY = BODY[: TASK["bytes"]]


def payload(n: int, sent: float) -> Payload:
    """About 100 bytes and the body."""
    return {
        "n": n,
        "sent": sent,
        "email": f"user{n}@example.com",
        "template": "welcome_v2",
        "body": BODY,
    }


def by_queue(payloads: list[Payload]) -> Iterator[tuple[str, list[Payload]]]:
    """Each queue with its part of jobs that are numbered one after the other."""
    for first in range(min(len(QUEUES), len(payloads))):
        yield queue_of(payloads[first]), payloads[first :: len(QUEUES)]


def queue_of(payload: Payload) -> str:
    return QUEUES[payload["n"] % len(QUEUES)]


def share(concurrency: int) -> int:
    """One queue's part of what a worker runs at once, where each has its own."""
    return max(1, concurrency // len(QUEUES))


def main(queue: Queue) -> None:
    if TASK["fails"]:  # tracebacks would be measured otherwise
        logging.disable(logging.ERROR)
    roles = {"migrate": _migrate, "produce": _produce, "work": _work}
    asyncio.run(roles[sys.argv[1]](queue))


async def _migrate(queue: Queue) -> None:
    await queue.migrate()


def end_with_stdin() -> None:
    """Have SIGTERM come when stdin ends: the benchmark may have been killed."""

    def wait() -> None:
        # Not through sys.stdin, whose lock the interpreter wants when it ends.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        # A client may wait without end for a server that went, too.
        time.sleep(10)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


async def _work(queue: Queue) -> None:
    end_with_stdin()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await queue.connect()
    await queue.work(stopped)


async def _produce(queue: Queue) -> None:
    await queue.connect()
    _say({})
    while line := await asyncio.to_thread(sys.stdin.readline):
        _say(await _send(queue, **json.loads(line)))


async def _send(
    queue: Queue, first: int, jobs: int, each: int, rate: float
) -> dict[str, float]:
    began = time.time()
    for done in range(0, jobs, each):
        if rate and (early := began + done / rate - time.time()) > 0:
            await asyncio.sleep(early)
        now = time.time()
        if each == 1:
            await queue.enqueue(payload(first + done, now))
        else:
            numbers = range(first + done, first + min(done + each, jobs))
            await queue.enqueue_many([payload(n, now) for n in numbers])
    return {"began": began, "ended": time.time()}


def _say(words: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()
