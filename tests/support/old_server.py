"""A server that speaks PostgreSQL's protocol 3.0 without TLS and lets no one in; run as
a program, it prints its port.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

PLAIN = 3 << 16  # version 3.0
REFUSAL = b"SFATAL\0VFATAL\0C28000\0Mno one comes in\0\0"


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            client, _ = listening.accept()
            with client, client.makefile("rb") as sent:
                _refuse(client, sent.read)


def _refuse(client: socket.socket, read: Callable[[int], bytes]) -> None:
    while length := read(4):
        [code] = struct.unpack("!I", read(4))
        read(int.from_bytes(length, "big") - 8)
        if code >> 16 != PLAIN >> 16:
            client.sendall(b"N")  # no TLS, no GSSAPI
            continue
        if code != PLAIN:
            client.sendall(b"v" + struct.pack("!III", 12, PLAIN, 0))
        client.sendall(b"E" + struct.pack("!I", 4 + len(REFUSAL)) + REFUSAL)
        return


if __name__ == "__main__":
    main()
