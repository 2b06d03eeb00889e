"""Starts `pgflow` and lets it run: in a fork, or as the program that is installed.

Half of what a worker takes to start are the imports of its supervisor, and the trials
start a hundred of them. The processes that a worker starts are as real as ever.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from tests.support.executable import Fork


class Forked:
    """`pgflow` that runs, and writes what it says to a file."""

    _start: Callable[..., Any] = Fork

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path,
        output: Path,
    ) -> None:
        with output.open("w") as log, open(os.devnull) as nothing:
            self._process = self._start(
                *arguments,
                environment=environment,
                folder=folder,
                stdin=nothing,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid
        self.poll = self._process.poll
        self.wait = self._process.wait
        self.send_signal = self._process.send_signal
        self.kill = self._process.kill

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _installed(
    *arguments: str, environment: Mapping[str, str], folder: Path, **streams: IO[str]
) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).with_name("pgflow")
    return subprocess.Popen(
        [program, *arguments], env=environment, cwd=folder, **streams
    )


class Started(Forked):
    """The program as it is installed."""

    _start = staticmethod(_installed)
