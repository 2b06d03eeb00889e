"""The screen of `top`: what fits, what alarms, what the keys do."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pgflow_cli.cli.views import top
from pgflow_cli.cli.views.top import Dashboard, Look
from pgflow_cli.errors import DatabaseUnavailable, UsageError
from pgflow_cli.inspection import alerts
from pgflow_cli.inspection import queues as queue_report
from pgflow_cli.models.queues import (
    ArrivalMeasure,
    ClusterFacts,
    ClusterSnapshot,
    QueueRow,
    RateMeasure,
)
from pgflow_cli.models.workers import WorkerProcess

NOW = datetime(2026, 11, 23, 15, 20, 41, tzinfo=UTC)
CLUSTER = ClusterFacts(
    NOW, "app", "17.6 (x)", 12, 19, 100, 2.0, None, None, None, False
)
WORKER = WorkerProcess(
    "w", "h", 1, True, 0.1, False, 32, 21, ["emails", "default"], None, None
)
EMAILS = QueueRow(
    "emails", 10_000, 1204, 88, 0, 10, 198, 252.0, 3.0, 0, False,
    10, None, None, None, None, None, None, None,
)  # fmt: skip
DEFAULT = replace(
    EMAILS, queue="default", runnable=0, scheduled=12, running=11, dlq=2,
    oldest_age_seconds=None, max_in_flight=None,
)  # fmt: skip
REPORTS = replace(
    DEFAULT, queue="reports", runnable=3112, oldest_age_seconds=1120.0, scheduled=0,
    running=0, dlq=0,
)  # fmt: skip


def look(*queues: QueueRow, skew: float = 0.003, **cluster: object) -> Look:
    rate = RateMeasure(
        "emails", 60.0, 546, 310, 198, 0, 1054, 432, 50.0,
        [0, 0, 0, 0, 1054, *[0] * 10], [10, 20, 30, 40, 50, 60],
    )  # fmt: skip
    measures = ClusterSnapshot(
        replace(CLUSTER, **cluster),
        list(queues or (EMAILS, DEFAULT, REPORTS)),
        {"emails": rate},
        {"emails": ArrivalMeasure("emails", 60.0, 1860)},
        60.0,
        [WORKER],
        60.0,
        NOW.timestamp() - skew,
    )
    return Look(queue_report.of(measures), "app@db:5432")


def text(lines: list[top.Line]) -> list[str]:
    return [line.text for line in lines]


def test_the_wide_screen_has_everything():
    first, second, headings, *rows = text(top.lines(look(), sort="queue", width=160))
    assert first == (
        "pgflow top   app@db:5432  PG 17.6  schema 12   15:20:41 UTC   skew +3ms"
    )
    assert second == (
        "workers 1 alive (32 slots, 21 busy)   conns 19/100   xmin age 2s"
        "   maintain never   backup never"
    )
    assert headings.split() == [
        "QUEUE", "RUNNABLE", "OLDEST", "SCHED", "RUN", "DLQ", "IN/s", "OUT/s", "ERR%",
        "RETRY%", "p95", "DRAIN", "POLICY", "60s",
    ]  # fmt: skip
    assert rows[1].split() == [
        "emails", "1,204", "4m12s", "88", "10/10", "198", "31.0", "12.4", "48.2",
        "41.0", "98ms", "never", "max", "10", "▂▃▄▅▆█",
    ]  # fmt: skip
    assert "NO WORKER" in rows[2]
    assert rows[3] == (
        "ALERTS  emails depth growing (+18.6/s)"
        "   emails has 198 new dead letters a minute   emails retries 41%"
        "   reports has no live worker"
    )


@pytest.mark.parametrize("width", [20, 40, 80, 100, 160])
def test_no_line_is_wider_than_the_screen(width):
    shown = text(top.lines(look(), sort="queue", width=width))
    assert max(map(len, shown)) <= width
    assert shown[2].startswith("QUEUE")


def test_eighty_columns_keep_what_matters_most():
    headings = text(top.lines(look(), sort="queue", width=80))[2].split()
    assert headings[:10] == [
        "QUEUE", "RUNNABLE", "OLDEST", "SCHED", "RUN", "DLQ", "IN/s", "OUT/s", "ERR%",
        "RETRY%",
    ]  # fmt: skip


def test_a_reader_of_ascii_gets_ascii():
    shown = top.lines(look(), sort="queue", width=160, ascii_only=True)
    assert all(line.text.isascii() for line in shown)


def test_numbers_are_sorted_as_numbers():
    rows = text(top.lines(look(), sort="runnable:desc", width=160))[3:6]
    assert [row.split()[0] for row in rows] == ["reports", "emails", "default"]
    with pytest.raises(UsageError):
        top.check_sort("nonsense")
    with pytest.raises(UsageError):
        top.check_sort("queue:sideways")
    top.check_sort("OLDEST:desc")


def test_no_queue_is_said_in_words():
    shown = text(top.lines(look(), sort=None, pattern="nix", width=80))
    assert shown[3] == "no queue, or none that fits the filter"


@pytest.mark.parametrize(
    ("changes", "skew", "expected"),
    [
        ({"fenced": True}, 0.0, "fenced"),
        ({}, -3.5, "clocks differ by 3.5s"),
        ({"oldest_xmin_age_seconds": 7200.0}, 0.0, "holds back vacuum since 2h"),
        ({"connections": 95}, 0.0, "95 of 100 connections"),
    ],
)
def test_the_database_itself_may_be_an_alert(changes, skew, expected):
    found = look(DEFAULT, skew=skew, **changes)
    [alert] = alerts.found(found.census)
    assert expected in alert


def test_a_pause_and_expired_leases_are_alerts():
    held = replace(EMAILS, paused=True, expired_leases=2)
    found = look(held)
    said = alerts.found(found.census)
    assert "emails is paused, 1,204 jobs wait" in said
    assert "emails has 2 expired leases" in said
    assert not any("growing" in alert for alert in said)
    assert alerts.found(look(DEFAULT).census) == []


@pytest.mark.parametrize(
    ("state", "said", "command"),
    [
        ({"quiet": True}, "w is quiet", "pgflow workers resume w"),
        ({"retiring": True, "quiet": True}, "w is retiring", "pgflow workers list"),
    ],
)
def test_an_unserved_queue_alarms_with_what_its_workers_are(state, said, command):
    of = replace(REPORTS, queue="default")
    measures = replace(look(of).census.measures, workers=[replace(WORKER, **state)])
    [alert] = alerts.listed(queue_report.of(measures))
    assert alert.text == f"default has no worker that leases: {said}"
    assert alert.command == command


class Script:
    """A screen on which somebody presses keys, and which keeps what it showed."""

    size = (100, 24)
    ascii_only = False

    def __init__(self, keys: str) -> None:
        self.keys, self.pages = deque(keys), []

    def show(self, lines):
        self.pages.append("\n".join(line.text for line in lines))

    def key(self, _seconds):
        return self.keys.popleft()


def pressed(keys: str, looks=look, **more) -> list[str]:
    screen = Script(keys)
    Dashboard(looks, interval=1000.0, sort=None, **more).run(screen)
    assert not screen.keys
    return screen.pages


def test_q_ends_it():
    assert "sort queue" in pressed("q")[-1]


def test_s_sorts_by_one_column_after_another_and_comes_round():
    pages = pressed("s" * len(top.SORTS) + "q")
    assert "sort runnable:desc" in pages[1]
    assert "sort queue" in pages[-1]


def test_a_filter_is_typed_mended_kept_and_forgotten():
    pages = pressed("/reqx\x7f\x7f\r" + "q")
    assert "filter: re_" in pages[-2]
    assert "reports" in pages[-1]
    assert "\nemails" not in pages[-1]
    forgotten = pressed("/reports\x1bq")[-1]
    assert "\nemails" in forgotten
    assert "\nemails" not in pressed("/rep*\rq")[-1]


def test_a_database_that_goes_away_is_told_and_the_last_look_stays():
    looks = deque([look(), DatabaseUnavailable("connection refused")])

    def next_look():
        found = looks.popleft()
        if isinstance(found, Exception):
            raise found
        return found

    screen = Script("..q")
    memory = Dashboard(next_look, interval=0.0, sort=None)
    memory._refresh()
    memory._refresh()
    memory._show(screen)
    assert "connection refused; trying again" in screen.pages[-1]
    assert "emails" in screen.pages[-1]


def test_a_small_screen_shows_the_keys_and_as_much_as_fits():
    class Small(Script):
        size = (40, 5)

    screen = Small("q")
    Dashboard(look, interval=1000.0, sort=None).run(screen)
    page = screen.pages[0].split("\n")
    assert len(page) == 5
    assert page[-1].startswith("sort queue")
