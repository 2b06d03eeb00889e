"""Completion: what shells ask and get; silent about everything that goes wrong."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.programs import run
from tests.repository.test_audit import bury, unqueue
from tests.support import executable
from tests.support.jobs import plant

PGFLOW = Path(sys.executable).with_name("pgflow")


@pytest.fixture
def complete(database: Any, tmp_path: Path) -> Any:
    """Ask as a shell does, and return the candidates."""

    def ask(line: str, url: str | None = None, shell: str = "bash") -> list[str]:
        words = line.split(" ")
        variables = {
            **os.environ,
            "_PGFLOW_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "COMP_WORD": words[-1],
            "DATABASE_URL": database.url if url is None else url,
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        done = executable.fork(environment=variables, folder=tmp_path, input=None)
        assert done.stderr == ""
        return [line for line in done.stdout.splitlines() if line]

    return ask


@pytest.fixture
def suggests(complete: Any, wait_until: Any, tmp_path: Path) -> Any:
    """Ask until the candidates are these: the statement has half a second, and a busy
    machine may take longer.
    """

    def ask(line: str, *expected: str) -> None:
        def answered() -> bool:
            if (found := complete(line)) == []:
                shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            else:
                assert found == [f"plain,{each}" for each in expected]
            return bool(found)

        wait_until(answered, f"candidates for {line}")

    return ask


def test_commands_and_options_are_completed(complete):
    assert complete("pgflow wo") == ["plain,work", "plain,workers"]
    assert "plain,--lease-seconds" in complete("pgflow work --le")


def test_names_come_from_the_database(suggests, connection):
    plant(connection, queue="emails")
    plant(connection, queue="billing")
    suggests("pgflow queues pause e", "emails")
    suggests("pgflow decisions list -q ", "billing", "emails")


def test_ids_of_dead_letters_come_by_their_end(suggests, connection):
    [job_id] = plant(connection)
    unqueue(connection, job_id)
    bury(connection, job_id)
    suggests(f"pgflow explain {job_id[-8:-6]}", job_id[-8:])


def test_what_is_known_is_remembered_for_a_while(
    suggests, complete, connection, tmp_path
):
    plant(connection, queue="emails")
    suggests("pgflow queues pause e", "emails")
    connection.execute("truncate pgflow.queue_ranks")
    suggests("pgflow queues pause e", "emails")
    for path in (tmp_path / "cache").rglob("*.json"):
        os.utime(path, (1, 1))
    assert complete("pgflow queues pause e") == []


@pytest.mark.parametrize(
    "line",
    [
        "dlq show {}", "dlq discard {}", "jobs show {}", "jobs cancel {}", "replay {}",
        "jobs wait {}", "jobs run-now {}", "timeline {}",
    ],
)  # fmt: skip
def test_every_command_that_takes_an_id_completes_it(suggests, connection, line):
    [job_id] = plant(connection)
    unqueue(connection, job_id)
    bury(connection, job_id)
    suggests(f"pgflow {line.format(job_id[-8:-5])}", job_id[-8:])


def test_queues_of_a_worker_types_and_plans_are_completed(suggests, connection):
    [job_id] = plant(connection, queue="emails")
    unqueue(connection, job_id)
    bury(connection, job_id)
    suggests("pgflow work -q x,e", "x,emails")
    suggests("pgflow enqueue n", "noop")
    connection.execute(
        "insert into pgflow.replay_plans (action_id, batch_size, max_payload_bytes,"
        " selected, runner) values (1, 10, 1000, 7, 'me')"
    )
    suggests("pgflow replay status ", "1")


def test_a_server_that_accepts_and_says_nothing_is_waited_for_once(complete):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        url = f"postgres://u@127.0.0.1:{silent.getsockname()[1]}/d"
        assert complete("pgflow queues pause e", url=url) == []
        assert visitors(silent) > 0
        assert complete("pgflow queues pause e", url=url) == []
        assert visitors(silent) == 0


def visitors(listening: socket.socket) -> int:
    """Return how many connections have come since this was last asked."""
    came = 0
    with suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            came += 1
    return came


def test_commands_are_completed_without_the_driver():
    asked = [
        {
            "_PGFLOW_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": line,
            # fish gives the word itself.
            "COMP_CWORD": line.split(" ")[-1]
            if shell == "fish"
            else str(len(line.split(" ")) - 1),
            "COMP_WORD": line.split(" ")[-1],
        }
        for shell in ("bash", "zsh", "fish", "powershell")
        for line in ("pgflow wo", "pgflow work --le", "pgflow dlq ")
    ]
    code = (
        "import os, sys\nfrom pgflow_cli.cli.program import program\n"
        f"for asked in {asked!r}:\n"
        "    os.environ.update(asked)\n"
        "    try:\n        program([], prog_name='pgflow')\n"
        "    except SystemExit:\n        pass\n"
        "    print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    answers = re.split("^LOADED (.*)\n", done.stdout, flags=re.MULTILINE)
    assert answers.pop() == ""
    assert len(answers) == 2 * len(asked)
    assert all(answers[::2]), "each line has candidates"
    assert not set(answers[-1].split()) & {"psycopg", "rich", "tabulate"}


@pytest.mark.parametrize(
    "url", ["postgres://127.0.0.1:1/none", "nonsense://", "", "dev:"]
)
def test_a_database_that_does_not_answer_gives_silence(complete, url):
    assert complete("pgflow queues pause e", url=url) == []


def test_powershell_gets_candidates_with_help(complete):
    lines = complete("pgflow wo", None, "powershell")
    assert lines[0].startswith("work\tLease and run jobs")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_the_script_of_each_shell_names_the_variable(shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_PGFLOW_COMPLETE" in result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_the_script_is_installed_where_the_shell_looks(shell, tmp_path):
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    result = run("completion", shell, "--install", variables=home)
    assert result.exit_code == 0, result.output
    written = [path for path in tmp_path.rglob("*pgflow*") if path.is_file()]
    assert len(written) == 1
    blocked = tmp_path / "blocked"
    blocked.touch()
    beyond = {"HOME": str(blocked), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    assert run("completion", shell, "--install", variables=beyond).exit_code == 74


def test_bash_itself_completes(tmp_path):
    bash = shutil.which("bash")
    assert bash
    path = tmp_path / "pgflow.bash"
    path.write_text(run("completion", "bash").stdout)
    program = (
        f"source {path}; COMP_WORDS=(pgflow workers q); COMP_CWORD=2;"
        " _pgflow_completion pgflow; echo ${COMPREPLY[@]}"
    )
    environment = {**os.environ, "PATH": f"{PGFLOW.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [bash, "--norc", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "quiet", done.stderr
