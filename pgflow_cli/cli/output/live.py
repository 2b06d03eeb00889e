"""Rows and lines on a terminal that move: in place of the ones before, or one below the
other, until Ctrl-C.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from pgflow_cli.cli.output import records, terminal
from pgflow_cli.cli.output.cells import Column, Row, Style
from pgflow_cli.formats import safe_text
from pgflow_cli.formats.values import json_of
from pgflow_cli.formats.words import SHORT_ID


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
        terminal.show(records.tabulated(last, shown, "plain", datetime.now(UTC)))
        return
    from rich.live import Live

    with Live(console=terminal.console(sys.stdout), auto_refresh=False) as screen:
        yield lambda rows: screen.update(
            records.rich_table(rows, shown, datetime.now(UTC), title), refresh=True
        )


def watch(
    fetch: Callable[[], Iterable[Row] | None],
    columns: Sequence[Column],
    *,
    seconds: float,
    title: str = "",
) -> None:
    """Show rows again and again until Ctrl-C; elsewhere than on a terminal as jsonl.

    It is fetched again every `seconds`; None ends it.
    """
    if not terminal.is_terminal(sys.stdout) or records.is_machine():
        picked = records.picked_columns(columns, "jsonl")
        while (rows := fetch()) is not None:
            for row in rows:
                sys.stdout.write(json_of(records.object_of(row, picked)) + "\n")
            sys.stdout.flush()
            time.sleep(seconds)
        return
    from rich.live import Live

    picked = records.picked_columns(columns, records.chosen_format())
    with Live(
        console=terminal.console(sys.stdout), screen=True, auto_refresh=False
    ) as screen:
        while (rows := fetch()) is not None:
            shown = records.rich_table(
                records.in_order(rows, columns), picked, datetime.now(UTC), title
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

    readable = terminal.for_reader(sys.stdout)
    with Live(
        console=terminal.console(sys.stdout), screen=True, auto_refresh=False
    ) as screen:
        yield lambda lines: screen.update(
            Text("\n".join(readable(safe_text.neutral(line)) for line in lines)),
            refresh=True,
        )


_GAP = "  "
_WIDTHS = {"id": SHORT_ID, "time": 8, "ms": 7, "seconds": 7, "number": 3}


def scroll(
    fetch: Callable[[], Iterable[Row]], columns: Sequence[Column], *, seconds: float
) -> None:
    """Write what is fetched every so many seconds; elsewhere than on a terminal as
    jsonl.
    """
    if not terminal.is_terminal(sys.stdout) or records.is_machine():
        watch(fetch, columns, seconds=seconds)
    shown = [column for column in columns if not column.wide]
    widths = _widths(shown)
    if terminal.display().headers:
        _write([column.title for column in shown], shown, widths)
    while True:
        # Lines stay where they are: what was now is not now any more.
        style = Style(
            short=True,
            now=datetime.now(UTC),
            times=terminal.display().times or "clock",
        )
        for row in fetch():
            _write([style.cell(column, row) for column in shown], shown, widths)
        time.sleep(seconds)


def _widths(columns: Sequence[Column]) -> list[int]:
    """Return the width of each column; those of text share what the others leave."""
    fixed = {
        n: max(_WIDTHS[column.kind], len(column.title))
        for n, column in enumerate(columns)
        if column.kind in _WIDTHS
    }
    whole = shutil.get_terminal_size().columns - len(_GAP) * (len(columns) - 1)
    share = (whole - sum(fixed.values())) // max(1, len(columns) - len(fixed))
    return [fixed.get(n, max(4, share)) for n in range(len(columns))]


def _write(texts: Sequence[str], columns: Sequence[Column], widths: list[int]) -> None:
    line = _GAP.join(
        f"{_cut(text, width):>{width}}"
        if column.kind == "number"
        else f"{_cut(text, width):<{width}}"
        for text, column, width in zip(texts, columns, widths, strict=True)
    )
    ascii_only = terminal.knows_ascii_only(sys.stdout)
    sys.stdout.write((safe_text.ascii_only(line) if ascii_only else line).rstrip())
    sys.stdout.write("\n")
    sys.stdout.flush()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
