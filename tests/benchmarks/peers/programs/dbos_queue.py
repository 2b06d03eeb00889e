"""DBOS: a job is a workflow on a queue, and what it does is a step.

Its step is what it retries, within the same workflow.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import psycopg
from dbos import DBOS, DBOSClient
from python_side import (
    OPTIONS,
    QUEUES,
    TASK,
    URL,
    Payload,
    Starts,
    by_queue,
    main,
    queue_of,
)

starts = Starts()
DATABASE = URL.replace("postgresql://", "postgresql+psycopg://")


@DBOS.step(retries_allowed=TASK["fails"], interval_seconds=0.0, max_attempts=2)
async def step(payload: Payload) -> None:
    await starts.run(payload)


@DBOS.workflow(name="noop")
async def noop(payload: Payload) -> None:
    if TASK["fails"]:
        await step(payload)
    else:
        await starts.run(payload)


def launch() -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": DATABASE,
            "log_level": "ERROR",
            # Processes are told apart by it.
            "executor_id": str(os.getpid()),
            "application_version": "1",
        }
    )
    DBOS.launch()


class Dbos:
    async def migrate(self) -> None:
        await asyncio.to_thread(launch)
        await asyncio.to_thread(DBOS.destroy)

    async def connect(self) -> None:
        self._connection = await psycopg.AsyncConnection.connect(URL, autocommit=True)
        self._client = DBOSClient(system_database_url=DATABASE)

    async def enqueue(self, payload: Payload) -> None:
        options: Any = {"workflow_name": "noop", "queue_name": queue_of(payload)}
        await self._client.enqueue_async(options, payload)

    async def enqueue_many(self, payloads: list[Payload]) -> None:
        # The client enqueues one a call; this is its function in SQL.
        for queue, some in by_queue(payloads):
            await self._connection.execute(
                "select dbos.enqueue_workflow('noop', %s, array[value])"
                " from json_array_elements(%s::json)",
                (queue, json.dumps(some)),
            )

    async def work(self, stopped: asyncio.Event) -> None:
        await asyncio.to_thread(launch)
        for queue in QUEUES:
            await DBOS.register_queue_async(queue, **OPTIONS)
        await stopped.wait()
        await asyncio.to_thread(DBOS.destroy)


main(Dbos())
