"""A server as it should be measured: with its usual durability."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import servers
from tests.support.servers import Server

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "30min",
}


@contextmanager
def durable_server() -> Iterator[Server]:
    """Start a server that flushes its commits; it and its folder go with the block."""
    binaries = servers.find_binaries()
    with servers.own_folder(binaries, memory=False) as folder:
        servers.initialise(binaries, folder, **SETTINGS)
        servers.start(binaries, folder)
        server = Server(f"postgresql://postgres@/postgres?host={folder}", binaries)
        yield server
        server.close()
