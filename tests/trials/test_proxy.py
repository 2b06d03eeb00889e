"""The proxy's own faults are those that a trial asks for."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.trials.proxy import running_proxy

_PATIENCE = 20.0


class Echo(threading.Thread):
    """Answers the one client of a socket with what it has sent, until that ends."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE)
        self._socket.bind(str(path))
        self._socket.listen()
        self.heard = b""

    def run(self) -> None:
        # A client that leaves without having read everything is a reset.
        with (
            self._socket,
            self._socket.accept()[0] as client,
            suppress(ConnectionError),
        ):
            while data := client.recv(100):
                self.heard += data
                client.sendall(data)


def test_what_is_answered_after_a_half_close_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged: what the event loop logs is an error of the proxy."""
    server = Echo(tmp_path / "socket")
    server.start()
    with running_proxy(tmp_path / "socket") as proxy:
        address = "127.0.0.1", proxy.port
        with socket.create_connection(address, _PATIENCE) as client:
            client.sendall(b"1")
            assert client.recv(1) == b"1"
            proxy.half_close()
            assert client.recv(1) == b""
            client.sendall(b"2")
        server.join(_PATIENCE)
    assert server.heard == b"12"
    assert [record.getMessage() for record in caplog.records] == []
