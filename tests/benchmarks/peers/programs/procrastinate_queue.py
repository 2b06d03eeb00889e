"""procrastinate with its async connector, as its manual's quickstart has it."""

from __future__ import annotations

import asyncio
from typing import Any

import procrastinate
from python_side import OPTIONS, QUEUES, URL, Payload, Starts, by_queue, main, queue_of

pool = {"max_size": OPTIONS.pop("pool")} if "pool" in OPTIONS else {}
connector = procrastinate.PsycopgConnector(conninfo=URL, **pool)
app = procrastinate.App(connector=connector)
starts = Starts()


# A wait of 0 s is its least back-off.
@app.task(name="noop", retry=procrastinate.RetryStrategy(max_attempts=2, wait=0))
async def noop(**payload: Any) -> None:
    await starts.run(payload)


deferrers = {queue: noop.configure(queue=queue) for queue in QUEUES}


class Procrastinate:
    async def migrate(self) -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def connect(self) -> None:
        await app.open_async()

    async def enqueue(self, payload: Payload) -> None:
        await deferrers[queue_of(payload)].defer_async(**payload)

    async def enqueue_many(self, payloads: list[Payload]) -> None:
        for queue, some in by_queue(payloads):
            await deferrers[queue].batch_defer_async(*some)

    async def work(self, stopped: asyncio.Event) -> None:
        # It installs its own handlers of signals in place of ours.
        await app.run_worker_async(**OPTIONS)


main(Procrastinate())
