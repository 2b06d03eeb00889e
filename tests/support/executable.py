"""Runs `pgflow`: started, or in a fork of a process that has imported it.

A start is 0.3 s of imports, and the tests of the commands have a thousand of them.
Tests of the start itself, of signals and of pipes start it.
"""

from __future__ import annotations

import atexit
import gc
import json
import multiprocessing
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Protocol

import pgflow_cli
from pgflow_cli import __main__ as program
from pgflow_cli.repository import sqlfiles

_SECONDS = 120
# What a command imports when it is run, of other packages.
_LAZY = (
    "click.shell_completion",
    "psycopg",
    "rich.console",
    "rich.live",
    "rich.progress",
    "rich.table",
    "tabulate",
)


class Runs(Protocol):
    """Runs it with text in UTF-8, as `subprocess.run` would."""

    def __call__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path,
        input: str | None,  # noqa: A002 - named as in subprocess.run
    ) -> subprocess.CompletedProcess[str]: ...


def start(
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    input: str | None,  # noqa: A002
) -> subprocess.CompletedProcess[str]:
    """Start the program that is installed."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("pgflow")), *arguments],
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        env=environment,
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=_SECONDS,
    )


def fork(
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    input: str | None,  # noqa: A002
) -> subprocess.CompletedProcess[str]:
    """Have the process that has imported everything fork itself."""
    with TemporaryFile() as stdin:
        stdin.write((input or "").encode("utf-8", "surrogateescape"))
        stdin.seek(0)
        run = Fork(*arguments, environment=environment, folder=folder, stdin=stdin)
        try:
            out, err = run.communicate()
        except subprocess.TimeoutExpired:
            run.kill()
            raise
    return subprocess.CompletedProcess(["pgflow", *arguments], run.wait(), out, err)


class Fork:
    """A run in a fork: what the tests need of a `subprocess.Popen`.

    Its streams are files of ours, or those that are given. `code` is run instead of
    `pgflow`; with `terminal`, that which is its stdin is its controlling terminal.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        folder: Path | str = ".",
        stdin: IO[Any] | int | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
        code: str | None = None,
        terminal: bool = False,
    ) -> None:
        self.arguments = ["pgflow", *arguments]
        self._code: int | None = None
        self._opened = ExitStack()
        given = [
            self._opened.enter_context(TemporaryFile()) if file is None else file  # noqa: SIM115
            for file in (stdin, stdout, stderr)
        ]
        self._written = given[1:]
        request = [arguments, {**environment}, os.path.abspath(folder), code, terminal]
        ours, theirs = socket.socketpair()
        self._told = self._opened.enter_context(ours)
        with theirs, TemporaryFile() as file:
            file.write(json.dumps(request).encode())
            file.seek(0)
            _server.fork(theirs, file, *given)
        self.pid = self._number(_SECONDS)

    def __del__(self) -> None:
        self._opened.close()

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        if self._code is None and select.select([self._told], [], [], 0)[0]:
            self._code = self._number(_SECONDS)
        return self._code

    def wait(self, timeout: float | None = _SECONDS) -> int:
        """Return its exit code, or the number of its signal below zero."""
        if self._code is None:
            self._code = self._number(timeout)
        return self._code

    def communicate(self, timeout: float = _SECONDS) -> tuple[str, str]:
        """Wait for its end, and read what it has written to stdout and stderr."""
        self.wait(timeout)
        for file in self._written:
            file.seek(0)
        out, err = (file.read().decode() for file in self._written)
        self._opened.close()
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # else its number may be another's by now
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def returncode(self) -> int | None:
        """The exit code, once it was waited for."""
        return self._code

    def _number(self, seconds: float | None) -> int:
        self._told.settimeout(seconds)
        try:
            [number] = struct.unpack("i", self._told.recv(4))
        except TimeoutError:
            raise subprocess.TimeoutExpired(self.arguments, seconds or 0) from None
        return int(number)


class _Server:
    """The process that forks: started when it is first asked, ends with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def fork(self, *files: Any) -> None:
        """Pass the files of a run: where it tells of itself, what is to be run, stdin,
        stdout and stderr.
        """
        numbers = [file if isinstance(file, int) else file.fileno() for file in files]
        with self._lock:
            if self._socket is None:
                self._socket = self._started()
            socket.send_fds(self._socket, [b"x"], numbers)

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from tests.support import"
            f" executable; executable.serve({theirs.fileno()})"
        )
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd="/",
            )

        def end() -> None:
            ours.close()
            process.wait()

        atexit.register(end)
        return ours


_server = _Server()


def serve(number: int) -> None:
    """Fork for each that asks through a socket, until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests end it
    _preload()
    forking = multiprocessing.get_context("fork")
    running: dict[Any, tuple[Any, socket.socket]] = {}
    with socket.socket(fileno=number) as asked:
        while True:
            for ready in wait([asked, *running]):
                if ready is asked:
                    _, files, _, _ = socket.recv_fds(asked, 1, 5)
                    if not files:
                        for process, _ in running.values():
                            process.kill()
                        return
                    process = forking.Process(target=_run, args=(files[1:],))
                    process.start()
                    for file in files[1:]:
                        os.close(file)
                    running[process.sentinel] = process, socket.socket(fileno=files[0])
                    _tell(running[process.sentinel][1], process.pid)
                else:
                    process, teller = running.pop(ready)
                    process.join()
                    with teller:
                        _tell(teller, process.exitcode)
                    process.close()


def _preload() -> None:
    """Import and read all that a run may need."""
    for module in pkgutil.walk_packages(pgflow_cli.__path__, "pgflow_cli."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in _LAZY:
        import_module(name)
    for name in sqlfiles.queries():
        sqlfiles.statement(name)
    gc.freeze()  # or the first collection of each run copies all of it


def _tell(teller: socket.socket, number: int | None) -> None:
    with suppress(BrokenPipeError):  # it no longer listens
        teller.sendall(struct.pack("i", number))


def _run(files: list[int]) -> None:
    with open(files[0], encoding="utf-8") as request:
        arguments, environment, folder, code, terminal = json.load(request)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if terminal:
        os.login_tty(os.dup(files[1]))
    for number, file in enumerate(files[1:]):
        os.dup2(file, number)
        os.close(file)
    # Made for these files: those of before know whether they could seek.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False
    )
    sys.argv = ["pgflow", *arguments]
    try:
        if code is None:
            program.main()
        else:
            exec(code, {"__name__": "__main__"})  # noqa: S102 - of the tests
    finally:
        atexit._run_exitfuncs()  # a fork of multiprocessing leaves them out
