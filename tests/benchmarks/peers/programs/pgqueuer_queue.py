"""pgqueuer over asyncpg, the driver that its manual recommends for throughput."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from python_side import OPTIONS, URL, Payload, Starts, main

starts = Starts()


class PgQueuerQueue:
    async def migrate(self) -> None:
        await self.connect()
        await self._queries.install()

    async def connect(self) -> None:
        self._connection = await asyncpg.connect(URL)
        self._queries = Queries(AsyncpgDriver(self._connection))

    async def enqueue(self, payload: Payload) -> None:
        await self._queries.enqueue("noop", json.dumps(payload).encode())

    async def enqueue_many(self, payloads: list[Payload]) -> None:
        await self._queries.enqueue(
            ["noop"] * len(payloads),
            [json.dumps(payload).encode() for payload in payloads],
            [0] * len(payloads),
        )

    async def work(self, stopped: asyncio.Event) -> None:
        queuer = PgQueuer.from_asyncpg_connection(self._connection)

        @queuer.entrypoint("noop")
        async def noop(job: Job) -> None:
            starts.note(json.loads(job.payload or b"{}"))

        # It ends when this event is set, and then drains what it holds.
        queuer.qm.shutdown = queuer.sm.shutdown = queuer.shutdown = stopped
        await queuer.run(**OPTIONS)


uvloop.install()
main(PgQueuerQueue())
