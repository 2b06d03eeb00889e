"""A question about one job: what `explain` and `timeline` take, and how they answer."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from pgflow_cli.cli.filters import watch_option
from pgflow_cli.cli.output import live, messages, records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings.option import OptionGroup, declared, option
from pgflow_cli.cli.settings.types import JOB_ID, InstantType, Kind, Number
from pgflow_cli.formats import times

if TYPE_CHECKING:
    from pgflow_cli.formats.times import Instant
    from pgflow_cli.inspection.explanation import Explanation
    from pgflow_cli.repository import Repository

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
        most = Number(1, 1_000_000)
        return value if value == _ALL else most.convert(value, param, ctx)


@dataclass(frozen=True)
class ExplainOptions:
    """Which job, and what of it."""

    job_id: str = declared(click.argument("job_id", metavar="ID", type=JOB_ID))
    payload: bool = option("--payload", is_flag=True, help="Its payload, too.")
    attempts: int | None = option(
        "--attempts",
        type=_HowMany(),
        help="So many attempts, or all.  [default: 3; all for programs]",
    )
    bundle: str | None = option(
        "--bundle",
        metavar="FILE",
        help="Also write all that is known of it to a file, as JSON.",
    )
    exit_code: bool = option(
        "--exit-code", is_flag=True, help="Exit 5 if it is held up or dead."
    )
    since: Instant = option(
        "--since",
        type=InstantType("past"),
        default="1d",
        show_default=True,
        metavar="TIME",
        help="How far back to look for the end of an id.",
    )
    watch: float | None = declared(watch_option)

    @property
    def shown(self) -> int | None:
        """How many attempts to tell; None: all, as programs want them."""
        if self.attempts is None:
            return None if records.is_machine() else _FEW
        return self.attempts or None


explain_options = OptionGroup(ExplainOptions)


def answer(
    repository: Repository,
    options: ExplainOptions,
    *,
    timeline: bool = False,
    gates: bool = False,
) -> int:
    """Show what was asked for; return the exit code."""

    job_id = repository.jobs.find_job(options.job_id, since=options.since)
    sections = Sections(
        timeline=timeline,
        gates=gates,
        story=None if options.attempts is None else True,
        payload=repository.jobs.read_payload(job_id) if options.payload else None,
    )
    look = functools.partial(_look, repository, job_id, options.shown)
    if options.watch is not None:
        explained = follow(look, sections, seconds=options.watch)
    else:
        explained = look()
        present(explained, sections)
    if options.bundle is not None:
        _bundle(repository, job_id, options.bundle, sections.payload)
    return CHECK_FAILED if options.exit_code and not explained.in_order else 0


def _look(repository: Repository, job_id: str, attempts: int | None) -> Explanation:
    from pgflow_cli.inspection import explanation

    return explanation.explain(
        repository.explanation.describe_job(job_id, attempts=attempts)
    )


def _bundle(
    repository: Repository, job_id: str, target: str, payload: str | None
) -> None:
    from pgflow_cli.cli import bundle
    from pgflow_cli.inspection.explanation import document

    explained = _look(repository, job_id, None)
    bundle.write(target, document.bundle(explained, payload=payload))
    messages.say(f"wrote {target}")


STORY = (
    Column("at", "TIME (UTC)", kind="time"),
    Column("after", kind="seconds"),
    Column("event"),
    Column("worker_id", "WORKER"),
    Column("took_ms", "TOOK", kind="ms"),
    Column("detail"),
    Column("kind", wide=True),
)
RECORD = (
    Column("job_id", kind="id"),
    *(
        Column(name)
        for name in (
            "status", "queue", "job_type", "verdict", "summary", "attempts",
            "failed_attempts", "max_attempts", "next_run_at", "last_error",
            "dlq_reason_code", "suggested_action", "as_of", "gates", "fingerprint",
            "replays", "timeline", "payload_json", "similar", "position", "drain",
            "next_commands",
        )
    ),
)  # fmt: skip
TIMELINE = (
    Column("job_id", kind="id"),
    *(
        Column(name)
        for name in (
            "status", "queue", "job_type", "run_at", "next_run_at", "last_worker_id",
            "last_error", "attempts", "story",
        )
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sections:
    """What of a job is to be shown; `story` is None for what suits its state."""

    timeline: bool = False
    gates: bool = False
    story: bool | None = None
    payload: str | None = None


def show(
    explained: Explanation, *, payload: str | None = None, gates: bool = False
) -> None:
    """Write an explanation as was asked for, with the payload if there is one."""
    present(explained, Sections(gates=gates, payload=payload))


def present(explained: Explanation, sections: Sections) -> None:
    """Write the sections in the format that was asked for."""
    form = records.chosen_format()
    if sections.timeline and form not in ("json", "ids", "table"):
        records.write(_rows(explained), STORY)
    elif records.is_machine():
        records.write_record(*_object(explained, sections))
    else:
        records.write_text(_screen(explained, sections))


def follow(
    look: Callable[[], Explanation], sections: Sections, *, seconds: float
) -> Explanation:
    """Show a job again and again until it has ended; return its last state.

    On a terminal in place, and in the end once more to stay; elsewhere as jsonl.
    """
    seen = _seen(look, seconds)
    if records.width() is None or records.is_machine():
        for explained in seen:
            records.write_line(*_object(explained, sections))
        return explained
    with live.watch_text() as draw:
        for explained in seen:
            draw(_screen(explained, sections))
    records.write_text(_screen(explained, sections))
    return explained


def _seen(look: Callable[[], Explanation], seconds: float) -> Iterator[Explanation]:
    while True:
        explained = look()
        yield explained
        if explained.is_final:
            return
        time.sleep(seconds)


def _screen(explained: Explanation, sections: Sections) -> Iterable[str]:
    from pgflow_cli.cli.views import explanation

    width = records.width()
    if sections.timeline:
        return [
            *explanation.headline(explained, width),
            *explanation.timeline(explained.story, width),
        ]
    return explanation.lines(
        explained,
        gates=sections.gates,
        payload=sections.payload,
        story=sections.story,
        width=width,
    )


def _object(
    explained: Explanation, sections: Sections
) -> tuple[dict[str, Any], tuple[Column, ...]]:
    from pgflow_cli.inspection.explanation import document

    if sections.timeline:
        return document.timeline(explained), TIMELINE
    return document.explanation(explained, payload=sections.payload), RECORD


def _rows(explained: Explanation) -> Iterator[dict[str, Any]]:
    for event in explained.story:
        row = dataclasses.asdict(event)
        yield {**row, "at": event.at and times.read_iso(event.at)}
