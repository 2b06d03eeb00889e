"""A pseudo-terminal of a size, for programs that behave otherwise on one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pexpect.fdpexpect import fdspawn

from tests.support import executable

UTF_8 = {"TERM": "xterm", "LC_ALL": "C.UTF-8"}
PREAMBLE = """
import sys
from pgflow_cli.cli.output import live, messages, records, terminal
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.program import Program
from pgflow_cli.cli.context import command
from datetime import UTC, datetime, timedelta

@command("run")
@common.list_options
def run():
    {body}

Program("pgflow", commands=[run])(["run", *sys.argv[1:]], prog_name="pgflow")
"""


@dataclass(frozen=True)
class Seen:
    """What a person saw on the terminal, and the exit code."""

    text: str
    code: int

    @property
    def lines(self) -> list[str]:
        """The lines without their colours."""
        plain = re.sub(r"\x1b\[[0-9;]*m", "", self.text)
        return plain.replace("\r\n", "\n").splitlines()


def program(body: str) -> list[str]:
    """Return the words that run a program whose one command has this body."""
    indented = body.strip().replace("\n", "\n    ")
    return [sys.executable, "-c", PREAMBLE.replace("{body}", indented)]


def on_a_terminal(
    words: list[str],
    *,
    variables: Mapping[str, str] | None = None,
    size: tuple[int, int] = (24, 80),
    typed: str = "",
    stdout: int | None = None,
) -> Seen:
    """Run a program on a terminal of rows and columns, typing a text at once."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    silent = termios.tcgetattr(theirs)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, silent)
    code, arguments = (words[2], words[3:]) if words[1] == "-c" else (None, words[1:])
    process = executable.Fork(
        *arguments,
        environment={**os.environ, **UTF_8, **(variables or {})},
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs,
        code=code,
    )
    os.close(theirs)
    try:
        os.write(ours, typed.encode())
        text = _everything(ours)
        return Seen(text, process.wait(timeout=30))
    finally:
        os.close(ours)
        process.kill()


class Screen(fdspawn):
    """A run on a terminal of its own, where pexpect types and reads."""

    def __init__(
        self, *arguments: str, variables: Mapping[str, str], size: tuple[int, int]
    ) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.process = executable.Fork(
            *arguments,
            environment={**os.environ, **UTF_8, **variables},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            terminal=True,
        )
        os.close(theirs)
        super().__init__(ours, timeout=30, encoding="utf-8")

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.close()


def _everything(descriptor: int) -> str:
    """Read until the last program has closed the terminal."""
    parts = []
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        ready, _, _ = select.select([descriptor], [], [], 1)
        if not ready:
            continue
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # Linux: nobody holds the other end any more
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")
