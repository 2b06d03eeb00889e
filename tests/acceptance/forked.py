"""Starts `pgflow` in a fork of a process that has imported it.

Half of what a worker takes to start are the imports of its supervisor, and the trials
start a hundred of them. The processes that a worker starts are as real as ever.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pgflow_cli.cli import program

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    [
        *(f"pgflow_cli.commands.{name.replace('-', '_')}" for name in program.COMMANDS),
        "pgflow_cli.__main__",
        "pgflow_cli.admin.hardening",
        "pgflow_cli.admin.server",
        "pgflow_cli.cli.output.cells",
        "pgflow_cli.repository",
        "pgflow_cli.worker.supervisor",
        "psycopg",
        "rich.console",
        "tabulate",
    ]
)


class Forked:
    """`pgflow` that runs; asked and told as what `subprocess.Popen` starts."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path,
        output: Path,
    ) -> None:
        output.touch()
        self._process = _FORKING.Process(
            target=_run, args=(arguments, dict(environment), folder, output)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("pgflow", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Started(Forked):
    """The program as it is installed."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path,
        output: Path,
    ) -> None:
        with output.open("w") as log:
            self._popen = subprocess.Popen(
                [str(Path(sys.executable).with_name("pgflow")), *arguments],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._popen.pid

    def poll(self) -> int | None:
        return self._popen.poll()

    def wait(self, timeout: float | None = None) -> int:
        return self._popen.wait(timeout)


def _run(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    folder: Path,
    output: Path,
) -> None:
    """Become the program: its variables, folder, streams and end."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    nothing, log = os.open(os.devnull, os.O_RDONLY), os.open(output, os.O_WRONLY)
    for number, file in enumerate((nothing, log, log)):
        os.dup2(file, number)
    os.close(nothing)
    os.close(log)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - ends with us
    sys.argv = ["pgflow", *arguments]
    from pgflow_cli.__main__ import main  # noqa: PLC0415 - nothing of it runs with us

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # a fork of multiprocessing leaves them out
