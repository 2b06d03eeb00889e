"""What a replay would do, in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from pgflow_cli.models.replays import ReplayGroup, ReplayOptions
from pgflow_cli.models.workers import WorkerProcess
from pgflow_cli.operations import replay_preview
from pgflow_cli.operations.replay_preview import Preview

GROUP = ReplayGroup(
    queue="emails", job_type="email_send", jobs=182, oldest_seconds=7080.0,
    newest_seconds=240.0, least_priority=0, most_priority=0, least_attempts=25,
    most_attempts=25, too_large=0, max_in_flight=None, max_attempts_per_minute=None,
    paused=False,
)  # fmt: skip
WORKER = WorkerProcess(
    name="w", host="h", pid=1, alive=True, silent_for=0.0, quiet=False, slots=8,
    busy_slots=0, queues=["emails"], job_types=["email_send"], code_version=None,
)  # fmt: skip
PREVIEW = Preview([GROUP], ReplayOptions(), [WORKER], of="214", left_out="0")


def test_one_queue_and_type() -> None:
    assert list(replay_preview.lines(PREVIEW)) == [
        "Selected 182 of 214 dead letters",
        "Would create 182 jobs in emails: priority 0, max_attempts 25, at once",
        "Limits   no policy applies, nor does the enqueue rate limit",
        "Checks   handlers alive yes, payloads in limit yes, keys taken 0, "
        "earlier side effects unknown",
        "TYPE           JOBS  OLDEST   NEWEST",
        "email_send      182  1h58m    4m",
    ]
    assert list(replay_preview.warnings(PREVIEW)) == []


def test_types_of_several_queues_are_one_line_each() -> None:
    other = replace(
        GROUP, queue="bulk", jobs=8, oldest_seconds=90000.0, most_priority=5,
        max_in_flight=3, most_attempts=30,
    )  # fmt: skip
    told = list(replay_preview.lines(replace(PREVIEW, groups=[GROUP, other])))
    assert "190 jobs in bulk, emails: priority 0 to 5, max_attempts 25 to 30" in told[1]
    assert told[2] == (
        "Limits   bulk max_in_flight=3 applies, the enqueue rate limit does not"
    )
    assert "handlers alive NO for email_send on bulk" in told[3]
    assert told[5:] == ["email_send      190  1d1h     4m"]


def test_the_pace_is_told() -> None:
    def pace(**options: object) -> str:
        wanted = replace(ReplayOptions(), **options)  # type: ignore[arg-type]
        told = list(replay_preview.lines(replace(PREVIEW, options=wanted)))
        return told[1].partition("25, ")[2]

    assert pace(seconds_apart=0.05) == "at 20/s, last in about 9s"
    assert pace(delay=3600.0) == "in 1h"
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    assert pace(run_at=noon) == "from 2026-11-23T12:00:00Z on"
    assert (
        pace(delay=3600.0, seconds_apart=0.5) == "in 1h, at 2/s, last after about 1m30s"
    )


def test_ids_are_counted_with_what_is_wrong_with_them() -> None:
    given = replace(PREVIEW, of="", skipped=3, failed=1)
    assert next(iter(replay_preview.lines(given))) == (
        "Selected 182 of 186 given; 3 skipped; 1 failed"
    )
    nothing = replace(given, groups=[])
    assert list(replay_preview.lines(nothing)) == [
        "Selected 0 of 4 given; 3 skipped; 1 failed"
    ]


def test_what_is_wrong_is_a_warning() -> None:
    bad = replace(GROUP, too_large=2, paused=True, job_type="unknown")
    assert len(list(replay_preview.warnings(replace(PREVIEW, groups=[bad])))) == 3
