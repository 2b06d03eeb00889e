"""awa, a queue in Rust with a client for Python, as its quickstart has it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from awa import AsyncClient
from python_side import OPTIONS, URL, Payload, Starts, main

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
        await self._client.insert(Noop(**payload))

    async def enqueue_many(self, payloads: list[Payload]) -> None:
        await self._client.enqueue_many_copy([Noop(**payload) for payload in payloads])

    async def work(self, stopped: asyncio.Event) -> None:
        @self._client.task(Noop, queue="default")
        async def noop(job) -> None:
            starts.note(vars(job.args))

        await self._client.start([("default", OPTIONS["workers"])])
        await stopped.wait()
        await self._client.shutdown()


main(Awa())
