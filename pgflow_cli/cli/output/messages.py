"""What is told on stderr, and what is asked there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli.output import terminal
from pgflow_cli.errors import PgflowError, Refused
from pgflow_cli.formats import safe_text
from pgflow_cli.telemetry import streams

if TYPE_CHECKING:
    pass

_UNCONFIRMED = "CONFIRMATION_REQUIRED"


def say(text: str) -> None:
    """Tell what was done, on stderr; --quiet leaves it out."""
    if not terminal.display().quiet:
        _tell(text)


def hint(text: str) -> None:
    """Tell what to do next, on stderr; --quiet leaves it out."""
    if not terminal.display().quiet:
        _tell(text, dim=True)


def warn(text: str) -> None:
    """Tell what is wrong but stops nothing, on stderr."""
    _tell(text, label="Warning", fg="yellow")


def complain(text: str, *hints: str, color: str | None = None) -> None:
    """Tell why the program ends, on stderr; no command runs any more to ask."""
    _tell(text, label="Error", fg="red", color=color)
    for line in hints:
        _tell(f"  {line}")


def tell(text: str) -> None:
    """Write a text on stderr, --quiet or not: the help of a group, a traceback."""
    _tell(text)


def confirm(question: str, *, yes: bool) -> None:
    """Ask `question?` unless `yes`; "no" is exit 1, no terminal a refusal."""
    if yes:
        return
    answer = _answer(f"{question}? [y/N]", "Try: --yes")
    if answer.lower() not in ("y", "yes"):
        raise PgflowError("not confirmed; nothing was changed")


def confirm_name(question: str, name: str, *, given: str | None) -> None:
    """Ask to type `name` before something severe, unless --confirm gave it."""
    if given is None:
        answer = _answer(f"{question}. Type {name} to go on:", f"Try: --confirm {name}")
        if answer != name:
            raise PgflowError("not confirmed; nothing was changed")
    elif given != name:
        raise Refused(
            f"--confirm does not name {name}; nothing was changed",
            reason_code=_UNCONFIRMED,
        )


def _answer(question: str, way_out: str) -> str:
    if not terminal.can_ask():
        raise Refused(
            "this needs a confirmation, and there is no terminal to ask at; nothing was"
            " changed",
            way_out,
            reason_code=_UNCONFIRMED,
        )
    return terminal.ask(
        terminal.for_reader(sys.stderr)(safe_text.neutral(question)) + " "
    )


def _tell(
    text: str,
    *,
    label: str = "",
    fg: str | None = None,
    dim: bool = False,
    color: str | None = None,
) -> None:
    readable = terminal.for_reader(sys.stderr)
    line = readable(safe_text.neutral_lines(text))
    if terminal.colored(sys.stderr, color or terminal.display().color):
        line = click.style(line, dim=True) if dim else line
        label = click.style(label, fg=fg, bold=True) if label else label
    try:
        sys.stderr.write(f"{label}: {line}\n" if label else f"{line}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        raise
    except OSError:
        streams.let_go(sys.stderr)  # a full disk there stops no command
