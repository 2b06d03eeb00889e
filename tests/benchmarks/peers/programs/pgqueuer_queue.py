"""pgqueuer over asyncpg, the driver that its manual recommends for throughput.

Its jobs are told apart by their entrypoint, which is what a queue is here.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.errors import RetryRequested
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from python_side import (
    OPTIONS,
    QUEUES,
    URL,
    FailsOnce,
    Payload,
    Starts,
    main,
    queue_of,
)

starts = Starts()


class PgQueuerQueue:
    async def migrate(self) -> None:
        await self.connect()
        await self._queries.install()

    async def connect(self) -> None:
        self._connection = await asyncpg.connect(URL)
        self._queries = Queries(AsyncpgDriver(self._connection))

    async def enqueue(self, payload: Payload) -> None:
        await self._queries.enqueue(queue_of(payload), json.dumps(payload).encode())

    async def enqueue_many(self, payloads: list[Payload]) -> None:
        await self._queries.enqueue(
            [queue_of(payload) for payload in payloads],
            [json.dumps(payload).encode() for payload in payloads],
            [0] * len(payloads),
        )

    async def work(self, stopped: asyncio.Event) -> None:
        queuer = PgQueuer.from_asyncpg_connection(self._connection)

        async def noop(job: Job) -> None:
            try:
                await starts.run(json.loads(job.payload or b"{}"))
            except FailsOnce as error:
                raise RetryRequested(timedelta(0)) from error

        for queue in QUEUES:
            queuer.entrypoint(queue)(noop)

        # It ends when this event is set, and then drains what it holds.
        queuer.qm.shutdown = queuer.sm.shutdown = queuer.shutdown = stopped
        await queuer.run(**OPTIONS)


uvloop.install()
main(PgQueuerQueue())
