"""What every change by an operator shares: preview, question, limit, and who it was."""

from __future__ import annotations

import functools
import getpass
import shlex
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from pgflow_cli.cli import settings
from pgflow_cli.cli.output import messages, records, reports
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.database import database_url
from pgflow_cli.cli.settings.option import Session
from pgflow_cli.cli.settings.types import Number
from pgflow_cli.errors import NotFound, UsageError
from pgflow_cli.formats import safe_text
from pgflow_cli.models import selection
from pgflow_cli.models.audit import Operator
from pgflow_cli.models.selection import JobFilter

F = TypeVar("F", bound=Callable[..., Any])

_LONGEST_NOTE = 1000
_DRY = ("-n", "--dry-run")


@dataclass(frozen=True, slots=True)
class Change:
    """How a change was asked for; `everything` is --all, `most` is --max."""

    dry_run: bool
    yes: bool
    operator: Operator
    everything: bool = False
    most: int = 10_000
    batch_size: int = 500

    def require_selection(self, ids: Sequence[str], chosen: JobFilter) -> None:
        """Refuse a change of nothing in particular, and one that is said twice."""
        selection.require_choice(ids, chosen, everything=self.everything, name=flag)

    def require_at_most(self, count: int) -> None:
        """Refuse a change of more jobs than --max."""
        selection.require_at_most(count, self.most, name=flag)

    def confirm(self, question: str, *, count: int = 1) -> None:
        """Ask before a change of several jobs, of one in production; else go on.

        `question` has no question mark; where the jobs are is added. "No" is exit 1,
        no terminal to ask on is exit 4.
        """
        if count > 1 or common.production.value():
            messages.confirm(f"{question} ({where()})", yes=self.yes)


def flag(name: str) -> str:
    """Return the flag of a field, as an operator types it."""
    return f"--{name.replace('_', '-')}"


def where() -> str:
    """Return the database and the profile, as questions and previews name them."""
    from pgflow_cli.repository import Database

    name = Database(database_url()).display()
    profile = settings.given("profile")
    return f"database {name}" + (f", profile {profile}" if profile else "")


def command_line(
    *, run: bool = False, confirm: str | None = None, asks: bool = True
) -> str:
    """Return the command as it was typed, without secrets.

    `run`: as it does what its dry run has shown; a severe one with `confirm`.
    """
    words = list(Session.current().arguments)
    if run:
        words = [word for word in words if word not in _DRY]
        consent = ["--yes"] if confirm is None else ["--confirm", confirm]
        given = {"--yes", "-y", "--confirm"} & set(words)
        words += consent if asks and not given else []
    return shlex.join(["pgflow", *_without_secrets(words)])


def tell_dry_run(
    preview: Iterable[str] = (),
    *,
    confirm: str | None = None,
    place: str | None = None,
    asks: bool = True,
) -> None:
    """Say on stderr that nothing was changed, and print the command that does it.

    `preview` are lines that stand before the command, `confirm` is the name that a
    severe change asks for, `place` the database if it is not the usual one. A change
    that never asks takes no --yes.
    """
    changed = where() if place is None else f"database {place}"
    messages.say(f"DRY RUN, nothing changed. {changed[:1].upper()}{changed[1:]}")
    run = command_line(run=True, confirm=confirm, asks=asks)
    lines = [*preview, f"Run      {run}"]
    if records.is_machine():
        # Programs read stdout; there may be a document on it already.
        for line in lines:
            messages.say(line)
    else:
        records.write_text(lines)


def tell_tally(done: Mapping[str, int], names: Mapping[str, int | None]) -> None:
    """Write how a change of many has ended: what was done how often, and where it is
    recorded; a name that is None is left out.

    `replayed 14, skipped 0, failed 0 (plan 57, action 381)`, or an object.
    """
    counts = ", ".join(f"{what} {number:,}" for what, number in done.items())
    known = ", ".join(f"{name} {n}" for name, n in names.items() if n is not None)
    line = f"{counts} ({known})" if known else counts
    with reports.after(line):
        # Not an error, now that it is done: ids were asked for, and there are none.
        if records.is_machine() and records.chosen_format() != "ids":
            row = {**done, **names}
            records.write_record(row, [Column(name) for name in row])
        else:
            records.write_text([line])


def read_ids(given: Iterable[str]) -> list[str]:
    """Return ids as given, with `-` and `@file` replaced by the lines they hold.

    Each comes once, in the order given. Empty lines and lines with # are passed over.
    """
    return list(dict.fromkeys(_each_id(given)))


def change_options(
    *,
    bulk: bool = False,
    most: int = 100_000_000,
    preview: bool = True,
    yes: bool = True,
    everything: bool = True,
    reported: bool = True,
) -> Callable[[F], F]:
    """Give a command the options of a change; it is called with `change`.

    `bulk` adds those of a change of many jobs: --all, --max, which is at most `most`,
    and --batch-size. `preview`
    adds --dry-run, `yes` adds --yes: a severe change has --confirm NAME instead.
    Without `everything` there is no --all, because it is always all of something. What
    is `reported` on stdout is not even begun where stdout is closed.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **options: Any) -> Any:
            asked = {
                "dry_run": options.pop("dry_run", False),
                "yes": options.pop("yes", False),
                "operator": _operator(options.pop("note"), options.pop("actor")),
            }
            if bulk:
                asked["everything"] = options.pop("everything", False)
                asked["most"] = options.pop("most")
                asked["batch_size"] = options.pop("batch_size")
            if reported:
                reports.require_stdout()
            return function(*args, change=Change(**asked), **options)

        command: Any = common.actor(wrapped)
        for flags, attributes in reversed(
            [*_options(bulk, most, preview, yes, everything)]
        ):
            command = click.option(*flags, **attributes)(command)
        return command  # type: ignore[no-any-return]

    return decorate


def _options(
    bulk: bool, most: int, preview: bool, yes: bool, everything: bool
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    if preview:
        yield _DRY, {"is_flag": True, "help": "Change nothing; say what would be."}
    if yes:
        yield ("-y", "--yes"), {"is_flag": True, "help": "Do not ask."}
    if bulk and everything:
        yield ("--all", "everything"), {"is_flag": True, "help": "Really all of them."}
    yield (
        ("--note",),
        {"metavar": "TEXT", "help": "Why; it stands in the audit."},
    )
    if bulk:
        yield (
            ("--max", "most"),
            {
                "type": Number(1, most),
                "default": 10_000,
                "show_default": True,
                "metavar": "N",
                "help": "Refuse to change more jobs than this.",
            },
        )
        yield (
            ("--batch-size",),
            {
                "type": Number(1, 5_000),
                "default": 500,
                "show_default": True,
                "metavar": "N",
                "help": "How many jobs to change in one transaction.",
            },
        )


def operator() -> Operator:
    """Return who changes something by a command without the options of a change."""
    return _operator(None, common.actor.value())


def _operator(note: str | None, actor: str | None) -> Operator:
    if note is not None and (len(note) > _LONGEST_NOTE or "\0" in note):
        raise UsageError(f"--note takes up to {_LONGEST_NOTE} characters, no NUL")
    return Operator(actor or _default_actor(), command_line(), note or None)


def _default_actor() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _each_id(given: Iterable[str]) -> Iterator[str]:
    for word in given:
        if word == "-":
            yield from _lines(sys.stdin.read())
        elif word.startswith("@"):
            yield from _lines(_text_of(Path(word[1:])))
        else:
            yield word


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from None


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        word = line.strip()
        if word and not word.startswith("#"):
            yield word


def _without_secrets(words: Sequence[str]) -> Iterator[str]:
    hide = False
    for word in words:
        yield "***" if hide else safe_text.redact(word)
        hide = word == "--database-url"
