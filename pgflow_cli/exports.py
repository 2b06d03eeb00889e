"""Writes dead letters to a file that is whole or not there, or to a stream."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from io import TextIOWrapper
from typing import TextIO

from pgflow_cli.errors import OutputFailed
from pgflow_cli.formats import values
from pgflow_cli.local import output_files
from pgflow_cli.models.dead_letters import ExportedLetter
from pgflow_cli.models.selection import JobFilter, Position
from pgflow_cli.repository import Repository

FORMATS = ("jsonl", "csv")
_PAGE = 100  # payloads may be large
_NOT_ASCII = re.compile(r"[^ -~]")
_NAMES = tuple(field.name for field in fields(ExportedLetter))
_JSON = ("meta", "payload")  # JSON texts, last

Write = Callable[[ExportedLetter], None]


def export(repository: Repository, chosen: JobFilter, *, form: str, target: str) -> int:
    """Write every open dead letter of a filter; return how many they are.

    `target` is a path, or `-` for stdout. Raises OutputFailed if it cannot be written;
    then there is no such file.
    """
    total = 0
    try:
        with _opened(target) as stream:
            write = _writer(form, stream)
            for letter in _letters(repository, chosen):
                write(letter)
                total += 1
            stream.flush()
    except OSError as error:
        if target == "-" and isinstance(error, BrokenPipeError):
            raise
        name = "stdout" if target == "-" else target
        raise OutputFailed(f"cannot write {name}: {error.strerror}") from None
    return total


def _letters(repository: Repository, chosen: JobFilter) -> Iterator[ExportedLetter]:
    after: Position | None = None
    while rows := repository.export_dead_letters(chosen, limit=_PAGE, after=after):
        yield from rows
        after = rows[-1].position


def _writer(form: str, stream: TextIO) -> Write:
    if form == "jsonl":
        return lambda letter: _write_line(stream, letter)
    table = csv.writer(stream, lineterminator="\n")
    table.writerow([*_NAMES[:-2], "meta", "payload_json"])

    def write(letter: ExportedLetter) -> None:
        table.writerow([values.separated(getattr(letter, name)) for name in _NAMES])

    return write


def _write_line(stream: TextIO, letter: ExportedLetter) -> None:
    """Write an object; payload and meta as the database's own text, in ASCII.

    Decoded and encoded again, a number beyond float64 would be another one.
    """
    plain = {name: getattr(letter, name) for name in _NAMES if name not in _JSON}
    meta, payload = (_ascii(getattr(letter, name) or "null") for name in _JSON)
    head = values.json_of(plain).removesuffix("}")
    stream.write(f'{head}, "meta": {meta}, "payload_json": {payload}}}\n')


def _ascii(text: str) -> str:
    # Outside of strings JSON is ASCII, so an escape is the same document.
    return _NOT_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], text)


@contextmanager
def _opened(target: str) -> Iterator[TextIO]:
    """Hand out a stream; a file gets its name when all of it is on the disk."""
    if target == "-":
        yield sys.stdout
        return
    with output_files.opened(target) as file:
        stream = TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        yield stream
