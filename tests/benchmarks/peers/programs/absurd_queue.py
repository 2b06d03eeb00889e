"""absurd through its client, one for each queue, as its manual has a worker."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import absurdctl
import psycopg
from absurd_sdk import AsyncAbsurd
from python_side import (
    OPTIONS,
    QUEUES,
    URL,
    Payload,
    Starts,
    by_queue,
    main,
    queue_of,
)

starts = Starts()
RETRY = {"kind": "fixed", "base_seconds": 0}  # its least back-off


class AbsurdQueue:
    async def migrate(self) -> None:
        async with await psycopg.AsyncConnection.connect(URL) as connection:
            # What `absurdctl init` executes; that needs psql.
            await connection.execute(absurdctl.BUNDLED_SCHEMA_SQL)
        await self.connect()
        for client in self._clients.values():
            await client.create_queue()

    async def connect(self) -> None:
        self._clients = {name: AsyncAbsurd(URL, queue_name=name) for name in QUEUES}
        self._connection = await psycopg.AsyncConnection.connect(URL, autocommit=True)

    async def enqueue(self, payload: Payload) -> None:
        queue = queue_of(payload)
        client = self._clients[queue]
        await client.spawn("noop", payload, 2, RETRY, queue=queue)

    async def enqueue_many(self, payloads: list[Payload]) -> None:
        # The client spawns one a call; this is its function in SQL.
        options = json.dumps({"max_attempts": 2, "retry_strategy": RETRY})
        for queue, some in by_queue(payloads):
            await self._connection.execute(
                "select absurd.spawn_task(%s, 'noop', value, %s)"
                " from jsonb_array_elements(%s::jsonb)",
                (queue, options, json.dumps(some)),
            )

    async def work(self, stopped: asyncio.Event) -> None:
        async def noop(params: Any, context: Any) -> None:
            await starts.run(params)

        working = []
        for queue, client in self._clients.items():
            client.register_task("noop", queue=queue)(noop)
            working.append(asyncio.create_task(client.start_worker(**OPTIONS)))
        await stopped.wait()
        for client in self._clients.values():
            client.stop_worker()
        await asyncio.gather(*working)


main(AbsurdQueue())
