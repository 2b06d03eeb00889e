"""Runs `pgflow` to its end: started, or in a fork of a process that has imported it.

A start is 0.3 s of imports, and the tests of the commands have a thousand of them.
Tests of the start itself, of signals and of pipes start it.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from pgflow_cli.cli import program

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    [
        *(f"pgflow_cli.commands.{name.replace('-', '_')}" for name in program.COMMANDS),
        "pgflow_cli.repository",
        "pgflow_cli.cli.output.cells",
        "psycopg",
        "rich.console",
        "tabulate",
    ]
)


_SECONDS = 120


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
    """Fork the process that has imported everything."""
    with TemporaryDirectory() as ours:
        files = [Path(ours) / name for name in ("stdin", "stdout", "stderr")]
        for file, text in zip(files, (input or "", "", ""), strict=True):
            file.write_text(text, encoding="utf-8", newline="")
        process = _FORKING.Process(
            target=_run, args=(arguments, dict(environment), folder, files)
        )
        process.start()
        process.join(_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(["pgflow", *arguments], _SECONDS)
        out, err = (file.read_bytes().decode() for file in files[1:])
        return subprocess.CompletedProcess(
            ["pgflow", *arguments], process.exitcode, out, err
        )


def _run(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    folder: Path,
    files: list[Path],
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in enumerate(files):
        opened = os.open(file, os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - ends with us
    sys.argv = ["pgflow", *arguments]
    program.main()
