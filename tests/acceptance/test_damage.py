"""A job whose row cannot be read costs itself, and holds up no queue."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgflow_cli.inspection.job_list import JobList
from pgflow_cli.maintenance import migrations
from pgflow_cli.models.selection import JobFilter
from pgflow_cli.operations import dead_letters
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Repository
from pgflow_cli.worker.leasing.unreadable_jobs import Unreadable
from pgflow_cli.worker.options import WorkerOptions
from tests.acceptance.conftest import Worker
from tests.support import executable
from tests.support.jobs import plant
from tests.support.private_servers import PrivateServer, private_server

pytestmark = pytest.mark.long
Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]

# Of 6 kB, and no shorter when it is compressed.
LONG = (
    "select pgflow.enqueue('quick', jsonb_build_object('text', string_agg("
    "md5(random()::text || n), '')))::text from generate_series(1, 200) n"
)
IN_FIRST_BLOCK = (
    "select id::text from pgflow.jobs where (ctid::text::point)[0] = 0 order by id"
)
OF_JOBS = "select tableoid::regclass::text from pgflow.jobs limit 1"
MARK = "text-that-stands-in-the-row-as-it-is"
Damaged = tuple[str, list[str]]  # a URL, and the jobs that cannot be read


@contextmanager
def bytes_that_are_no_text() -> Iterator[Damaged]:
    with private_server() as server:
        migrate(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            bad = plant(connection, job_type="quick", payload=f'{{"a": "{MARK}"}}')
            plant(connection, 20, job_type="quick")
            [table] = connection.execute(OF_JOBS).fetchone() or []
        with stopped(server, table) as file:
            data = file.read_bytes()
            assert data.count(MARK.encode()) == 1
            file.write_bytes(data.replace(MARK.encode(), b"\xff" * len(MARK)))
        yield server.url, bad


@contextmanager
def a_lost_toast() -> Iterator[Damaged]:
    with private_server() as server:
        migrate(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            bad = connection.execute(LONG).fetchall()
            plant(connection, 20, job_type="quick")
            [toast] = (
                connection.execute(
                    "select reltoastrelid::regclass::text from pg_class"
                    " where oid = (select tableoid from pgflow.jobs limit 1)"
                ).fetchone()
                or []
            )
        overwrite(server, toast)
        yield server.url, [row[0] for row in bad]


@contextmanager
def a_page_of_jobs() -> Iterator[Damaged]:
    with private_server() as server:
        migrate(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            plant(connection, 200, job_type="quick")
            bad = connection.execute(IN_FIRST_BLOCK).fetchall()
            [table] = (
                connection.execute(
                    "select tableoid::regclass::text from pgflow.jobs limit 1"
                ).fetchone()
                or []
            )
        assert 20 < len(bad) < 180
        overwrite(server, table)
        yield server.url, [row[0] for row in bad]


def migrate(url: str) -> None:
    repository = Repository.of(Settings(url))
    migrations.migrate(repository)
    migrations.ensure_partitions(repository)
    repository.close()


def overwrite(server: PrivateServer, relation: str) -> None:
    """Write nonsense over the first block of a relation."""
    with stopped(server, relation) as path, path.open("r+b") as file:
        file.write(b"\xa5" * 8192)


@contextmanager
def stopped(server: PrivateServer, relation: str) -> Iterator[Path]:
    """Yield the file of a relation while the server stands still and looks away."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        [path] = (
            connection.execute(
                "select pg_relation_filepath(%s::regclass)", (relation,)
            ).fetchone()
            or []
        )
    server.stop("fast")
    data = server.folder / "data"
    # Fails if there are none: they are the default from PostgreSQL 18 on.
    subprocess.run(
        [server.binaries / "pg_checksums", "--disable", "-D", data],
        check=False,
        capture_output=True,
        cwd="/",
    )
    yield data / path
    server.start()


def test_a_damaged_payload_fails_no_list_that_asks_for_payloads() -> None:
    with a_lost_toast() as (url, bad):
        repository = Repository.of(Settings(url))
        chosen = JobFilter(payload_contains="{}")
        for jobs in (JobList(repository, chosen), JobList(repository, JobFilter())):
            listed = {job.id for job in jobs.page(500, None).jobs}
            wanted = 20 if jobs.chosen is chosen else 20 + len(bad)
            assert len(listed) == wanted
        assert Unreadable(repository, WorkerOptions(url=url, name="w")).search(None)
        assert dead_letters.choose(repository, chosen).job_ids == []
        assert dead_letters.choose(repository, JobFilter()).job_ids == bad
        repository.close()


@contextmanager
def a_damaged_page(block: int, jobs: int) -> Iterator[tuple[str, list[str], str]]:
    """Damage the header of a page; yield a URL, the jobs in it, and their table."""
    with private_server() as server:
        migrate(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            payload = json.dumps({"x": "y" * 300})
            plant(connection, jobs, job_type="quick", payload=payload)
            [table] = connection.execute(OF_JOBS).fetchone() or []
            inside = IN_FIRST_BLOCK.replace("= 0", f"= {block}")
            bad = [row[0] for row in connection.execute(inside).fetchall()]
            # Else the planner takes two pages for ten, and reads them by the key.
            connection.execute("analyze pgflow.jobs, pgflow.pending")
        assert 0 < len(bad) < jobs
        with stopped(server, table) as path, path.open("r+b") as file:
            file.seek(8192 * block)
            file.write(b"\xee" * 24)
        yield server.url, bad, table


# Of 24 pages the planner would hash all rows, two it would read as a whole.
@pytest.mark.parametrize(("block", "jobs"), [(13, 400), (0, 30)])
def test_a_damaged_page_costs_only_the_jobs_in_it(block: int, jobs: int) -> None:
    with (
        a_damaged_page(block, jobs) as (url, bad, table),
        psycopg.connect(url, autocommit=True) as connection,
    ):
        repository = Repository.of(Settings(url))
        named = f"block {block} of relation"
        for letters in (False, True):
            with repository.diagnosis.bounded(60):
                seen = repository.diagnosis.find_unreadable_letters()
            assert (seen.letters, seen.waiting) == (
                (len(bad), 0) if letters else (0, len(bad))
            )
            [damage] = seen.damages
            assert named in damage
            assert damage.endswith(f"which is {table}")
            if not letters:
                worker = WorkerOptions(url=url, name="w", batch_size=jobs)
                assert Unreadable(repository, worker).search(None)
        found = connection.execute(
            "select job_id::text from pgflow.dead_letters order by job_id"
        ).fetchall()
        assert [row[0] for row in found] == bad
        left = connection.execute("select count(*) from pgflow.pending").fetchone()
        assert left == (jobs - len(bad),)
        repository.close()


def test_a_list_that_meets_a_damaged_page_names_its_table(
    how_to_run: executable.Runs, tmp_path: Path
) -> None:
    with a_damaged_page(13, 400) as (url, _bad, table):
        told = how_to_run(
            *("jobs", "list", "--limit", "500"),
            environment={**os.environ, "DATABASE_URL": url},
            folder=tmp_path,
            input=None,
        )
        assert told.returncode == 74, told.stderr
        assert 'cannot be read: invalid page in block 13 of relation "' in told.stderr
        assert f"which is {table}" in told.stderr


DAMAGES = [bytes_that_are_no_text, a_lost_toast, a_page_of_jobs]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("limited", [False, True])
def test_a_job_that_cannot_be_read_is_a_dead_letter_and_the_others_run(
    start_worker: Start,
    how_to_run: executable.Runs,
    tmp_path: Path,
    damage: Callable[[], AbstractContextManager[Damaged]],
    limited: bool,
) -> None:
    with (
        damage() as (url, bad),
        psycopg.connect(url, autocommit=True) as connection,
    ):
        if limited:
            connection.execute(
                "insert into pgflow.queue_policies (queue, max_in_flight)"
                " values ('default', 1000)"
            )
        worker = start_worker("--drain", "--log-format", "json", url=url)
        assert worker.wait() == 0
        letters = connection.execute(
            "select job_id::text, dlq_reason_code, error_code from pgflow.dead_letters"
            " order by job_id"
        ).fetchall()
        assert letters == [(job, "UNREADABLE", "UNREADABLE") for job in bad]
        assert connection.execute("select count(*) from pgflow.pending").fetchone() == (
            0,
        )
        ended = "select count(*) from pgflow.any_attempts where status = 'succeeded'"
        assert connection.execute(ended).fetchone() == (
            200 - len(bad) if damage is a_page_of_jobs else 20,
        )
        told = [json.loads(line) for line in worker.log.splitlines()]
        assert {e["job_id"] for e in told if e["event"] == "job_unreadable"} == {*bad}
        for words in (
            ("explain", bad[0]),
            ("dlq", "list"),
            ("dlq", "show", bad[0], "-o", "json"),
        ):
            found = how_to_run(
                *words,
                environment={**os.environ, "DATABASE_URL": url},
                folder=tmp_path,
                input=None,
            )
            assert found.returncode == 0, found.stderr
            assert "UNREADABLE" in found.stdout
            assert "pgflow replay" not in found.stdout
        refused = how_to_run(
            *("replay", bad[0], "--yes"),
            environment={**os.environ, "DATABASE_URL": url},
            folder=tmp_path,
            input=None,
        )
        assert refused.returncode == 4, refused.stderr
        assert f"pgflow dlq discard {bad[0][-8:]}" in refused.stderr
        plans = connection.execute("select count(*) from pgflow.replay_plans")
        assert plans.fetchone() == (0,)


def test_successes_wait_for_the_repair_of_the_page_that_they_are_written_to(
    start_worker: Start, wait_until: Wait
) -> None:
    """No job is charged for a disk, and none does its work once more."""
    with private_server() as server:
        migrate(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            plant(connection, 3, job_type="quick")
        assert start_worker("--drain", url=server.url).wait() == 0
        with psycopg.connect(server.url, autocommit=True) as connection:
            [[table]] = connection.execute(
                "select distinct tableoid::regclass::text from pgflow.job_successes"
            ).fetchall()
        overwrite(server, table)  # its only page, hence its last
        with psycopg.connect(server.url, autocommit=True) as connection:
            jobs = plant(connection, 5, job_type="quick")
            worker = start_worker("--drain", url=server.url)
            said = "is not taken, again in 4 s"  # the third try of each
            wait_until(lambda: worker.log.count(said) >= 1, "they are tried, and again")
            assert connection.execute("table pgflow.job_attempts").fetchall() == []
            connection.execute("set zero_damaged_pages = on")
            connection.execute(f"vacuum (full) {table}")
            assert worker.wait() == 0
            ended = connection.execute(
                "select job_id::text, attempt_no, status from pgflow.any_attempts"
                " order by job_id"
            ).fetchall()
            assert ended == [(job, 1, "succeeded") for job in sorted(jobs)]
            assert worker.log.count("OUTCOME_REFUSED") == 0
