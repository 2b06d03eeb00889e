"""A question about one job: what `explain` and `timeline` take, and how they answer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pgflow_cli import output, settings
from pgflow_cli.filters import watch_option
from pgflow_cli.parameters import Kind
from pgflow_cli.portraits import Wish, follow, present

if TYPE_CHECKING:
    from pgflow_cli.explanation import Explanation
    from pgflow_cli.formats.times import Instant
    from pgflow_cli.repository import Repository

F = TypeVar("F", bound=Callable[..., Any])

_ALL = 0
_FEW = 3
CHECK_FAILED = 5


class _HowMany(Kind):
    """A whole number, or `all`, which is given on as 0."""

    name = "N|all"
    expects = "a whole number from 1, or all"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if value == "all":
            return _ALL
        most = settings.Number(1, 1_000_000)
        return value if value == _ALL else most.convert(value, param, ctx)


@dataclass(frozen=True, slots=True)
class Question:
    """Which job, and what of it."""

    job_id: str
    payload: bool
    attempts: int | None
    bundle: str | None
    exit_code: bool
    since: Instant
    watch: float | None

    @property
    def shown(self) -> int | None:
        """How many attempts to tell; None: all, as programs want them."""
        if self.attempts is None:
            return None if output.is_machine() else _FEW
        return self.attempts or None


_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--payload",), {"is_flag": True, "help": "Its payload, too."}),
    (
        ("--attempts",),
        {
            "type": _HowMany(),
            "help": "So many attempts, or all.  [default: 3; all for programs]",
        },
    ),
    (
        ("--bundle",),
        {
            "metavar": "FILE",
            "help": "Also write all that is known of it to a file, as JSON.",
        },
    ),
    (("--exit-code",), {"is_flag": True, "help": "Exit 5 if it is held up or dead."}),
    (
        ("--since",),
        {
            "type": settings.InstantType("past"),
            "default": "1d",
            "show_default": True,
            "metavar": "TIME",
            "help": "How far back to look for the end of an id.",
        },
    ),
)


def question(function: F) -> F:
    """Give a command an id and the options about it; it is called with `asked`."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        names = ("job_id", "payload", "attempts", "bundle", "exit_code", "since")
        asked = Question(**{name: options.pop(name) for name in (*names, "watch")})
        return function(*args, asked=asked, **options)

    command: Any = watch_option(wrapped)
    for flags, attributes in reversed(_OPTIONS):
        command = click.option(*flags, **attributes)(command)
    return click.argument("job_id", metavar="ID", type=settings.JOB_ID)(command)  # type: ignore[no-any-return]


def answer(
    repository: Repository,
    asked: Question,
    *,
    timeline: bool = False,
    gates: bool = False,
) -> int:
    """Show what was asked for; return the exit code."""
    from pgflow_cli.maintenance import migrations  # noqa: PLC0415 - start-up stays quick

    migrations.require_current(repository)
    job_id = repository.find_job(asked.job_id, since=asked.since)
    wish = Wish(
        timeline=timeline,
        gates=gates,
        story=None if asked.attempts is None else True,
        payload=repository.read_payload(job_id) if asked.payload else None,
    )
    look = functools.partial(_look, repository, job_id, asked.shown)
    if asked.watch is not None:
        explained = follow(look, wish, seconds=asked.watch)
    else:
        explained = look()
        present(explained, wish)
    if asked.bundle is not None:
        _bundle(repository, job_id, asked.bundle, wish.payload)
    return CHECK_FAILED if asked.exit_code and not explained.in_order else 0


def _look(repository: Repository, job_id: str, attempts: int | None) -> Explanation:
    from pgflow_cli import explanation  # noqa: PLC0415 - start-up stays quick

    return explanation.explain(repository.describe_job(job_id, attempts=attempts))


def _bundle(
    repository: Repository, job_id: str, target: str, payload: str | None
) -> None:
    from pgflow_cli import bundles  # noqa: PLC0415 - start-up stays quick
    from pgflow_cli.explanation import documents  # noqa: PLC0415 - start-up stays quick

    explained = _look(repository, job_id, None)
    bundles.write(target, documents.bundle(explained, payload=payload))
    output.say(f"wrote {target}")
