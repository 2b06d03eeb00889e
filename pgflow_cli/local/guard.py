"""Ends a local server whose owner was killed.

A process of its own, in a session of its own. It holds the server's lock too, and waits
for the owner's end of a pipe to close, which the kernel does however the owner ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pgflow_cli
from pgflow_cli.local import process_identity
from pgflow_cli.local.binaries import Binaries, server_account
from pgflow_cli.local.folder import Folder

_RUN = "import sys; from pgflow_cli.local import guard; guard.main(*sys.argv[1:])"


class Guard:
    """The owner's end of the pipe."""

    def __init__(self, folder: Folder, binaries: Binaries, *, lock: int) -> None:
        kind = "ephemeral" if folder.ephemeral else "lasting"
        theirs, self._pipe = os.pipe()
        self._process = subprocess.Popen(
            # -P: modules of the operator's working directory are not ours to load.
            [
                *(sys.executable, "-P", "-c", _RUN),
                *(str(folder.path), kind, str(binaries.folder), str(binaries.version)),
            ],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(pgflow_cli.__file__).parents[1])},
            pass_fds=(lock,),
            start_new_session=True,
        )
        os.close(theirs)

    def mind(self, pid: int) -> None:
        """Have this process and its group killed should the owner be killed."""
        self._say(f"mind {pid} {process_identity.started(pid) or 0.0}")

    def mind_server(self, pid: int) -> None:
        """Have the server ended even if it has not written its pid file by then."""
        self._say(f"server {pid} {process_identity.started(pid) or 0.0}")

    def dismiss(self) -> None:
        """Let the guard go: everything is in order."""
        self._say("done")
        os.close(self._pipe)
        self._process.wait()

    def _say(self, line: str) -> None:
        # A guard that was killed guards nothing, which changes nothing else.
        with suppress(BrokenPipeError):
            os.write(self._pipe, f"{line}\n".encode())


def main(path: str, kind: str, binaries: str, version: str) -> None:
    """Wait for the owner's end, then end what it left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folder = Folder(Path(path), ephemeral=kind == "ephemeral")
    minded: list[tuple[int, float]] = []
    servers: list[tuple[int, float]] = []
    for line in sys.stdin:
        match line.split():
            case ["mind", pid, since]:
                minded.append((int(pid), float(since)))
            case ["server", pid, since]:
                servers.append((int(pid), float(since)))
            case ["done"]:
                return
    for process in minded:
        process_identity.kill_group(*process)
    folder.end(Binaries(Path(binaries), int(version), server_account()))
    for process in servers:
        process_identity.kill_group(*process, signal.SIGQUIT)
