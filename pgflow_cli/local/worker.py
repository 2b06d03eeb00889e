"""A `pgflow work` process for a local server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import pgflow_cli
from pgflow_cli.local import LocalServer


class LocalWorker:
    """A worker process that ends with this process, even if this one is killed.

    It has a process group of its own: Ctrl-C reaches only this process, which then
    stops worker and server in order.
    """

    def __init__(
        self,
        url: str,
        options: Sequence[str],
        *,
        server: LocalServer | None = None,
        log: IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        variables = dict(os.environ if environment is None else environment)
        # Not an option: it holds a password, and every account can read a command line.
        variables["DATABASE_URL"] = url
        variables["PYTHONPATH"] = _search_path()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pgflow_cli", "work", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=variables,
        )
        if server is not None:
            server.mind(self._process)

    @property
    def exit_code(self) -> int | None:
        """Return how it ended, None while it runs."""
        return self._process.poll()

    def drain(self) -> None:
        """Have it drain; the second time, have it release its jobs and stop at once."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end and return its exit code."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """Kill it and its processes."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _search_path() -> str:
    """Return where this very program is, for a tree that is not installed."""
    found = [str(Path(pgflow_cli.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    return os.pathsep.join(part for part in found if part)
