"""However many queues there are: lists have pages, metrics a cap, and nothing fails."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

import pgflow_cli
from pgflow_cli.inspection import prometheus, queues
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.repository import Repository
from tests.conftest import RunsPgflow
from tests.support import exported

Connection = psycopg.Connection[Any]
MOST = 3


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with thousands."""
    monkeypatch.setattr(queues, "MOST_QUEUES", MOST)


def names(taken: queues.QueueReport) -> list[str]:
    return [status.queue for status in taken.queues]


def make_up(connection: Connection, count: int) -> None:
    """Let queues be known that hold nothing."""
    connection.execute(
        "insert into pgflow.queue_ranks"
        " select 'q' || n, 0 from generate_series(1, %s) as n",
        (count,),
    )


def test_of_many_queues_those_are_looked_at_that_matter_most(
    connection: Connection, repository: Repository
) -> None:
    make_up(connection, 9)
    pgflow_cli.enqueue(connection, "a", queue="zz-waits")
    pgflow_cli.enqueue(connection, "a", queue="zz-later", delay="1h")
    connection.execute(
        "insert into pgflow.queue_policies (queue, paused_until)"
        " values ('zz-paused', 'infinity')"
    )
    taken = queues.take(repository)
    assert names(taken) == ["q1", "zz-paused", "zz-waits"]
    assert (taken.known, taken.left_out) == (12, 9)
    taken = queues.take(repository, JobFilter(queues=("q[89]",)))
    assert (names(taken), taken.known) == (["q8", "q9"], 2)


def test_pages_go_by_name_and_come_to_an_end(
    connection: Connection, repository: Repository
) -> None:
    make_up(connection, 5)
    seen, after = [], None
    while True:
        taken, after = queues.take_page(repository, after=after, limit=2)
        seen.append(names(taken))
        if after is None:
            break
    assert seen == [["q1", "q2"], ["q3", "q4"], ["q5"]]


def test_the_command_line_says_how_to_get_the_next_page(
    connection: Connection, pgflow: RunsPgflow
) -> None:
    make_up(connection, 5)
    first = pgflow("queues", "list", "--limit", "3", "-o", "jsonl")
    assert [json.loads(row)["queue"] for row in first.stdout.splitlines()] == [
        "q1",
        "q2",
        "q3",
    ]
    assert "Next page: --after q3" in first.stderr
    last = pgflow("queues", "list", "--limit", "3", "--after", "q3", "-o", "jsonl")
    assert [json.loads(row)["queue"] for row in last.stdout.splitlines()] == [
        "q4",
        "q5",
    ]
    assert "Next page" not in last.stderr


def test_metrics_count_together_what_they_do_not_measure(
    connection: Connection, repository: Repository
) -> None:
    make_up(connection, 4)
    for n in range(1, 6):
        pgflow_cli.enqueue_many(connection, [{"job_type": "a", "queue": f"w{n}"}] * 2)
    pgflow_cli.enqueue(connection, "a", queue="later", delay="1h")
    measures, totals = repository.metrics.measure_all(
        window=60.0, counted=100, budget=1000, limit=MOST
    )
    text = prometheus.text(prometheus.Snapshot(queues.of(measures), totals, 0.1))
    found = exported.samples(text)
    assert found["pgflow_queue_depth",] == 10
    assert found["pgflow_queue_jobs", "queue=other", "state=runnable"] == 4
    assert found["pgflow_queue_jobs", "queue=other", "state=scheduled"] == 1
    assert found["pgflow_queue_jobs", "queue=w1", "state=runnable"] == 2
    assert found["pgflow_queues",] == 10
    assert found["pgflow_queues_left_out",] == 7


def test_what_is_refused_its_first_job_fills_no_list(
    connection: Connection, repository: Repository
) -> None:
    connection.execute(
        "insert into pgflow.ingest_decisions (minute, queue, decision, reason_code)"
        " select now(), 'made-up-' || n, 'DENIED', 'PAYLOAD_TOO_LARGE'"
        " from generate_series(1, 3000) as n"
    )
    assert repository.queues.list_queue_names() == []
    assert repository.metrics.choose_queues(None, limit=5) == ([], 0)


def test_a_list_of_one_page_reads_no_other_queues_jobs(
    connection: Connection, repository: Repository
) -> None:
    """By the rows that the plan touches, not by time."""
    make_up(connection, 2000)
    connection.execute(
        "insert into pgflow.pending (queue, rank, run_at, job_id, job_type)"
        " select 'q' || mod(n, 2000) + 1, 0, now() - interval '1 s', pgflow.uuid7(),"
        " 'a' from generate_series(1, 20000) as n"
    )
    connection.execute("analyze pgflow.pending, pgflow.queue_ranks")
    before = touched(connection)
    repository.metrics.measure(["q1", "q2"], window=60.0, counted=100, known=2)
    repository.close()  # what it has read is told at the end
    connection.execute("select pg_stat_clear_snapshot()")
    assert touched(connection) - before < 200
    connection.execute("delete from pgflow.pending")


def touched(connection: Connection) -> int:
    """Return how many index entries and rows of `pending` were read so far."""
    connection.execute("select pg_stat_force_next_flush()")
    row = connection.execute(
        "select coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0)"
        " from pg_stat_user_tables where relname = 'pending'"
    ).fetchone()
    assert row is not None
    return int(row[0])
