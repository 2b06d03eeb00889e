"""Lists of jobs: each row once, in its order, from the table of its state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from pgflow_cli.errors import NotFound, UsageError
from pgflow_cli.formats.times import Instant
from pgflow_cli.inspection import job_list
from pgflow_cli.inspection.job_list import JobList
from pgflow_cli.models.selection import JobFilter, Page
from pgflow_cli.repository import Repository, sqlfiles
from pgflow_cli.repository.jobs import window
from tests.conftest import cloned
from tests.repository import test_cycle as cycle
from tests.repository.test_audit import attempt, bury, cancel, lease, unqueue
from tests.repository.test_overview import fail_then_retry, nodes
from tests.support.jobs import audit, plant
from tests.support.servers import Database, Server

Connection = psycopg.Connection[Any]
STATES = ("queued", "scheduled", "running", "succeeded", "dlq", "canceled")


@pytest.fixture
def planted(connection: Connection) -> dict[str, list[str]]:
    """Three jobs in each state, one of them in the queue emails."""
    places: dict[str, Any] = {
        "running": lease,
        "succeeded": lambda c, j: attempt(c, j, "succeeded"),
        "dlq": bury,
        "canceled": cancel,
    }
    found = {}
    for state in STATES:
        due = "1 hour" if state == "scheduled" else "0 seconds"
        found[state] = plant(connection, 2, due_in=due) + plant(
            connection, queue="emails", job_type="email_send", due_in=due
        )
        for job_id in found[state]:
            if state in places:
                unqueue(connection, job_id)
                places[state](connection, job_id)
    connection.execute(
        """
        update pgflow.leases set queue = 'emails'
          where job_ids && (select array_agg(id) from pgflow.jobs
            where queue = 'emails');
        update pgflow.canceled_jobs set queue = 'emails'
          where job_id in (select id from pgflow.jobs where queue = 'emails');
        update pgflow.dead_letters set queue = 'emails', job_type = 'email_send'
          where job_id in (select id from pgflow.jobs where queue = 'emails')
        """
    )
    assert audit(connection) == (0, 0)
    return found


def ids(repository: Repository, **conditions: Any) -> list[str]:
    more = {
        name: conditions.pop(name) for name in ("slow", "stuck") & conditions.keys()
    }
    chosen = JobFilter(**conditions)
    return [job.id for job in JobList(repository, chosen, **more).stream()]


@pytest.mark.parametrize("state", STATES)
def test_a_list_of_a_state_has_exactly_its_jobs(repository, planted, state):
    jobs = list(JobList(repository, JobFilter(statuses=(state,))).stream())
    assert {job.id for job in jobs} == set(planted[state])
    assert {job.status for job in jobs} == {state}


def test_a_list_of_no_state_has_all_of_them_newest_first(repository, planted):
    every = [job_id for jobs in planted.values() for job_id in jobs]
    assert ids(repository) == sorted(every, reverse=True)


def test_a_list_of_several_states_has_both(repository, planted):
    found = ids(repository, statuses=("dlq", "queued"))
    assert set(found) == {*planted["dlq"], *planted["queued"]}


@pytest.mark.parametrize("state", [None, *STATES])
def test_pages_visit_each_job_once_while_others_arrive(
    connection, repository, planted, state
):
    chosen = JobFilter(statuses=(state,) if state else ())
    listed, after = [], None
    while True:
        listing = JobList(repository, chosen).page(2, after)
        listed += [job.id for job in listing.jobs]
        plant(connection, due_in="2 hours" if state == "scheduled" else "0 seconds")
        after = listing.more
        if after is None or len(listed) > 30:
            break
    mine = [j for jobs in planted.values() for j in jobs]
    wanted = planted[state] if state else mine
    assert sorted(set(listed) & set(mine)) == sorted(wanted)
    assert len(set(listed)) == len(listed)


def test_waiting_jobs_come_in_the_order_in_which_they_run(connection, repository):
    [late] = plant(connection, due_in="-1 minute")
    [early] = plant(connection, due_in="-2 minutes", queue="emails")
    [last] = plant(connection, due_in="2 hours")
    [soon] = plant(connection, due_in="1 hour", priority=-5)
    assert ids(repository, statuses=("queued",)) == [early, late]
    assert ids(repository, statuses=("scheduled",)) == [soon, last]


def test_slow_lists_the_longest_running_first_and_stuck_those_nobody_holds(
    connection, repository, planted
):
    old, new, email = planted["running"]
    connection.execute(
        "update pgflow.leases set leased_at = now() - case job_ids[1]"
        " when %s then interval '1 hour' when %s then interval '2 hours'"
        " else interval '0' end, expires_at = now() + case job_ids[1]"
        " when %s then -interval '1 minute' else interval '1 minute' end",
        (old, email, new),
    )
    assert ids(repository, slow=True) == [email, old, new]
    assert ids(repository, statuses=("running",)) == [new, old, email]
    assert ids(repository, stuck=True) == [new]
    with pytest.raises(UsageError):
        JobList(repository, JobFilter(statuses=("dlq",)), slow=True)


def test_a_settled_job_is_not_running_while_its_lease_goes_on(connection, repository):
    plant(connection, 2)
    done, mate = cycle.lease(repository)
    cycle.settle(repository, cycle.success(done))
    assert ids(repository, statuses=("running",)) == [mate.job_id]
    assert ids(repository, slow=True) == [mate.job_id]
    assert ids(repository, statuses=("succeeded",)) == [done.job_id]


def test_a_resolved_dead_letter_is_listed_only_where_no_state_is_asked_for(
    connection, repository, planted
):
    gone = planted["dlq"][0]
    connection.execute(
        "update pgflow.dead_letters set resolved_at = now(), resolution = 'discarded'"
        " where job_id = %s",
        (gone,),
    )
    assert gone not in ids(repository, statuses=("dlq",))
    assert gone not in ids(repository, statuses=("dlq", "canceled"))
    assert gone in ids(repository)


@pytest.mark.parametrize("state", [None, *STATES])
def test_queue_and_type_narrow_every_list(repository, planted, state):
    wanted = {"statuses": (state,)} if state else {}
    mine = {planted[s][2] for s in ([state] if state else STATES)}
    assert set(ids(repository, queues=("emails",), **wanted)) == mine
    assert set(ids(repository, job_types=("email_send",), **wanted)) == mine
    assert ids(repository, queues=("none",), **wanted) == []


@pytest.mark.parametrize("state", [None, *STATES])
def test_since_and_until_narrow_every_list(repository, planted, state):
    wanted = {"statuses": (state,)} if state else {}
    hour = timedelta(hours=1)
    past, future = Instant(offset=-hour), Instant(offset=3 * hour)
    every = ids(repository, **wanted)
    assert ids(repository, since=past, until=future, **wanted) == every
    assert ids(repository, until=past, **wanted) == []
    assert ids(repository, since=future, **wanted) == []


def test_every_other_condition_narrows_the_list(connection, repository):
    plant(connection, 3)
    [source] = plant(connection, payload='{"customer": 7, "to": "a"}')
    connection.execute(
        'update pgflow.jobs set meta = \'{"tenant": "x"}\', replay_of_job_id = id'
        " where id = %s",
        (source,),
    )
    fail_then_retry(connection, source, "now()")
    connection.execute(
        "update pgflow.job_attempts set error_fingerprint = 'f1-3ac91b20',"
        " code_version = '4f2a9c'"
    )
    for conditions in (
        {"payload_contains": '{"customer": 7}'},
        {"meta": '{"tenant": "x"}'},
        {"replay_of": source},
        {"error_codes": ("TIMEOUT",)},
        {"fingerprints": ("f1-3ac91b20",)},
        {"worker": "w1"},
        {"code_version": "4f2a9c"},
        {"match": "TOO SL"},
    ):
        assert ids(repository, **conditions) == [source], conditions
        assert ids(repository, statuses=("queued",), **conditions) == [source]
        assert ids(repository, statuses=("canceled",), **conditions) == []
    assert ids(repository, reasons=("X",)) == []
    assert ids(repository, match="100%") == []


def test_a_rare_job_is_sought_a_bounded_way_and_the_page_says_how_far(
    connection, repository, monkeypatch
):
    monkeypatch.setattr(job_list, "MOST_LOOKED_AT", 4)
    [rare] = plant(connection, job_type="rare")
    plant(connection, 6)
    listing = JobList(repository, JobFilter(job_types=("rare",))).page(1, None)
    assert listing.jobs == []
    assert listing.extent is not None
    assert listing.extent.looked == 4
    listing = JobList(repository, JobFilter(job_types=("rare",))).page(1, listing.more)
    assert [job.id for job in listing.jobs] == [rare]
    assert listing.extent is None
    rows, _ = JobList(repository, JobFilter(job_types=("rare",))).read(
        Page(everything=True)
    )
    assert [job.id for job in rows] == [rare]


def test_a_page_that_is_exactly_full_has_no_next_one(connection, repository):
    plant(connection, 3)
    for limit, more in ((2, True), (3, False), (4, False)):
        listing = JobList(repository, JobFilter()).page(limit, None)
        assert (listing.more is not None) is more


def test_one_job_is_shown_as_lists_show_it(repository, planted):
    for state, jobs in planted.items():
        assert repository.jobs.find_listed_job(jobs[0]).status == state
    with pytest.raises(NotFound):
        repository.jobs.find_listed_job("00000000-0000-7000-8000-000000000000")


PLANS = {
    "list_jobs": {},
    "list_succeeded_jobs": {},
    "list_dead_jobs": {},
    "list_canceled_jobs": {},
    "list_waiting_jobs": {"due": True},
    "list_running_jobs": {"slow": False, "stuck": False},
    "list_newest_waiting_jobs": {"due": True, "sorted": 10_000},
    "list_newest_running_jobs": {},
    "list_newest_canceled_jobs": {},
}


@pytest.fixture(scope="module")
def many(server: Server, template: Database) -> Iterator[Connection]:
    """20,000 jobs in each place but the leases, and three that wait in a queue of their
    own. No vacuum has seen them, which makes an index look dear.
    """
    with cloned(server, template) as made:
        connection = made.connect()
        connection.execute("alter table pgflow.pending set (autovacuum_enabled = off)")
        plant(connection, 80_000)
        connection.execute(
            """
            create temp table parts as
              select id, row_number() over (order by id) % 4 as part from pgflow.jobs;
            delete from pgflow.pending
              where job_id in (select id from parts where part > 0);
            insert into pgflow.job_attempts
              (job_id, lease_id, started_at, attempt_no, status, worker_name)
              select id, gen_random_uuid(), now(), 1, 'failed', 'w'
              from parts where part = 2;
            insert into pgflow.job_successes (day, first_id, lease_id, leased_at,
              id_times, worker_name, job_ids, attempt_nos, started_ago, ended_ago)
              select ms / 86400000, (array_agg(id order by id))[1], gen_random_uuid(),
                now(), int8range(min(ms), max(ms), '[]'), 'w',
                array_agg(id order by id), array_agg(1), array_agg(0::real),
                array_agg(0::real)
              from (
                select id, row_number() over (order by id) / 50 as batch,
                  ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint as ms
                from parts where part = 1
              ) as succeeded
              group by ms / 86400000, batch;
            insert into pgflow.dead_letters (job_id, attempt_no, failed_attempts, queue,
              job_type, dlq_reason_code)
              select id, 1, 1, 'default', 'noop', 'X' from parts where part = 2;
            insert into pgflow.canceled_jobs (job_id, queue, canceled_by)
              select id, 'default', 'me' from parts where part = 3
            """
        )
        plant(connection, 3, queue="few")
        connection.execute(
            "analyze pgflow.jobs, pgflow.pending, pgflow.job_attempts,"
            " pgflow.job_successes, pgflow.dead_letters, pgflow.canceled_jobs"
        )
        assert audit(connection) == (0, 0)
        yield connection


def run(
    connection: Connection, name: str, *, generic: bool, **more: Any
) -> tuple[list[dict[str, Any]], int]:
    """Return the parts of a list's plan that ran, and how many pages they read."""
    statement = sqlfiles.statement(name)
    of = window(JobFilter(), limit=51, most=51, after=None)
    of = {**of, "guarded": False, **more}
    values = sql.SQL(", ").join([sql.Literal(of[p]) for p in statement.parameters])
    with connection.transaction():
        if generic:
            connection.execute(sqlfiles.statement("plan_once").text)
        connection.execute(b"prepare listing as " + statement.text)
        text = sql.SQL(
            "explain (analyze, buffers, format json, timing off) execute listing({})"
        )
        for _ in range(2):  # the first run reads the catalog
            row = connection.execute(text.format(values)).fetchone()
        connection.execute("deallocate listing")
    assert row is not None
    [root] = row[0]
    ran = [n for n in nodes(root["Plan"]) if n["Actual Loops"] > 0]
    return ran, root["Plan"]["Shared Hit Blocks"] + root["Plan"]["Shared Read Blocks"]


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("name", PLANS)
def test_a_page_among_many_jobs_reads_no_table_from_end_to_end(many, name, generic):
    ran, pages = run(many, name, generic=generic, **PLANS[name])
    small = {"queue_ranks", "leases", "moved_jobs"}
    whole = {
        n["Relation Name"]
        for n in ran
        if n["Node Type"] == "Seq Scan"
        and n["Actual Rows"] + n.get("Rows Removed by Filter", 0) > 0
    }
    assert whole <= small
    assert pages < 51 * 60


@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("most", [51, 10_000, 50_000])
@pytest.mark.parametrize("name", ["list_waiting_jobs", "list_newest_waiting_jobs"])
def test_a_queue_of_few_jobs_is_read_without_the_many_of_another(
    many, name, most, generic
):
    of = {"most": most, "due": True, "queues": ["few"], "sorted": most}
    ran, pages = run(many, name, generic=generic, **of)
    [page] = [n["Actual Rows"] for n in ran if n.get("Subplan Name") == "CTE looked"]
    assert page == 3
    scanned = {n["Node Type"] for n in ran if n.get("Relation Name") == "pending"}
    assert scanned <= {"Index Only Scan", "Index Scan"}
    assert pages < 150
