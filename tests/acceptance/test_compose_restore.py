"""Backup and restore with Docker Compose, as RUNBOOK.md has them typed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.machines import PATIENCE, PGFLOW, Machine
from tests.support.backup_tools import another, found_clients
from tests.support.deployment import TREE, environment_of
from tests.support.jobs import status_of
from tests.support.servers import Database, Server

Wait = Callable[..., Any]
NAME = environment_of("db")["POSTGRES_DB"]
IN_DB = "docker compose exec -T db "
IN_PGFLOW = "docker compose run --rm pgflow "


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """The database of the Compose file, of the server and not of one test."""
    with another(server, NAME) as made:
        yield made


@pytest.fixture
def machine(tmp_path: Path, database: Database) -> Iterator[Machine]:
    made = Machine(tmp_path, database)
    yield made
    made.stop()


class Operator:
    """Types the lines of the runbook; containers are programs of this host."""

    def __init__(self, server: Server, machine: Machine) -> None:
        text = (TREE / "RUNBOOK.md").read_text(encoding="utf-8")
        section = text.partition("### Backup and restore with Docker Compose")[2]
        blocks = re.findall(r"```sh\n(.*?)```", section.partition("\n## ")[0], re.S)
        self.lines = [line for block in blocks for line in block.splitlines()]
        self._programs = found_clients(server).folder
        self._machine = machine
        with psycopg.connect(server.url) as connection:
            info = connection.info
            self._address = {"PGHOST": info.host, "PGPORT": str(info.port)}

    def type(self, *beginnings: str) -> str:
        """Type every line that begins so, in the order of the runbook."""
        typed = [line for line in self.lines if line.startswith(beginnings)]
        assert typed, beginnings
        return "".join(self._run(line.partition(" #")[0].strip()) for line in typed)

    def _run(self, line: str) -> str:
        if line.startswith(IN_DB):
            line = line.removeprefix(IN_DB)
        elif line.startswith(IN_PGFLOW):
            line = f"{shlex.quote(PGFLOW)} {line.removeprefix(IN_PGFLOW)}"
            # Nobody is here to be asked for it.
            line += f" --confirm {NAME}" if " accept " in line else ""
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            env={
                **self._address,
                "PATH": f"{self._programs}:{os.environ['PATH']}",
                "DATABASE_URL": self._machine.database.url,
            },
            cwd=self._machine.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stderr)
        return done.stdout + done.stderr


def test_a_restore_into_an_empty_database_waits_for_the_operators_word(
    server: Server, machine: Machine, wait_until: Wait
) -> None:
    operator = Operator(server, machine)
    machine.start("pgflow", "before", {"PGFLOW_ADMIN_ADDR": "off"})
    wait_until(
        lambda: machine.is_healthy("pgflow", "before"),
        "it is healthy",
        seconds=PATIENCE,
    )
    done = enqueue(machine, delay="0")
    with psycopg.connect(machine.database.url, autocommit=True) as connection:
        wait_until(lambda: status_of(connection, done) == "succeeded", "a job runs")
    waiting = enqueue(machine, delay="1 day")
    operator.type("mkdir", f"{IN_DB}pg_dump")
    assert machine.stop() == [0]

    operator.type(f"{IN_DB}dropdb", f"{IN_DB}createdb", f"{IN_DB}psql")
    with psycopg.connect(machine.database.url, autocommit=True) as connection:
        assert status_of(connection, done) == "succeeded"
        assert status_of(connection, waiting) == "scheduled"

    fenced = machine.start("pgflow", "fenced", {"PGFLOW_ADMIN_ADDR": "off"})
    assert fenced.wait(60) == 78
    assert "fence" in machine.log("fenced").read_text()
    operator.type(f"{IN_PGFLOW}fence accept")
    machine.start("pgflow", "after", {"PGFLOW_ADMIN_ADDR": "off"})
    wait_until(
        lambda: machine.is_healthy("pgflow", "after"),
        "it works again",
        seconds=PATIENCE,
    )
    with psycopg.connect(machine.database.url, autocommit=True) as connection:
        later = enqueue(machine, delay="0")
        assert status_of(connection, later) == "queued"
        # In the container of `pgflow`, as of every other command.
        [resume] = [line for line in operator.lines if "queues resume" in line]
        words = resume.removeprefix("docker compose exec pgflow pgflow ").split()
        assert machine.run("pgflow", "after", *words) == 0
        wait_until(lambda: status_of(connection, later) == "succeeded", "it runs")


def enqueue(machine: Machine, *, delay: str) -> str:
    with psycopg.connect(machine.database.url) as connection:
        row = connection.execute(
            "select pgflow.enqueue('ok', '{}', run_at => now() + %s::interval)::text",
            (delay,),
        ).fetchone()
        assert row is not None
        return str(row[0])
