"""A TCP proxy with faults, in front of a server's Unix socket.

A proxy acknowledges by itself, so what it cannot show is a network that drops packets.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_TICK = 0.01
# Linger on, for no time: closing sends a reset instead of an orderly end.
_RESET = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Pair:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    frozen: bool = False
    half_closed: bool = False

    def reset(self) -> None:
        for writer in (self.client, self.server):
            if isinstance(sock := writer.get_extra_info("socket"), socket.socket):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def cut(self) -> None:
        for writer in (self.client, self.server):
            writer.close()


class Proxy:
    """Serves on a port of its own; the attributes may be set from any thread.

    `frozen` holds up every byte, of new connections, too; nothing is closed. `delay` is
    in seconds for each chunk.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self.frozen = False
        self.delay = 0.0
        self.drop_next_reply = False
        self.port = 0

    @property
    def url(self) -> str:
        """Return the URL of the server behind it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def reset(self) -> None:
        """Reset every connection."""
        self._each(_Pair.reset)

    def cut(self) -> None:
        """End every connection in good order."""
        self._each(_Pair.cut)

    def half_close(self) -> None:
        """Tell every client that nothing more will come, and go on listening."""

        def close(pair: _Pair) -> None:
            pair.half_closed = True
            with suppress(OSError):
                pair.client.write_eof()

        self._each(close)

    def silence(self) -> None:
        """Hold up the connections that there are, for ever; new ones are served."""

        def freeze(pair: _Pair) -> None:
            pair.frozen = True

        self._each(freeze)

    def run(self, ready: threading.Event) -> None:
        """Serve until `stop`."""
        asyncio.set_event_loop(self._loop)
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256)
        self._server = self._loop.run_until_complete(starting)
        self.port = self._server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        # Connections that are cut off here have nothing to say.
        self._loop.set_exception_handler(lambda *_: None)
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(_TICK))
        self._loop.close()

    def stop(self) -> None:
        """Hang up on everything and end."""

        def end() -> None:
            assert self._server is not None
            self._server.close()
            for pair in list(self._pairs):
                pair.reset()
            self._loop.stop()

        self._loop.call_soon_threadsafe(end)

    def _each(self, what: Callable[[_Pair], None]) -> None:
        def every() -> None:
            for pair in list(self._pairs):
                what(pair)

        self._loop.call_soon_threadsafe(every)

    async def _serve(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        while self.frozen:
            await asyncio.sleep(_TICK)
        try:
            answers, server = await asyncio.open_unix_connection(self._target)
        except OSError:
            client.close()
            return
        pair = _Pair(client, server)
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._pump(pair, reader, server), self._replies(pair, answers)
            )
        finally:
            self._pairs.discard(pair)
            pair.cut()

    async def _pump(
        self,
        pair: _Pair,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        drops: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                while self.frozen or pair.frozen:
                    await asyncio.sleep(_TICK)
                if target is pair.client and pair.half_closed:
                    continue  # it was told that nothing more comes
                if drops(data):
                    pair.reset()
                    return
                if self.delay:
                    await asyncio.sleep(self.delay)
                target.write(data)
                await target.drain()
        pair.cut()

    async def _replies(self, pair: _Pair, answers: asyncio.StreamReader) -> None:
        await self._pump(pair, answers, pair.client, self._is_dropped)

    def _is_dropped(self, data: bytes) -> bool:
        """Return whether this is the reply to drop: the server has committed."""
        # A reply that ends in ReadyForQuery, idle: no transaction is left open.
        wanted = self.drop_next_reply and data.endswith(b"Z\x00\x00\x00\x05I")
        if wanted:
            self.drop_next_reply = False
        return wanted


@contextmanager
def running_proxy(target: Path) -> Iterator[Proxy]:
    """Yield a proxy in front of a server's socket."""
    proxy, ready = Proxy(target), threading.Event()
    thread = threading.Thread(target=proxy.run, args=(ready,), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join(10)
