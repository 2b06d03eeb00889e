"""Ends a local server whose owner was killed.

It is a separate process in a session of its own. It holds the server's lock too, and
waits until the owner's end of a pipe is closed, which the kernel does however the owner
ends.
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
            # -P: no module is imported from the operator's working directory.
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
        """Tell the guard to kill a process and its group if the owner is killed."""
        self._say(f"mind {pid} {process_identity.started(pid) or 0.0}")

    def mind_server(self, pid: int) -> None:
        """Tell the guard the server's pid, for the time before the pid file is
        written.
        """
        self._say(f"server {pid} {process_identity.started(pid) or 0.0}")

    def dismiss(self) -> None:
        """End the guard: the owner has stopped everything itself."""
        self._say("done")
        os.close(self._pipe)
        self._process.wait()

    def _say(self, line: str) -> None:
        # A guard that was killed needs no message.
        with suppress(BrokenPipeError):
            os.write(self._pipe, f"{line}\n".encode())


def main(path: str, kind: str, binaries: str, version: str) -> None:
    """Wait until the owner has ended, then stop what it has left."""
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
