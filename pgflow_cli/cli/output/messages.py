"""Rows → table, plain, wide, json, jsonl, csv, tsv, ids, md on stdout; words → stderr.

Everything that may come from data is neutralised on its way: no text commands a
terminal or a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from pgflow_cli.cli.output import terminal
from pgflow_cli.cli.output.cells import (
    Column,
    Row,
    fitting,
    named,
    readable,
    sorted_rows,
)
from pgflow_cli.cli.output.terminal import progress
from pgflow_cli.errors import PgflowError, Refused, UsageError
from pgflow_cli.formats import safe_text
from pgflow_cli.formats.values import json_of, separated, text_of
from pgflow_cli.telemetry import streams

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "FORMATS",
    "TIMES",
    "Column",
    "complain",
    "confirm",
    "confirm_name",
    "hint",
    "is_machine",
    "live",
    "progress",
    "say",
    "tell",
    "warn",
    "watch",
    "watch_text",
    "width",
    "write",
    "write_document",
    "write_line",
    "write_record",
    "write_text",
]

FORMATS = ("table", "plain", "wide", "json", "jsonl", "csv", "tsv", "ids", "md")
TIMES = ("relative", "iso", "local", "unix")
_GAP = 2  # spaces between two columns
_UNCONFIRMED = "CONFIRMATION_REQUIRED"
_RIGHT = {"number", "share"}
_MACHINE = {"json", "jsonl", "csv", "tsv", "ids"}


def chosen_format() -> str:
    """Return the format that was asked for, else what suits the reader of stdout."""
    fitting = "table" if terminal.is_terminal(sys.stdout) else "plain"
    return terminal.display().format or fitting


def is_machine() -> bool:
    """Return whether a program will read stdout."""
    return chosen_format() in _MACHINE


def write(
    rows: Iterable[Row],
    columns: Sequence[Column],
    *,
    cursor: tuple[Any, Any] | None = None,
    now: datetime | None = None,
) -> None:
    """Write rows as asked for; jsonl, csv, tsv and ids are streamed.

    `cursor` is (created_at, id) of the last row if there are more. `now` is the
    database's time, where the caller knows it: relative times are reckoned from it.
    """
    form = chosen_format()
    picked = _picked(columns, form)
    rows = _sorted(rows, columns)
    moment = now or datetime.now(UTC)
    if form == "json":
        _write_document(rows, picked, cursor)
    elif form == "jsonl":
        for row in rows:
            sys.stdout.write(json_of(_object(row, picked)) + "\n")
    elif form == "ids":
        identity = _identity(columns)
        for row in rows:
            sys.stdout.write(safe_text.neutral(text_of(identity.of(row))) + "\n")
    elif form in ("csv", "tsv"):
        _write_separated(rows, picked, "," if form == "csv" else "\t")
    elif form in ("table", "wide"):
        _write_table(rows, picked, moment)
    else:
        terminal.show(_tabulated(rows, picked, form, moment))
    sys.stdout.flush()


def write_record(
    row: Row, columns: Sequence[Column], *, now: datetime | None = None
) -> None:
    """Write one object: a line for each field, or in json the object itself."""
    form = chosen_format()
    if form == "json":
        sys.stdout.write(json_of(_object(row, _picked(columns, form)), indent=2) + "\n")
        sys.stdout.flush()
    elif form in _MACHINE or form == "md":
        write([row], columns, now=now)
    else:
        picked, moment = _picked(columns, "wide"), now or datetime.now(UTC)
        width = max(len(column.title) for column in picked)
        short = form != "plain"
        write_text(
            f"{column.title:<{width}}  {_shown(column, row, moment, short=short)}"
            for column in picked
        )


def write_line(row: Row, columns: Sequence[Column]) -> None:
    """Write one object on a line of its own, as jsonl does, whatever was asked for."""
    sys.stdout.write(json_of(_object(row, _picked(columns, "jsonl"))) + "\n")
    sys.stdout.flush()


def width() -> int | None:
    """Return how wide the terminal is that shows stdout; None: it goes elsewhere."""
    tty = terminal.is_terminal(sys.stdout)
    return shutil.get_terminal_size().columns if tty else None


def write_document(document: Mapping[str, Any]) -> None:
    """Write one JSON object that is no list of rows."""
    sys.stdout.write(json_of(document, indent=2) + "\n")
    sys.stdout.flush()


def write_text(lines: Iterable[str], *, marks: Mapping[str, str] | None = None) -> None:
    """Write a screen of lines, paged if it overflows.

    `marks` gives a colour to words that a line may begin with.
    """
    readable = _for_reader(sys.stdout)
    coloured = terminal.colored(sys.stdout, terminal.display().color)
    terminal.show(
        "".join(
            f"{_marked(text, marks) if marks and coloured else text}\n"
            for text in (readable(safe_text.neutral(line)).rstrip() for line in lines)
        )
    )


@contextmanager
def live(
    columns: Sequence[Column], *, title: str = ""
) -> Iterator[Callable[[Iterable[Row]], None]]:
    """Hand out a function that shows rows in place of the ones before.

    Elsewhere than on a terminal only the last ones are written, at the end.
    """
    shown = list(columns)
    if not terminal.is_terminal(sys.stdout):
        last: list[Row] = []

        def keep(rows: Iterable[Row]) -> None:
            last[:] = rows

        yield keep
        terminal.show(_tabulated(last, shown, "plain", datetime.now(UTC)))
        return
    from rich.live import Live

    with Live(console=terminal.console(sys.stdout), auto_refresh=False) as screen:
        yield lambda rows: screen.update(
            _rich_table(rows, shown, datetime.now(UTC), title), refresh=True
        )


def watch(
    fetch: Callable[[], Iterable[Row] | None],
    columns: Sequence[Column],
    *,
    seconds: float,
    title: str = "",
) -> None:
    """Show rows again and again until Ctrl-C; elsewhere than on a terminal as jsonl.

    What is shown is fetched anew every so many seconds; None ends it.
    """
    if not terminal.is_terminal(sys.stdout) or is_machine():
        picked = _picked(columns, "jsonl")
        while (rows := fetch()) is not None:
            for row in rows:
                sys.stdout.write(json_of(_object(row, picked)) + "\n")
            sys.stdout.flush()
            time.sleep(seconds)
        return
    from rich.live import Live

    picked = _picked(columns, chosen_format())
    with Live(
        console=terminal.console(sys.stdout), screen=True, auto_refresh=False
    ) as screen:
        while (rows := fetch()) is not None:
            shown = _rich_table(
                _sorted(rows, columns), picked, datetime.now(UTC), title
            )
            screen.update(shown, refresh=True)
            time.sleep(seconds)


@contextmanager
def watch_text() -> Iterator[Callable[[Iterable[str]], None]]:
    """Hand out a function that shows lines in place of the ones before.

    On the terminal's other screen: what stood there comes back at the end.
    """
    from rich.live import Live
    from rich.text import Text

    readable = _for_reader(sys.stdout)
    with Live(
        console=terminal.console(sys.stdout), screen=True, auto_refresh=False
    ) as screen:
        yield lambda lines: screen.update(
            Text("\n".join(readable(safe_text.neutral(line)) for line in lines)),
            refresh=True,
        )


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
    """Ask `question?` unless `yes`; "no" is exit 1, and nobody to ask is refused."""
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
            "this needs a confirmation and nobody can be asked; nothing was changed",
            way_out,
            reason_code=_UNCONFIRMED,
        )
    return terminal.ask(_for_reader(sys.stderr)(safe_text.neutral(question)) + " ")


def _tell(
    text: str,
    *,
    label: str = "",
    fg: str | None = None,
    dim: bool = False,
    color: str | None = None,
) -> None:
    readable = _for_reader(sys.stderr)
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


def _marked(line: str, marks: Mapping[str, str]) -> str:
    word = line.split(maxsplit=1)[0] if line.strip() else ""
    if word not in marks:
        return line
    return line.replace(word, click.style(word, fg=marks[word], bold=True), 1)


def _for_reader(stream: Any) -> Callable[[str], str]:
    return safe_text.ascii_only if terminal.knows_ascii_only(stream) else str


def _sorted(rows: Iterable[Row], columns: Sequence[Column]) -> Iterable[Row]:
    return sorted_rows(rows, columns, terminal.display().sort)


def _picked(columns: Sequence[Column], form: str) -> list[Column]:
    wanted = terminal.display().columns
    if not wanted:
        whole = form == "wide" or form in _MACHINE
        return [column for column in columns if whole or not column.wide]
    return named(columns, wanted)


def _identity(columns: Sequence[Column]) -> Column:
    for column in columns:
        if column.kind == "id":
            return column
    raise UsageError("there are no ids here; choose another --output")


def _object(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    return {column.field: column.of(row) for column in columns}


def _write_document(
    rows: Iterable[Row], columns: Sequence[Column], cursor: tuple[Any, Any] | None
) -> None:
    """Write one document, item by item, so that a long one needs no memory."""
    sys.stdout.write('{"items": [')
    between = "\n  "
    for row in rows:
        sys.stdout.write(between + json_of(_object(row, columns)))
        between = ",\n  "
    created_at, identity = cursor or (None, None)
    cursors = {"next_cursor_created_at": created_at, "next_cursor_id": identity}
    end = json_of(cursors).removeprefix("{")
    sys.stdout.write(("\n" if between[0] == "," else "") + f"], {end}\n")


def _write_separated(
    rows: Iterable[Row], columns: Sequence[Column], separator: str
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    if terminal.display().headers:
        writer.writerow([column.field for column in columns])
    for row in rows:
        writer.writerow([separated(column.of(row)) for column in columns])
        sys.stdout.write(buffer.getvalue())
        buffer.seek(0)
        buffer.truncate()
    sys.stdout.write(buffer.getvalue())


def _write_table(rows: Iterable[Row], columns: Sequence[Column], now: datetime) -> None:
    screen = terminal.console(sys.stdout)
    with screen.capture() as capture:
        screen.print(_rich_table(rows, columns, now, ""))
    terminal.show(capture.get())


def _rich_table(
    rows: Iterable[Row], columns: Sequence[Column], now: datetime, title: str
) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headers = terminal.display().headers
    table = Table(
        title=safe_text.neutral(title) or None,
        title_justify="left",
        box=None if title == "" else box.SIMPLE_HEAD,
        show_header=headers,
        pad_edge=False,
        padding=(0, _GAP, 0, 0),
    )
    ascii_only = terminal.knows_ascii_only(sys.stdout)
    shown = [
        [_shown(column, row, now, short=True) for column in columns] for row in rows
    ]
    if terminal.is_terminal(sys.stdout) and not terminal.display().columns:
        columns = columns[: fitting(columns, shown, terminal.width(), _GAP)]
    for column in columns:
        # Text gives way when the screen is narrow; everything else stays whole.
        table.add_column(
            column.title,
            justify="right" if column.kind == "number" else "left",
            no_wrap=column.kind != "text",
        )
    for cells in shown:
        table.add_row(
            *(
                # Without wrapping, but only here: rich does not narrow a column that
                # may not wrap.
                Text(cell, no_wrap=True, overflow="crop" if ascii_only else "ellipsis")
                for cell in cells[: len(columns)]
            )
        )
    return table


def _tabulated(
    rows: Iterable[Row], columns: Sequence[Column], form: str, now: datetime
) -> str:
    import tabulate

    cells = [
        [_shown(column, row, now, short=False) for column in columns] for row in rows
    ]
    if form == "md":
        cells = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    headings = (
        [column.title for column in columns] if terminal.display().headers else ()
    )
    text = tabulate.tabulate(
        cells,
        headers=headings,
        tablefmt="github" if form == "md" else "plain",
        # Nothing is taken for a number: an id such as 12e34567 would turn into
        # infinity.
        disable_numparse=True,
        colalign=tuple(
            "right" if column.kind in _RIGHT else "left" for column in columns
        )
        if cells or headings
        else None,
    )
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _shown(column: Column, row: Row, now: datetime, *, short: bool) -> str:
    wanted = terminal.display().times
    cell = readable(column, row, now, short=short, wanted=wanted)
    return safe_text.ascii_only(cell) if terminal.knows_ascii_only(sys.stdout) else cell
