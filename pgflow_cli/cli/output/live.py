"""Rows on a terminal as they come, one below the other, until Ctrl-C."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from pgflow_cli.cli.output import cells, messages, terminal
from pgflow_cli.cli.output.cells import Column, Row
from pgflow_cli.formats import safe_text

_GAP = "  "
_WIDTHS = {"id": cells.SHORT_ID, "time": 8, "ms": 7, "seconds": 7, "number": 3}


def scroll(
    fetch: Callable[[], Iterable[Row]], columns: Sequence[Column], *, seconds: float
) -> None:
    """Write what is fetched every so many seconds; elsewhere than on a terminal as
    jsonl.
    """
    if not terminal.is_terminal(sys.stdout) or messages.is_machine():
        messages.watch(fetch, columns, seconds=seconds)
    shown = [column for column in columns if not column.wide]
    widths = _widths(shown)
    if terminal.display().headers:
        _write([column.title for column in shown], shown, widths)
    while True:
        for row in fetch():
            _write([_cell(column, row) for column in shown], shown, widths)
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


def _cell(column: Column, row: Row) -> str:
    value = column.of(row)
    wanted = terminal.display().times
    if isinstance(value, datetime) and wanted is None:
        # Lines stay where they are: what was now is not now any more.
        return value.astimezone(UTC).strftime("%H:%M:%S")
    return cells.readable(column, row, datetime.now(UTC), short=True, wanted=wanted)


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
