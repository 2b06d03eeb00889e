"""What Prometheus gets: everything that was promised, bounded, whatever happens."""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import PgflowError
from pgflow_cli.inspection import prometheus, worker_blockers
from pgflow_cli.inspection.scrape import Scraper
from pgflow_cli.maintenance import MaintenancePlan, Pass
from pgflow_cli.repository import Database, Repository, sqlfiles
from pgflow_cli.repository import metrics as measuring
from pgflow_cli.worker.heartbeat import Ledger
from tests import exported, servers
from tests.jobs import expire_leases, plant, plant_dead
from tests.private_servers import pgbouncer
from tests.repository.test_arrivals import begin_looks, enqueue
from tests.repository.test_arrivals import look as look_at_arrivals
from tests.repository.test_census import count, samples, work
from tests.repository.test_counters import lease, new_worker, tally
from tests.repository.test_replays import replay
from tests.tools import needs_tool

Connection = psycopg.Connection[Any]
Open = Callable[[], Any]
__all__ = ["replay"]  # a fixture


@pytest.fixture
def eventful(
    database: servers.Database,
    repository: Repository,
    connection: Connection,
    replay: Callable[..., Any],
) -> None:
    """A cluster in which everything has happened that a metric tells of."""
    work(repository, ["emails"])
    count(repository, connection, "emails", dict.fromkeys(sorted(exported.OUTCOMES), 1))
    plant(connection, 3, queue="emails")
    assert lease(repository, new_worker(), "emails")
    expire_leases(connection)
    repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    plant(connection, 2, queue="emails", due_in="1 hour")
    plant(connection, 1, queue="emails")
    lease(repository, new_worker(), "emails")
    replay(plant_dead(connection, 2)[:1])
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_in_flight) values ('emails', 9)"
    )
    for table in ("ingest_decisions", "policy_decisions"):
        connection.execute(
            f"insert into pgflow.{table} (queue, minute, decision, reason_code)"
            " values ('emails', now(), 'D', 'R')"
        )
    connection.execute(
        "insert into pgflow.backups (started_at, bytes, file, sha256, format, verified)"
        " values (now(), 7, 'f', 's', 'custom', 'list')"
    )
    begin_looks(connection, "1 hour")
    enqueue(connection, 4, ago=600)
    Pass(Database(database.url), MaintenancePlan(sleep=0.0)).run()


def scrape(repository: Repository) -> bytes:
    return prometheus.text(prometheus.collect(repository))


# What is there.


@pytest.mark.usefixtures("eventful")
def test_every_metric_is_there_with_exactly_its_labels(repository):
    found = exported.families(scrape(repository))
    assert set(found) == set(exported.TABLE)
    for name, (kind, labels) in exported.TABLE.items():
        assert found[name].type == kind, name
        assert found[name].samples, name
        for sample in found[name].samples:
            assert set(sample.labels) - {"le"} == labels, name


@pytest.mark.usefixtures("eventful")
def test_states_and_outcomes_are_called_as_promised(repository):
    found = exported.families(scrape(repository))
    told = {
        name: {sample.labels[label] for sample in found[name].samples}
        for name, label in (
            ("pgflow_queue_jobs", "state"),
            ("pgflow_attempts_total", "outcome"),
            ("pgflow_worker_slots", "state"),
            ("pgflow_worker_processes", "state"),
        )
    }
    assert told == {
        "pgflow_queue_jobs": exported.STATES,
        "pgflow_attempts_total": exported.OUTCOMES,
        "pgflow_worker_slots": {"busy", "free"},
        "pgflow_worker_processes": {*worker_blockers.STATES},
    }


@pytest.mark.usefixtures("eventful")
def test_what_was_enqueued_and_replayed_is_told(repository):
    found = samples(prometheus.collect(repository))
    assert found["pgflow_jobs_enqueued_total", "emails", "send"] == 4
    assert found["pgflow_replays_total", "emails"] == 1
    assert found["pgflow_leases_expired_total", "emails"] == 1


@pytest.mark.usefixtures("eventful")
def test_promtool_finds_no_fault(repository):
    done = subprocess.run(
        [needs_tool("promtool"), "check", "metrics"],
        input=scrape(repository),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.usefixtures("eventful")
def test_two_collectors_agree(database, repository):
    other = Repository.of(Database(database.url))
    # Each is a session of the server; let both be there for both.
    other.diagnosis.read_clock()
    one, two = (exported.samples(scrape(each)) for each in (repository, other))
    other.close()
    moving = ("_age_seconds", "skew_seconds", "scrape_duration", "_connections")
    # A session reports its dead tuples to the server's statistics up to a second late.
    moving += ("_dead_tuples",)
    steady = {key for key in one if not any(part in key[0] for part in moving)}
    assert set(one) == set(two)
    assert {key: one[key] for key in steady} == {key: two[key] for key in steady}


@pytest.mark.usefixtures("eventful")
def test_no_counter_falls_when_workers_go_and_things_are_folded_and_pruned(
    database, repository, connection
):
    before = exported.counters(scrape(repository))
    connection.execute("delete from pgflow.workers")
    connection.execute(
        "update pgflow.worker_counters set first_at = now() - interval '1 hour'"
    )
    for table in ("ingest_decisions", "policy_decisions"):
        connection.execute(f"update pgflow.{table} set minute = '2020-01-01'")
    plan = MaintenancePlan(sleep=0.0, archive_after=1.0, prune_after=1.0)
    for _ in range(2):
        Pass(Database(database.url), plan).run()
        look_at_arrivals(repository)
    after = exported.counters(scrape(repository))
    assert set(before) <= set(after)
    fallen = {key for key in before if after[key] < before[key]}
    assert not fallen
    assert connection.execute(
        "select count(distinct supervisor_id) from pgflow.worker_counters"
    ).fetchone() == (1,)


# How much it costs.


def fill(connection: Connection, queues: int, jobs: int) -> None:
    """Let each queue have so many due jobs, and the statistics know nothing of it."""
    connection.execute(
        """
        with made as (
          insert into pgflow.pending (queue, rank, run_at, job_id, job_type)
          select 'q' || q, 0, now() - interval '1 hour', gen_random_uuid(), 't'
          from generate_series(1, %s) as n, generate_series(1, %s) as q
        )
        insert into pgflow.queue_ranks select 'q' || q, 0 from generate_series(1, %s) q
        """,
        (jobs, queues, queues),
    )


def test_counting_is_bounded_by_a_budget_for_all_queues(repository, connection):
    fill(connection, 20, 300)
    connection.execute("insert into pgflow.queue_ranks values ('flat', 0)")
    connection.execute("delete from pgflow.pending where queue = 'q1'")
    measures, _ = repository.metrics.measure_all(window=60, counted=50_000, budget=2100)
    found = {queue.queue: queue for queue in measures.queues}
    # 21 queues have 100 each; 19 deep ones have what that leaves, 110.
    assert (found["q1"].runnable, found["q1"].counted) == (0, 100)
    assert {found[f"q{n}"].runnable for n in range(2, 21)} == {111}
    estimated = {q.queue for q in measures.queues if q.waiting_estimate is not None}
    assert estimated == {f"q{n}" for n in range(2, 21)}
    screen = repository.metrics.measure(
        list(found), window=60, counted=50_000, known=21, budget=2100
    )
    assert [q.runnable for q in screen.queues] == [q.runnable for q in measures.queues]


def test_a_scrape_counts_so_far_and_no_further(repository, connection, monkeypatch):
    assert (prometheus.COUNTED, prometheus.BUDGET) == (10_000, 250_000)
    fill(connection, 2, 20)
    monkeypatch.setattr(prometheus, "COUNTED", 15)
    monkeypatch.setattr(prometheus, "BUDGET", 10)
    counted = prometheus.collect(repository).census
    assert [status.measure.runnable for status in counted.queues] == [6, 6]
    monkeypatch.setattr(prometheus, "BUDGET", 1000)
    counted = prometheus.collect(repository).census
    assert [status.measure.runnable for status in counted.queues] == [16, 16]


def test_one_deep_queue_among_many_is_counted_far(repository, connection):
    fill(connection, 20, 3)
    fill_one(connection, "deep", 900)
    measures, _ = repository.metrics.measure_all(window=60, counted=50_000, budget=1000)
    [deep] = [queue for queue in measures.queues if queue.queue == "deep"]
    assert (deep.runnable, deep.waiting_estimate) == (900, None)


def fill_one(connection: Connection, queue: str, jobs: int) -> None:
    connection.execute(
        "insert into pgflow.pending (queue, rank, run_at, job_id, job_type)"
        " select %s, 0, now() - interval '1 hour', gen_random_uuid(), 't'"
        " from generate_series(1, %s)",
        (queue, jobs),
    )
    connection.execute("insert into pgflow.queue_ranks values (%s, 0)", (queue,))


def test_a_queue_that_is_not_common_is_estimated_as_the_average(repository, connection):
    fill(connection, 300, 10)
    connection.execute("analyze pgflow.pending")
    found = repository.metrics.estimate_queues([f"q{n}" for n in range(1, 301)])
    assert len(found) == 300
    assert all(6 <= jobs <= 16 for jobs in found.values()), found


def test_a_count_ends_at_its_limit_though_statistics_know_nothing(database, connection):
    """By a bitmap it would read the whole queue, and sort it."""
    fill(connection, 50, 400)
    repository = Repository.of(Database(database.url))
    statement = sqlfiles.statement("measure_queues")
    given = {"queues": [f"q{n}" for n in range(1, 51)], "limit": 21}
    with repository.transaction():
        repository.link.tuples("plan_by_index")
        rows = psycopg.RawCursor(repository.link.raw()).execute(
            "explain (analyze, costs off, timing off) " + statement.text.decode(),
            [given[name] for name in statement.parameters],
        )
        plan = "\n".join(row[0] for row in rows.fetchall())
    repository.close()
    assert "Bitmap Heap Scan on pending" not in plan
    assert "Seq Scan on pending" not in plan
    assert "rows=400" not in plan


def test_a_measure_never_goes_by_a_bitmap(repository):
    """Of a million jobs without statistics it took seconds; of few, no plan shows."""
    with repository.metrics._one_instant():
        for name in ("enable_bitmapscan", "enable_seqscan", "jit"):
            [row] = repository.link.raw().execute(f"show {name}").fetchall()
            assert row == ("off",), name


def test_many_queues_have_few_series(repository, connection):
    fill(connection, 2_000, 1)
    text = scrape(repository)
    of_jobs = exported.families(text)["pgflow_queue_jobs"].samples
    assert len({sample.labels["queue"] for sample in of_jobs}) == 201
    found = exported.samples(text)
    assert found["pgflow_queue_depth",] == 2_000
    assert found["pgflow_queue_jobs", "queue=other", "state=runnable"] == 1_800


# The scraper.


def opener(database: servers.Database) -> Open:
    """Return what opens a repository on a connection of its own."""

    @contextmanager
    def opened() -> Iterator[Repository]:
        repository = Repository.of(Database(database.url))
        try:
            yield repository
        finally:
            repository.close()

    return opened


class Gate:
    """Opens repositories; each waits until it is let through."""

    def __init__(self, database: servers.Database) -> None:
        self.open_ = opener(database)
        self.opened = 0
        self.through = threading.Event()
        self.waiting = threading.Event()

    @contextmanager
    def __call__(self) -> Iterator[Repository]:
        self.opened += 1
        self.waiting.set()
        assert self.through.wait(30)
        with self.open_() as repository:
            yield repository


class CountingLock:
    """A lock that knows how many have come for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.came = 0

    def __enter__(self) -> None:
        self.came += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.parametrize("cache_seconds", [0.0, 60.0])
def test_whoever_asks_during_a_scrape_shares_its_answer(
    database, cache_seconds, monkeypatch, wait_until
):
    gate, lock = Gate(database), CountingLock()
    scraper = Scraper(gate, cache_seconds)
    monkeypatch.setattr(scraper, "_looking", lock)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(scraper.text)
        assert gate.waiting.wait(30)
        others = [pool.submit(scraper.text) for _ in range(8)]
        wait_until(lambda: lock.came == 9, "all have come")
        gate.through.set()
        texts = {first.result(30), *(other.result(30) for other in others)}
    assert len(texts) == 1
    assert gate.opened == 1
    assert b"pgflow_db_up 1.0" in texts.pop()


def test_an_answer_is_kept_for_some_seconds(database, connection, monkeypatch):
    scraper = Scraper(opener(database), 60.0)
    first = scraper.text()
    plant(connection, 3)
    assert scraper.text() == first
    monkeypatch.setattr(scraper, "_until", scraper._until - 61.0)
    assert exported.samples(scraper.text())["pgflow_queue_depth",] == 3


def test_a_database_that_is_away_is_an_answer():
    away = servers.Database("postgresql://nobody@127.0.0.1:1/none", "none")
    assert down(Scraper(opener(away)).text())


def test_a_database_without_our_schema_is_an_answer(empty_database):
    assert down(Scraper(opener(empty_database)).text())


def test_a_pool_that_has_no_connection_left_is_an_answer():
    @contextmanager
    def opened() -> Iterator[Repository]:
        raise PgflowError("no connection within 2 s")
        yield

    assert down(Scraper(opened).text())


def down(text: bytes) -> bool:
    found = exported.families(text)
    assert set(found) == {"pgflow_db_up", "pgflow_scrape_duration_seconds"}
    return exported.samples(text)["pgflow_db_up",] == 0


def test_a_part_that_is_too_slow_is_left_out_and_the_connection_stays_usable(
    database, connection, repository, monkeypatch
):
    """A slow scrape is no outage."""
    plant(connection, 2)
    monkeypatch.setattr(measuring, "_PATIENCE_MS", 200)

    @contextmanager
    def opened() -> Iterator[Repository]:
        yield repository

    scraper = Scraper(opened, 0.0)
    blocker = database.connect(autocommit=False)
    blocker.execute("lock table pgflow.jobs in access exclusive mode")
    found = exported.samples(scraper.text())
    assert found["pgflow_db_up",] == 1
    assert found["pgflow_queue_depth",] == 2
    parts = {k[1] for k, v in found.items() if k[0] == "pgflow_scrape_failed" and v}
    assert parts == {"part=arrivals"}
    blocker.rollback()
    found = exported.samples(scraper.text())
    assert found["pgflow_db_up",] == 1
    assert not any(v for k, v in found.items() if k[0] == "pgflow_scrape_failed")
    for name, usual in (
        ("statement_timeout", "0"),
        ("enable_bitmapscan", "on"),
        ("enable_seqscan", "on"),
        ("transaction_isolation", "read committed"),
    ):
        [row] = repository.link.raw().execute(f"show {name}").fetchall()
        assert row == (usual,), name


def test_a_scrape_works_behind_a_pooler_in_transaction_mode(database, connection):
    plant(connection, 2)
    with pgbouncer(database) as url:
        scraper = Scraper(opener(replace(database, url=url)), 0.0)
        for _ in range(3):
            assert exported.samples(scraper.text())["pgflow_queue_depth",] == 2


def test_an_open_transaction_of_many_rows_does_not_hold_up_a_scrape(
    database, connection
):
    """Supervisors and operators write counters all the time; reading never waits."""
    writer = database.connect(autocommit=False)
    writer.execute("select pgflow.enqueue('t', '{}') from generate_series(1, 100)")
    ledger, supervisor = Ledger(), str(uuid.uuid4())
    ledger.add(tally())
    ledger.flush(Repository.over(writer), supervisor)
    assert exported.samples(Scraper(opener(database)).text())["pgflow_db_up",] == 1
    writer.rollback()
