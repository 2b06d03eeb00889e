"""Leases end though the database refuses the end of others."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest

from pgflow_cli.errors import LeasesRefused, PermissionDenied
from pgflow_cli.maintenance import reap
from pgflow_cli.maintenance.reap import Reaper, end_leases
from pgflow_cli.models.jobs import LeasedJob, LeaseRequest, Scan
from pgflow_cli.repository import Repository
from tests.support.jobs import audit, expire_leases, new_worker, plant, status_of

Connection = psycopg.Connection[Any]
WORKER = new_worker()


def lease_each(repository: Repository, count: int) -> list[LeasedJob]:
    """Lease jobs, each under a lease of its own."""
    jobs = []
    for _ in range(count):
        request = LeaseRequest(
            worker_id=WORKER,
            worker_name="worker-1",
            code_version=None,
            batch_id=str(uuid.uuid4()),
            lease_seconds=10.0,
            queues=["default"],
            job_types=None,
            room=1,
            scan=Scan(),
            settlements=[],
            closed=[],
        )
        jobs += repository.leases.settle_and_lease(request).jobs
    return jobs


def poison(connection: Connection, jobs: list[LeasedJob], code: str = "P0001") -> None:
    """Have a trigger refuse every outcome of these jobs."""
    connection.execute("create table public.poisoned (job_id uuid primary key)")
    connection.execute(
        f"""
        create function public.refuse() returns trigger language plpgsql as
        $$ begin
          if new.job_id in (select job_id from public.poisoned) then
            raise exception 'no' using errcode = '{code}';
          end if;
          return new;
        end $$;
        create trigger refuse before insert on pgflow.job_attempts
        for each row execute function public.refuse();
        """
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into public.poisoned values (%s)", [(job.job_id,) for job in jobs]
        )


def test_a_lease_that_cannot_be_reaped_keeps_no_other_from_it(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 3)
    good, bad, other = lease_each(repository, 3)
    poison(connection, [bad])
    expire_leases(connection)
    with pytest.raises(LeasesRefused):
        repository.unsettled_leases.reap_expired_locks(limit=10, crash_budget=3)
    reaped = Reaper(3).reap(repository, limit=10)
    assert {job.job_id for job in reaped} == {good.job_id, other.job_id}
    assert status_of(connection, bad.job_id) == "running"
    assert audit(connection) == (0, 0)


@pytest.mark.parametrize("code", ["40001", "57014", "57P01", "42501"])
def test_a_lease_whose_end_looks_like_an_outage_keeps_no_other_from_it(
    connection: Connection, repository: Repository, code: str
) -> None:
    plant(connection, 3)
    good, bad, other = lease_each(repository, 3)
    poison(connection, [bad], code)
    expire_leases(connection)
    reaper = Reaper(3)
    reaped = reaper.reap(repository, limit=10)
    assert {job.job_id for job in reaped} == {good.job_id, other.job_id}
    assert reaper.reap(repository, limit=10) == []
    assert status_of(connection, bad.job_id) == "running"


def test_what_keeps_every_lease_from_being_reaped_is_an_outage(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 2)
    jobs = lease_each(repository, 2)
    expire_leases(connection)
    connection.execute("create role reaper")
    try:
        for schema in ("schema pgflow", "all tables in schema pgflow"):
            what = "usage" if schema == "schema pgflow" else "select, update"
            connection.execute(f"grant {what} on {schema} to reaper")
        reaper = Reaper(3)
        repository.link.raw().execute("set role reaper")
        with pytest.raises(PermissionDenied):
            reaper.reap(repository, limit=10)
        repository.link.raw().execute("reset role")
        reaped = reaper.reap(repository, limit=10)
        assert {job.job_id for job in reaped} == {job.job_id for job in jobs}
    finally:
        connection.execute("drop owned by reaper; drop role reaper")


@pytest.mark.parametrize("code", ["P0001", "40P01", "57014", "57P01", "42501"])
def test_leases_that_cannot_be_reaped_do_not_fill_every_batch(
    connection: Connection, repository: Repository, code: str
) -> None:
    plant(connection, 12)
    jobs = sorted(lease_each(repository, 12), key=lambda job: job.lease_id)
    poison(connection, jobs[:11], code)
    expire_leases(connection)
    reaper = Reaper(3)
    [reaped] = reaper.reap(repository, limit=5)
    assert reaped.job_id == jobs[11].job_id
    assert reaper.reap(repository, limit=5) == []


def test_a_trigger_that_refuses_at_the_commit_keeps_no_other_lease_from_its_end(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 3)
    good, bad, other = lease_each(repository, 3)
    poison(connection, [bad], "57014")
    connection.execute("drop trigger refuse on pgflow.job_attempts")
    connection.execute(
        "create constraint trigger refuse after insert on pgflow.job_attempts"
        " deferrable initially deferred for each row execute function public.refuse()"
    )
    expire_leases(connection)
    reaped = Reaper(3).reap(repository, limit=10)
    assert {job.job_id for job in reaped} == {good.job_id, other.job_id}


def test_leases_that_there_was_no_time_for_wait_until_others_had_their_turn(
    connection: Connection, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a slow trigger: each batch ends after its first lease."""
    monkeypatch.setattr(reap, "PATIENCE", -1.0)
    plant(connection, 7)
    jobs = sorted(lease_each(repository, 7), key=lambda job: job.lease_id)
    poison(connection, jobs[:6], "57014")
    expire_leases(connection)
    reaper = Reaper(3)
    turns = [reaper.reap(repository, limit=2) for _ in range(4)]
    assert [job.job_id for turn in turns for job in turn] == [jobs[6].job_id]
    assert reaper.reap(repository, limit=2) == [], "the end of the round"
    # Those that there was no time for come next.
    connection.execute("delete from public.poisoned")
    assert len(reaper.reap(repository, limit=10)) == 3


def test_a_lease_that_could_not_be_reaped_is_tried_again_later(
    connection: Connection,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(connection)
    [job] = lease_each(repository, 1)
    poison(connection, [job])
    expire_leases(connection)
    reaper = Reaper(3)
    assert reaper.reap(repository, limit=2) == []
    connection.execute("delete from public.poisoned")
    assert reaper.reap(repository, limit=2) == []
    reaper._refused = dict.fromkeys(reaper._refused, 0.0)  # a minute passes
    [reaped] = reaper.reap(repository, limit=2)
    assert reaped.job_id == job.job_id


def test_a_dead_process_whose_one_lease_is_refused_gives_up_the_others(
    connection: Connection, repository: Repository
) -> None:
    plant(connection, 3)
    good, bad, other = lease_each(repository, 3)
    poison(connection, [bad])
    ends = end_leases(
        repository,
        lambda only: repository.unsettled_leases.end_worker(
            WORKER,
            status="lost",
            started=[(good.job_id, 1), (bad.job_id, 1)],
            crash_budget=3,
            error_code="WORKER_LOST",
            error_message="signal SIGKILL",
            only=only,
        ),
    )
    assert {(job.job_id, job.started) for job in ends.jobs} == {
        (good.job_id, True),
        (other.job_id, False),
    }
    assert ends.refused == [bad.lease_id]
    assert audit(connection) == (0, 0)
