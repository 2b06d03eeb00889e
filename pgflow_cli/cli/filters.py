"""The options that several commands share to say which jobs, and which page of them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from pgflow_cli.cli.output import live, messages, records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import common
from pgflow_cli.cli.settings.types import (
    NAME,
    TYPE,
    InstantType,
    Json,
    Kind,
    Known,
    Number,
    Seconds,
)
from pgflow_cli.errors import UsageError
from pgflow_cli.models.selection import (
    FILTER_FIELDS,
    MOST_ROWS,
    PATTERNS,
    STATUSES,
    FilterField,
    JobFilter,
    Page,
    Position,
    position_of,
    token,
)

F = TypeVar("F", bound=Callable[..., Any])

# What dead letters are filtered by, wherever they are chosen.
DEAD_LETTERS = tuple(name for name in FILTER_FIELDS if name != "statuses")


class _Pattern(Known):
    def __init__(self, name: str, suggests: str = "") -> None:
        super().__init__(name, suggests)
        self.form, self.expects = PATTERNS[name].form, PATTERNS[name].expects

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        if not self.form.fullmatch(str(value)):
            self.refuse(param, ctx)
        return str(value)


class _Meta(Kind):
    name = "K=V"
    expects = "a key and a value with = between them"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, separator, text = str(value).partition("=")
        if not separator or not key:
            self.refuse(param, ctx)
        return key, text


_KINDS: dict[str, click.ParamType[Any] | None] = {
    "queue": _Pattern("queue", "queue"),
    "job_type": TYPE,
    "code": _Pattern("code"),
    "fingerprint": _Pattern("fingerprint"),
    "status": click.Choice(STATUSES),
    "name": NAME,
    "time": InstantType("past"),
    "text": None,
    "json": Json(),
    "pair": _Meta(),
    "id": None,
}


def filter_options(*names: str) -> Callable[[F], F]:
    """Give a command these filters; it is called with `chosen`, a `JobFilter`.

    The names are fields of `JobFilter`. Filters have no variables: PGFLOW_QUEUE must
    not narrow what an operator sees.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def wrapped(*args: Any, **options: Any) -> Any:
            values = {name: options.pop(name) for name in names}
            return function(*args, chosen=_filter(values), **options)

        command: Any = wrapped
        for name in reversed(names):
            command = _option(name, FILTER_FIELDS[name])(command)
        return command  # type: ignore[no-any-return]

    return decorate


def _option(name: str, asked: FilterField) -> Callable[[F], F]:
    words = asked.flags.split()
    return click.option(
        *(word for word in words if word.startswith("-")),
        name,
        type=_KINDS[asked.kind],
        multiple=asked.several,
        metavar=None if words[-1].startswith("-") else words[-1],
        help=f"{asked.help}{'; repeatable' if asked.several else ''}.",
    )


def page_options(function: F) -> F:
    """Give a command the options of result pages; it is called with `page`."""

    @functools.wraps(function)
    def wrapped(
        *args: Any, limit: int, cursor: str | None, all_pages: bool, **options: Any
    ) -> Any:
        after = position_of(cursor) if cursor else None
        return function(*args, page=Page(limit, after, all_pages), **options)

    added = (
        click.option(
            "--limit",
            type=Number(1, MOST_ROWS),
            default=50,
            show_default=True,
            metavar="N",
            help="How many rows at most.",
        ),
        click.option("--cursor", metavar="TOKEN", help="Where the last page ended."),
        click.option("--all-pages", is_flag=True, help="Every row, in one stream."),
        common.list_options,
    )
    command: Any = wrapped
    for option in reversed(added):
        command = option(command)
    return command  # type: ignore[no-any-return]


def watch_option(function: F) -> F:
    """Give a command -w/--watch; it is called with `watch`, seconds or None."""
    option = click.option(
        "-w",
        "--watch",
        type=Seconds(0.1, 3600),
        is_flag=False,
        flag_value="2s",
        metavar="[SECS]",
        help="Show it again and again; every 2s, unless told.",
    )
    return option(function)


def show_page(
    page: Page,
    fetch: Callable[[int, Position | None], Sequence[Any]],
    columns: Sequence[Column],
    *,
    watch: float | None = None,
) -> None:
    """Write a page of rows that know their `position`, and say how to get the next."""
    if watch is not None:
        live.watch(lambda: fetch(page.limit, page.after), columns, seconds=watch)
    rows, more = page.read(fetch, lambda row: row.position)
    records.write(rows, columns, cursor=more)
    if more is not None:
        messages.hint(f"{page.limit} shown. Next page: --cursor {token(more)}")


def _filter(values: dict[str, Any]) -> JobFilter:
    meta = values.pop("meta", ())
    if meta:
        values["meta"] = json.dumps(dict(meta))
    replay_of = values.get("replay_of")
    if replay_of is not None and not re.fullmatch("[0-9a-fA-F-]{32,36}", replay_of):
        raise UsageError("--replay-of takes a full job id")
    match = values.get("match")
    if match is not None and "\0" in match:
        raise UsageError("--match cannot contain a NUL character")
    return JobFilter(**values)
