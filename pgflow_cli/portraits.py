"""One job as `explain`, `timeline` and `dlq show` present it: screen, rows, object."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pgflow_cli import output

if TYPE_CHECKING:
    from pgflow_cli.explanation import Explanation

STORY = (
    output.Column("at", "TIME (UTC)", kind="time"),
    output.Column("after", kind="seconds"),
    output.Column("event"),
    output.Column("worker_id", "WORKER"),
    output.Column("took_ms", "TOOK", kind="ms"),
    output.Column("detail"),
    output.Column("kind", wide=True),
)
RECORD = (
    output.Column("job_id", kind="id"),
    *(
        output.Column(name)
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
    output.Column("job_id", kind="id"),
    *(
        output.Column(name)
        for name in (
            "status", "queue", "job_type", "run_at", "next_run_at", "last_worker_id",
            "last_error", "attempts", "story",
        )
    ),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What of a job is to be shown; `story` is None for what suits its state."""

    timeline: bool = False
    gates: bool = False
    story: bool | None = None
    payload: str | None = None


def show(
    explained: Explanation, *, payload: str | None = None, gates: bool = False
) -> None:
    """Write an explanation as was asked for, with the payload if there is one."""
    present(explained, Wish(gates=gates, payload=payload))


def present(explained: Explanation, wish: Wish) -> None:
    """Write what is wished for in the format that was asked for."""
    form = output.chosen_format()
    if wish.timeline and form not in ("json", "ids", "table"):
        output.write(_rows(explained), STORY)
    elif output.is_machine():
        output.write_record(*_object(explained, wish))
    else:
        output.write_text(_screen(explained, wish))


def follow(
    look: Callable[[], Explanation], wish: Wish, *, seconds: float
) -> Explanation:
    """Show a job again and again until it has ended; return what was seen last.

    On a terminal in place, and in the end once more to stay; elsewhere as jsonl.
    """
    seen = _seen(look, seconds)
    if output.width() is None or output.is_machine():
        for explained in seen:
            output.write_line(*_object(explained, wish))
        return explained
    with output.watch_text() as draw:
        for explained in seen:
            draw(_screen(explained, wish))
    output.write_text(_screen(explained, wish))
    return explained


def _seen(look: Callable[[], Explanation], seconds: float) -> Iterator[Explanation]:
    while True:
        explained = look()
        yield explained
        if explained.is_final:
            return
        time.sleep(seconds)


def _screen(explained: Explanation, wish: Wish) -> Iterable[str]:
    from pgflow_cli.explanation import screens  # noqa: PLC0415 - start-up stays quick

    width = output.width()
    if wish.timeline:
        return [
            *screens.headline(explained, width),
            *screens.timeline(explained.story, width),
        ]
    return screens.lines(
        explained,
        gates=wish.gates,
        payload=wish.payload,
        story=wish.story,
        width=width,
    )


def _object(
    explained: Explanation, wish: Wish
) -> tuple[dict[str, Any], tuple[output.Column, ...]]:
    from pgflow_cli.explanation import documents  # noqa: PLC0415 - start-up stays quick

    if wish.timeline:
        return documents.timeline(explained), TIMELINE
    return documents.explanation(explained, payload=wish.payload), RECORD


def _rows(explained: Explanation) -> Iterator[dict[str, Any]]:
    for event in explained.story:
        row = dataclasses.asdict(event)
        yield {**row, "at": event.at and datetime.fromisoformat(event.at)}
