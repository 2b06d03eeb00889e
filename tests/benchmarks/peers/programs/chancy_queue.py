"""chancy with its worker, as its manual's quickstart has it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from chancy import Chancy, Job, Queue, Worker
from python_side import (
    OPTIONS,
    QUEUES,
    TASK,
    URL,
    Payload,
    Starts,
    main,
    queue_of,
    share,
)

starts = Starts()


def noop(**payload: Any) -> None:
    starts.note(payload)


async def async_noop(**payload: Any) -> None:
    await starts.run(payload)


# Its executor for coroutines takes no other functions.
handler = async_noop if "executor" in OPTIONS else noop


def job(payload: Payload) -> Job:
    # It retries at once, unless a plug-in of its says otherwise.
    attempts = 2 if TASK["fails"] else 1
    return Job.from_func(
        handler, kwargs=payload, queue=queue_of(payload), max_attempts=attempts
    )


class ChancyQueue:
    async def migrate(self) -> None:
        await self.connect()
        await self._chancy.migrate()
        own = {"concurrency": share(OPTIONS["concurrency"])} if OPTIONS else {}
        for name in QUEUES:
            await self._chancy.declare(Queue(name, **{**OPTIONS, **own}))
        await self._chancy.__aexit__(None, None, None)

    async def connect(self) -> None:
        # A line for each job would be measured otherwise.
        self._chancy = Chancy(URL, log=logging.getLogger("warnings only"))
        await self._chancy.__aenter__()

    async def enqueue(self, payload: Payload) -> None:
        await self._chancy.push(job(payload))

    async def enqueue_many(self, payloads: list[Payload]) -> None:
        jobs = [job(payload) for payload in payloads]
        async for _ in self._chancy.push_many(jobs, batch_size=1000):
            pass

    async def work(self, stopped: asyncio.Event) -> None:
        async with Worker(self._chancy, register_signal_handlers=False):
            await stopped.wait()


if __name__ == "__main__":
    main(ChancyQueue())
