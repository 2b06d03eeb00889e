"""awa, a queue in Rust with a client for Python, as its quickstart has it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from awa import AsyncClient, RetryAfter
from python_side import (
    OPTIONS,
    QUEUES,
    URL,
    FailsOnce,
    Payload,
    Starts,
    by_queue,
    main,
    queue_of,
    share,
)

starts = Starts()


@dataclass
class Noop:
    n: int
    sent: float
    email: str
    template: str
    body: str


class Awa:
    async def migrate(self) -> None:
        await self.connect()
        await self._client.migrate()
        # Not a migration's part yet; bulk enqueue by COPY needs it.
        await self._client.install_queue_storage()

    async def connect(self) -> None:
        # Its driver wants a host before it looks at the parameter.
        self._client = AsyncClient(URL.replace("@/", "@localhost/"))

    async def enqueue(self, payload: Payload) -> None:
        await self._client.insert(Noop(**payload), queue=queue_of(payload))

    async def enqueue_many(self, payloads: list[Payload]) -> None:
        for queue, some in by_queue(payloads):
            jobs = [Noop(**payload) for payload in some]
            await self._client.enqueue_many_copy(jobs, queue=queue)

    async def work(self, stopped: asyncio.Event) -> None:
        @self._client.task(Noop, queue=QUEUES[0])
        async def noop(job) -> RetryAfter | None:
            try:
                await starts.run(vars(job.args))
            except FailsOnce:
                return RetryAfter(0)
            return None

        workers = share(OPTIONS["workers"])
        await self._client.start([(queue, workers) for queue in QUEUES])
        await stopped.wait()
        await self._client.shutdown()


main(Awa())
