"""`pgflow restore --clean` killed at each step: what was there stays, or comes back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from pgflow_cli.local.clients import Clients
from tests.conftest import RunsPgflow
from tests.support import executable
from tests.support.backup_tools import digests, found_clients, slow_pg_dump, take
from tests.support.jobs import audit, plant
from tests.support.servers import Database, Server

Connection = psycopg.Connection[Any]
Wait = Callable[..., Any]


@pytest.fixture(autouse=True)
def _every_trial_ends_with_the_audit(connection: Connection) -> Iterator[None]:
    yield
    assert audit(connection) == (0, 0)


@pytest.fixture(scope="module")
def backup(
    server: Server, template: Database, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a backup of a database with five jobs, taken once."""
    folder = tmp_path_factory.mktemp("backup")
    take(server, template, folder, jobs=5)
    return folder


class Trial:
    """A restore whose programs stop somewhere, as shell scripts, until it is killed."""

    def __init__(
        self, pgflow: RunsPgflow, connection: Connection, database: Database,
        real: Clients, folder: Path, wait_until: Wait,
    ) -> None:  # fmt: skip
        self.pgflow, self.connection, self.database = pgflow, connection, database
        self.real, self.folder, self.wait_until = real, folder, wait_until
        plant(connection, 7)
        self.before = digests(database)
        self.mark = folder / "mark"
        self.stop_here = f"touch {self.mark}; exec sleep 600"

    def replace(self, program: str, script: str) -> Path:
        """Return a pg_dump whose neighbour of this name is a script."""
        made = slow_pg_dump(self.folder / "slow", self.real)
        path = made.with_name(program)
        path.unlink()
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return made

    def kill(
        self, pg_dump: Path, *options: str, number: int = signal.SIGKILL,
        when: Callable[[], bool] | None = None, into: str | None = None,
    ) -> int:  # fmt: skip
        place = ("--clean", "--confirm", self.database.name)
        if into is not None:
            place = ("--create", "--into", into)
        process = executable.Fork(
            *("restore", "a.dump", *place, "--pg-dump", str(pg_dump), *options),
            environment={**os.environ, "DATABASE_URL": self.database.url},
            folder=self.folder,
        )
        try:
            self.wait_until(when or self.mark.exists, "it has come so far", seconds=120)
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(number)
            process.wait(60)
        finally:
            process.kill()
            process.wait()
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive
        return process.wait()

    def schemas(self) -> list[str]:
        rows = self.connection.execute(
            "select nspname from pg_namespace where starts_with(nspname, 'pgflow')"
            " order by 1"
        )
        return [row[0] for row in rows]

    def bring_back(self, aside: str) -> None:
        """Do what doctor says, and find everything as it was."""
        seen = self.pgflow("doctor", "--check", "replaced", "-o", "json")
        assert seen.returncode == 5
        [found] = json.loads(seen.stdout)["items"]
        assert aside in found["detail"]
        psql = [self.real.program("psql"), "-X", "-v", "ON_ERROR_STOP=1"]
        psql += ["-d", self.database.url, "-c", found["fix"]]
        subprocess.run(psql, check=True, capture_output=True)
        assert self.schemas() == ["pgflow"]
        assert digests(self.database) == self.before
        assert self.pgflow("fence", "status", "--exit-code").returncode == 0


@pytest.fixture
def trial(
    pgflow: RunsPgflow, connection: Connection, database: Database, server: Server,
    tmp_path: Path, wait_until: Wait, backup: Path,
) -> Trial:  # fmt: skip
    shutil.copytree(backup, tmp_path, dirs_exist_ok=True)
    real = found_clients(server)
    return Trial(pgflow, connection, database, real, tmp_path, wait_until)


@pytest.mark.parametrize(
    ("script", "number"),
    [
        ("{stop}", signal.SIGKILL),
        # Half of it has been read: at the end of its input psql must not commit.
        (
            '{real} "$@" > {folder}/all; head -c 20000 {folder}/all; {stop}',
            signal.SIGKILL,
        ),
        ('{real} "$@"; {stop}', signal.SIGKILL),
        ('{real} "$@"; {stop}', signal.SIGTERM),
    ],
)
def test_killed_before_everything_is_loaded_it_has_changed_nothing(
    trial: Trial, script: str, number: int
) -> None:
    real = trial.real.program("pg_restore")
    script = script.format(real=real, stop=trial.stop_here, folder=trial.folder)
    ended = trial.kill(trial.replace("pg_restore", script), number=number)
    assert ended == (143 if number == signal.SIGTERM else -signal.SIGKILL)
    assert trial.schemas() == ["pgflow"]
    assert digests(trial.database) == trial.before
    assert trial.pgflow("fence", "status", "--exit-code").returncode == 0


def test_killed_when_everything_is_loaded_the_new_one_is_fenced(trial: Trial) -> None:
    script = f'{trial.real.program("psql")} "$@"; {trial.stop_here}'
    trial.kill(trial.replace("psql", script))
    aside = the_one_aside(trial)
    assert trial.pgflow("fence", "status", "--exit-code").returncode == 5
    worker = trial.pgflow("work", "--simulate", "--drain")
    assert worker.returncode == 78
    assert aside in worker.stderr
    assert "fence accept" not in worker.stderr, "it would refuse"
    for more in ([], ["--dry-run"]):
        accepted = trial.pgflow(
            "fence", "accept", "--confirm", trial.database.name, *more
        )
        assert accepted.returncode == 4
        assert aside in accepted.stderr
    trial.bring_back(aside)


def test_killed_while_it_drops_what_it_has_replaced_it_is_fenced(
    trial: Trial, database: Database
) -> None:
    with psycopg.connect(database.url) as reader:
        reader.execute("select count(*) from pgflow.pending")
        with psycopg.connect(database.url, autocommit=True) as looking:
            trial.kill(
                trial.real.pg_dump,
                when=lambda: (
                    looking.execute(
                        "select exists (select from pg_stat_activity"
                        " where %s = any(pg_blocking_pids(pid)))",
                        (reader.info.backend_pid,),
                    ).fetchone()
                    == (True,)
                ),
            )
            looking.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where %s = any(pg_blocking_pids(pid))",
                (reader.info.backend_pid,),
            )
    aside = the_one_aside(trial)
    assert trial.pgflow("fence", "status", "--exit-code").returncode == 5
    trial.bring_back(aside)


@pytest.mark.parametrize(
    "script",
    [
        "{stop}",
        '{real} --section=pre-data "$@"; {stop}',
        '{real} "$@"; {stop}',
    ],
    ids=["nothing", "a part", "all"],
)
def test_killed_with_several_jobs_it_makes_no_empty_queue(
    trial: Trial, script: str
) -> None:
    """Not one transaction: what was there stands aside, and everything names it."""
    script = script.format(real=trial.real.program("pg_restore"), stop=trial.stop_here)
    trial.kill(trial.replace("pg_restore", script), "--jobs", "2")
    aside = the_one_aside(trial, alone=script == trial.stop_here)
    tables = "select count(*) from pg_class where relnamespace = to_regnamespace(%s)"
    found = trial.connection.execute(tables, ("pgflow",)).fetchone()
    for command in (
        ["work", "--simulate", "--drain"],
        ["work", "--simulate", "--drain", "--migrate"],
        ["migrate"],
    ):
        done = trial.pgflow(*command)
        assert done.returncode == 78, command
        assert f"{aside} rename to pgflow" in done.stderr
    if "pre-data" not in script:
        assert trial.connection.execute(tables, ("pgflow",)).fetchone() == found
    trial.bring_back(aside)


@pytest.mark.parametrize(
    ("jobs", "script"),
    [
        ("1", '{real} "$@"; {stop}'),
        ("2", "{stop}"),
        ("2", '{real} --section=pre-data "$@"; {stop}'),
    ],
)
def test_killed_in_a_database_of_its_own_it_leaves_a_mark(
    trial: Trial, server: Server, script: str, jobs: str
) -> None:
    """Nothing works there, or takes what has come for all, before it is restored."""
    program = "psql" if jobs == "1" else "pg_restore"
    real = trial.real.program(program)
    script = script.format(real=real, stop=trial.stop_here)
    name = f"{trial.database.name}_made"
    url = trial.database.url.replace(trial.database.name, name, 1)
    pg_dump = trial.replace(program, script)
    try:
        trial.kill(pg_dump, "--jobs", jobs, into=url)
        on = {"DATABASE_URL": url}
        for command in (
            ["migrate"],
            ["migrate", "--check"],
            ["work", "--simulate", "--drain", "--migrate"],
            ["backup", "b.dump", "--verify", "off"],
        ):
            done = trial.pgflow(*command, env=on)
            assert done.returncode == 78, (command, done.stderr)
            assert "a restore was killed or has failed" in done.stderr
            assert "pgflow restore FILE --clean" in done.stderr
        seen = trial.pgflow("doctor", "--check", "complete", "-o", "json", env=on)
        assert seen.returncode == 5
        again = trial.pgflow(
            *("restore", "a.dump", "--clean", "--confirm", name, "--into", url)
        )
        assert again.returncode == 0, again.stderr
        assert trial.pgflow("migrate", "--check", env=on).returncode == 0
        accepted = trial.pgflow("fence", "accept", "--confirm", name, env=on)
        assert accepted.returncode == 0, accepted.stderr
    finally:
        server.drop(Database(url, name))


def test_without_a_schema_every_command_names_the_one_aside(
    pgflow: RunsPgflow, connection: Connection
) -> None:
    """As a killed restore of an older release has left it."""
    aside = "pgflow_replaced_20261130t120000000000"
    connection.execute(f"alter schema pgflow rename to {aside}")
    for command in (
        ["migrate"],
        ["migrate", "--check"],
        ["migrate", "--dry-run"],
        ["work", "--simulate", "--drain"],
        ["work", "--simulate", "--drain", "--migrate"],
        ["enqueue", "noop", "{}"],
        ["explain", "01700000-0000-7000-8000-000000000001"],
        ["fence", "status"],
        ["queues", "list"],
        ["dlq", "list"],
        ["metrics"],
        ["health", "--ready"],
        ["maintain"],
    ):
        done = pgflow(*command)
        assert done.returncode == 78, command
        assert f"{aside} rename to pgflow" in done.stderr, command
    seen = pgflow("doctor", "-o", "json")
    found = {each["check"]: each for each in json.loads(seen.stdout)["items"]}
    assert aside in found["schema.version"]["detail"]
    assert "pgflow migrate" not in seen.stdout
    connection.execute(found["schema.replaced"]["fix"])
    assert pgflow("migrate", "--check").returncode == 0


def the_one_aside(trial: Trial, *, alone: bool = False) -> str:
    schemas = [name for name in trial.schemas() if name != "pgflow_restoring"]
    aside = schemas[-1]
    assert schemas == [aside] if alone else ["pgflow", aside]
    assert aside.startswith("pgflow_replaced_")
    return aside
