"""procrastinate with its async connector, as its manual's quickstart has it."""

from __future__ import annotations

import asyncio
from typing import Any

import procrastinate
from python_side import OPTIONS, URL, Payload, Starts, main

pool = {"max_size": OPTIONS.pop("pool")} if "pool" in OPTIONS else {}
connector = procrastinate.PsycopgConnector(conninfo=URL, **pool)
app = procrastinate.App(connector=connector)
starts = Starts()


@app.task(name="noop")
async def noop(**payload: Any) -> None:
    starts.note(payload)


class Procrastinate:
    async def migrate(self) -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def connect(self) -> None:
        await app.open_async()

    async def enqueue(self, payload: Payload) -> None:
        await noop.defer_async(**payload)

    async def enqueue_many(self, payloads: list[Payload]) -> None:
        await noop.batch_defer_async(*payloads)

    async def work(self, stopped: asyncio.Event) -> None:
        # It installs its own handlers of signals in place of ours.
        await app.run_worker_async(**OPTIONS)


main(Procrastinate())
