"""What the terminal can do and was asked for: colour, width, pager, questions, bars."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

import click

from pgflow_cli.cli import startup
from pgflow_cli.formats import safe_text

if TYPE_CHECKING:
    from rich.console import Console

_META = "pgflow_cli.cli.output.terminal.display"


@dataclass(frozen=True, slots=True)
class Display:
    """How the operator wants to see things; None leaves it to who reads."""

    format: str | None = None
    times: str | None = None
    color: str = "auto"
    columns: tuple[str, ...] = ()
    headers: bool = True
    sort: str | None = None
    pager: str | None = None
    quiet: bool = False
    ask: bool = True

    def keep(self, ctx: click.Context) -> None:
        """Make this the display of the running command."""
        ctx.meta[_META] = self


def display() -> Display:
    """Return the display of the running command; outside of one, the default."""
    ctx = click.get_current_context(silent=True)
    found = ctx.meta.get(_META) if ctx is not None else None
    return found if isinstance(found, Display) else Display()


def is_terminal(stream: TextIO) -> bool:
    """Return whether the stream is a terminal; a closed one is none."""
    try:
        return stream.isatty()
    except ValueError:
        return False


def colored(stream: TextIO, wanted: str = "auto") -> bool:
    """Ask the option, then NO_COLOR, FORCE_COLOR and TERM, then who reads."""
    if wanted != "auto":
        return wanted == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and is_terminal(stream)


def knows_ascii_only(stream: TextIO) -> bool:
    """Return whether the reader wants ASCII, or the stream cannot carry more."""
    asked = os.environ.get("LC_ALL") in ("C", "POSIX") and is_terminal(stream)
    encoding = (stream.encoding or "ascii").lower().replace("-", "")
    return asked or not encoding.startswith("utf")


def console(stream: TextIO) -> Console:
    """Return rich's view of a stream; colour by our rules, nothing taken for markup."""
    from rich.console import Console

    tty = is_terminal(stream)
    color = colored(stream, display().color)
    return Console(
        file=stream,
        force_terminal=tty or color,
        no_color=not color,
        color_system="standard" if color else None,
        markup=False,
        highlight=False,
        emoji=False,
        width=None if tty else shutil.get_terminal_size().columns,
        legacy_windows=False,
        safe_box=knows_ascii_only(stream),
    )


def width() -> int:
    """Return how many columns the terminal has."""
    return shutil.get_terminal_size().columns


def show(text: str) -> None:
    """Write a screen; between two terminals, through a pager if it overflows."""
    command = display().pager
    between_terminals = is_terminal(sys.stdin) and is_terminal(sys.stdout)
    overflows = text.count("\n") >= shutil.get_terminal_size().lines
    if command and between_terminals and overflows and _paged(text, command):
        return
    # Line by line: with PYTHONUNBUFFERED one long write that a closing pipe cuts short
    # passes for a whole one.
    sys.stdout.writelines(text.splitlines(keepends=True))
    sys.stdout.flush()


def _paged(text: str, command: str) -> bool:
    import subprocess  # costs 2 ms of a start, and most runs start no pager

    try:
        words = shlex.split(command)
        pager = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            env={**os.environ, "LESS": "FIRX"},
            encoding="utf-8",
            errors="backslashreplace",
        )
    except (OSError, ValueError):
        return False
    try:
        pager.communicate(text)
    except KeyboardInterrupt:
        # The pager takes Ctrl-C for itself; it ends with q.
        pager.wait()
    return True


class FullScreen:
    """The alternate screen of a terminal, and its keys; see `fullscreen`."""

    STYLES: ClassVar = {"strong": "bold", "dim": "dim", "alarm": "bold red"}

    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._typed: deque[str] = deque()

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and rows, as they are now."""
        return self._shown.console.width, self._shown.console.height

    @property
    def ascii_only(self) -> bool:
        """Whether it shows ASCII and nothing else."""
        return knows_ascii_only(sys.stdout)

    def show(self, lines: Sequence[Any]) -> None:
        """Show lines, each a text and a style, in place of all others."""
        from rich.text import Text

        readable = safe_text.ascii_only if self.ascii_only else str
        page = Text(no_wrap=True, overflow="crop")
        for number, line in enumerate(lines):
            text = readable(safe_text.neutral(line.text))
            page.append("\n" if number else "")
            page.append(text, self.STYLES.get(line.style, ""))
        self._shown.update(page, refresh=True)

    def key(self, seconds: float) -> str | None:
        """Return a key that is pressed within so many seconds; None if none is."""
        if self._typed:
            return self._typed.popleft()
        if not is_terminal(sys.stdin) or sys.platform == "win32":
            return _key_of_windows(seconds)
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        if not ready:
            return None
        typed = os.read(sys.stdin.fileno(), 1024)
        if not typed:  # the terminal is gone
            raise KeyboardInterrupt
        # Arrows and the like begin as Esc does; none of them means anything here.
        if len(typed) == 1 or not typed.startswith(b"\x1b"):
            self._typed.extend(typed.decode("utf-8", "replace"))
        return self._typed.popleft() if self._typed else None


def _key_of_windows(seconds: float) -> str | None:
    if sys.platform != "win32" or not is_terminal(sys.stdin):
        time.sleep(seconds)
        return None
    import msvcrt

    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if msvcrt.kbhit():
            return msvcrt.getwch()
        time.sleep(0.05)
    return None


@contextmanager
def fullscreen() -> Iterator[FullScreen]:
    """Take the whole terminal and every key; give both back, whatever happens."""
    from rich.live import Live

    def stop(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: startup.act_on(number, stop) for number in numbers}
    try:
        with (
            _every_key(),
            Live(console=console(sys.stdout), screen=True, auto_refresh=False) as shown,
        ):
            yield FullScreen(shown)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _every_key() -> Iterator[None]:
    """Have the terminal hand on each key at once, and not show it."""
    if not is_terminal(sys.stdin) or sys.platform == "win32":
        yield
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def ask(question: str) -> str:
    """Put a question on stderr and return the line that is typed."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def can_ask() -> bool:
    """Return whether questions can be answered: stdin and stderr are terminals."""
    return display().ask and is_terminal(sys.stdin) and is_terminal(sys.stderr)


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Hand out a function that counts; after 1 s a terminal's stderr shows a bar."""
    if display().quiet or not is_terminal(sys.stderr):
        yield lambda _steps: None
        return
    bar = _Bar(label, total)
    try:
        yield bar.advance
    finally:
        bar.end()


class _Bar:
    """A bar that loads rich when it first shows."""

    PATIENCE = 1.0

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total = safe_text.neutral(label), total
        self._done = 0
        self._since = time.monotonic()
        self._shown: Any = None
        self._task: Any = None

    def advance(self, steps: int) -> None:
        self._done += steps
        if self._shown is not None:
            self._shown.update(self._task, completed=self._done)
        elif time.monotonic() - self._since >= self.PATIENCE:
            self._show()

    def end(self) -> None:
        if self._shown is not None:
            self._shown.stop()

    def _show(self) -> None:
        from rich import progress as rich_progress

        self._shown = rich_progress.Progress(
            rich_progress.TextColumn("{task.description}", markup=False),
            rich_progress.BarColumn(),
            rich_progress.MofNCompleteColumn(),
            rich_progress.TimeElapsedColumn(),
            console=console(sys.stderr),
            transient=True,
        )
        self._task = self._shown.add_task(
            self._label, total=self._total, completed=self._done
        )
        self._shown.start()


def for_reader(stream: Any) -> Callable[[str], str]:
    """Return the function that turns a text into one that a stream can carry."""
    return safe_text.ascii_only if knows_ascii_only(stream) else str
