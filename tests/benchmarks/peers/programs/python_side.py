"""The words of `protocol.py` for programs in Python; a queue brings five coroutines.

It stands alone: a peer's environment has no pgflow.
"""

from __future__ import annotations

import array
import asyncio
import itertools
import json
import os
import signal
import sys
import threading
import time
from typing import Any, Protocol

URL = os.environ["PEER_URL"]
OPTIONS = json.loads(os.environ["PEER_OPTIONS"])
FLUSHED_EVERY = 0.02  # seconds

Payload = dict[str, Any]


class Queue(Protocol):
    """What a peer's program brings along."""

    async def migrate(self) -> None: ...
    async def connect(self) -> None: ...
    async def enqueue(self, payload: Payload) -> None: ...
    async def enqueue_many(self, payloads: list[Payload]) -> None: ...
    async def work(self, stopped: asyncio.Event) -> None: ...


class Starts:
    """Notes when handlers start, at the cost of one append each.

    The first job of a process waits at the gate, if there is one.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, float]] = []
        self._lock = threading.Lock()
        self._begun = False

    def note(self, payload: Payload) -> None:
        if not self._begun:
            self._begin()
        self._rows.append((payload["n"], payload["sent"], time.time()))

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


def payload(n: int, sent: float) -> Payload:
    """About 200 bytes."""
    return {
        "n": n,
        "sent": sent,
        "email": f"user{n}@example.com",
        "template": "welcome_v2",
        "body": "x" * 100,
    }


def main(queue: Queue) -> None:
    roles = {"migrate": _migrate, "produce": _produce, "work": _work}
    asyncio.run(roles[sys.argv[1]](queue))


async def _migrate(queue: Queue) -> None:
    await queue.migrate()


def end_with_stdin() -> None:
    """Have SIGTERM come when stdin ends: the benchmark may have been killed."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

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
