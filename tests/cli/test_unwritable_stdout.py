"""A change whose report cannot be written to stdout: the error says it was made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import click
import psycopg
import pytest

from pgflow_cli.cli.program import program
from tests.support import executable
from tests.support.jobs import plant, plant_dead
from tests.support.servers import Database

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")

Connection = psycopg.Connection[Any]
UUID = "[0-9a-f]{8}-[0-9a-f-]{27}"
LOST = "could not be written to stdout: No space left on device"


def one_dead(connection: Connection) -> str:
    return plant_dead(connection, 1)[0]


def one_waiting(connection: Connection) -> str:
    return plant(connection, queue="emails")[0]


def a_plan(connection: Connection) -> str:
    """Have one dead letter, which the command before replays as plan 1."""
    plant_dead(connection, 1)
    return "1"


# What is changed, and what the error says of it. {} is what was planted.
REPORTED: dict[str, tuple[Any, str, str]] = {
    "enqueue": (None, "enqueue ok", f"job {UUID} was enqueued; its id {LOST}"),
    "backup": (None, "backup a.dump", f"the backup is complete at a.dump; .* {LOST}"),
    "dlq discard": (
        one_dead,
        "dlq discard {} --yes",
        rf"discarded 1, skipped 0, failed 0 \(action 1\); this {LOST}",
    ),
    "replay run": (
        one_dead,
        "replay {} --yes",
        rf"replayed 1, skipped 0, failed 0 \(plan 1, action 1\); this {LOST}",
    ),
    "replay resume": (
        a_plan,
        "replay resume {} --yes",
        rf"replayed 1, skipped 0, failed 0 \(plan 1, action 2\); this {LOST}",
    ),
    "replay undo": (
        a_plan,
        "replay undo {} --yes -o json",
        rf"undid 1, had run 0 \(plan 1, action 2\); the jobs that had run {LOST}",
    ),
    "jobs cancel": (
        one_waiting,
        "jobs cancel {} -o ids",
        rf"1 job canceled \(action 1\); their ids {LOST}",
    ),
    "jobs run-now": (
        lambda connection: plant(connection, due_in="1 hour")[0],
        "jobs run-now {} -o ids",
        rf"1 job due now \(action 1\); their ids {LOST}",
    ),
    "jobs reprioritize": (
        one_waiting,
        "jobs reprioritize {} 5 -o ids",
        rf"1 job now of priority 5 \(action 1\); their ids {LOST}",
    ),
    "queues set-policy": (
        one_waiting,
        "queues set-policy emails --max-in-flight 3 --yes",
        f"the policy of emails was changed; what it is now {LOST}",
    ),
    "queues bound": (
        None,
        "queues bound 77777 --yes",
        f"max_queues is 77,777 now; this {LOST}",
    ),
    "queues purge": (
        one_waiting,
        "queues purge emails --confirm emails",
        rf"canceled 1 jobs \(action 1\); this {LOST}",
    ),
    "maintain": (
        None,
        "maintain --task prune",
        f"maintain has ended: prune ok; its report {LOST}",
    ),
}
# Their stdout stays empty, unless it is a dry run.
SILENT = {
    "fence accept", "fence raise", "queues clear-policy", "queues pause",
    "queues resume", "replay stop", "restore", "workers forget", "workers quiet",
    "workers resume",
}  # fmt: skip


@pytest.fixture
def run(database: Database, tmp_path: Path) -> Callable[..., Any]:
    """Run the program with this stdout to its end; without one, it is started."""

    def started(words: str, stdout: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DATABASE_URL": database.url}
        if stdout is None:
            return subprocess.run(
                [str(Path(sys.executable).with_name("pgflow")), *words.split()],
                env=environment,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                preexec_fn=lambda: os.close(1),
            )
        with TemporaryFile() as stderr:
            process = executable.Fork(
                *words.split(),
                environment=environment,
                folder=tmp_path,
                stdout=stdout,
                stderr=stderr,
            )
            code = process.wait()
            stderr.seek(0)
            return subprocess.CompletedProcess(
                words, code, stderr=stderr.read().decode()
            )

    return started


def changing(group: click.Group, *before: str) -> Iterator[str]:
    """Yield the commands that take --note: an operator changes something."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from changing(command, *before, name)
        if any("--note" in param.opts for param in command.params):
            yield " ".join((*before, name))


def test_every_command_that_changes_something_stands_in_the_list() -> None:
    assert {*changing(program)} - SILENT == {*REPORTED} - {"enqueue", "maintain"}


@pytest.mark.parametrize("command", REPORTED)
def test_a_full_disk_behind_stdout_hides_no_change(
    run: Callable[..., Any], connection: Connection, command: str
) -> None:
    prepare, words, said = REPORTED[command]
    planted = prepare(connection) if prepare else ""
    if prepare is a_plan:
        with open(os.devnull, "wb") as nothing:
            first = run("replay --all --yes", nothing)
        assert first.returncode == 0, first.stderr
    if command == "replay resume":
        connection.execute(
            "update pgflow.replay_plans set state = 'stopped', ended_at = null"
        )
    with open("/dev/full", "wb") as full:
        done = run(words.format(planted), full)
    assert done.returncode == 74, done.stderr
    assert re.search(f"^Error: {said}$", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.parametrize(
    "words", ["enqueue ok", "backup a.dump", "dlq discard --all", "migrate", "maintain"]
)
def test_nothing_is_changed_where_stdout_is_closed(
    run: Callable[..., Any], connection: Connection, words: str, tmp_path: Path
) -> None:
    plant_dead(connection, 1)
    done = run(words, None)
    said = "Error: cannot write to stdout: it is closed; nothing was changed\n"
    assert (done.returncode, done.stderr) == (74, said)
    [[actions, jobs, dead]] = connection.execute(
        "select (select count(*) from pgflow.operator_actions),"
        " (select count(*) from pgflow.jobs),"
        " (select count(*) from pgflow.dead_letters)"
    ).fetchall()
    assert (actions, jobs, dead) == (0, 1, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_gone_hides_no_change(
    run: Callable[..., Any], connection: Connection
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run("enqueue ok", writer)
    os.close(writer)
    [[job_id]] = connection.execute("select id::text from pgflow.jobs").fetchall()
    said = f"job {job_id} was enqueued; its id could not be written to stdout"
    assert (done.returncode, done.stderr) == (141, f"Warning: {said}: broken pipe\n")


def test_the_ids_of_a_batch_are_told(
    run: Callable[..., Any], connection: Connection, tmp_path: Path
) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"job_type": "ok", "payload_json": {}}\n' * 3)
    with open("/dev/full", "wb") as full:
        done = run("enqueue --batch jobs.jsonl -o ids", full)
    assert done.returncode == 74, done.stderr
    rows = connection.execute("select id::text from pgflow.jobs order by id").fetchall()
    said = f"3 jobs were enqueued ({rows[0][0]} to {rows[-1][0]}); their ids {LOST}"
    assert done.stderr.splitlines()[-1] == f"Error: {said}"
