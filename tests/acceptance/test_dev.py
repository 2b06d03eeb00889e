"""`pgflow dev`: a server and a worker in the foreground, found by other commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from pgflow_cli.local import Folder, find_running
from pgflow_cli.local.binaries import server_account
from tests.support import executable

PROGRAM = str(Path(sys.executable).with_name("pgflow"))
WaitUntil = Callable[..., Any]
Process = subprocess.Popen[str]


class Directory:
    """A working directory in which `pgflow dev` is typed."""

    def __init__(self, path: Path, wait_until: WaitUntil) -> None:
        self.path = path
        self.wait_until = wait_until
        self.data_dir = path / ".pgflow"
        self.started: list[Process] = []
        account = server_account()
        self.folders = [
            Folder.of(self.data_dir, account, ephemeral=ephemeral)
            for ephemeral in (False, True)
        ]

    def run(
        self,
        *arguments: str,
        how: executable.Runs = executable.fork,
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        return how(
            *arguments,
            environment={**os.environ, **env},
            folder=self.path,
            input=None,
        )

    def start(self, *arguments: str) -> Process:
        """Start `pgflow dev` in a process group of its own, as a shell does."""
        process = subprocess.Popen(
            [PROGRAM, "dev", *arguments],
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )
        self.started.append(process)
        return process

    def url(self) -> str:
        """Return what `pgflow dev --print-url` prints, once the server runs."""
        running = self.wait_until(
            lambda: find_running(self.data_dir), "a server runs", seconds=120
        )
        url = running.url()
        assert isinstance(url, str)
        return url

    def wait_for_worker(self, url: str) -> None:
        def connect() -> psycopg.Connection[Any] | None:
            with suppress(psycopg.OperationalError):
                return psycopg.connect(url, autocommit=True)
            return None

        def registered() -> bool:
            with suppress(psycopg.Error):  # the schema may not be there yet
                return connection.execute("select from pgflow.workers").rowcount > 0
            return False

        with self.wait_until(connect, "it takes connections") as connection:
            self.wait_until(registered, "a worker registers", seconds=120)

    def processes(self) -> list[psutil.Process]:
        """Return those whose command line names one of its folders."""
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            for line in [" ".join(process.info["cmdline"] or [])]
            if any(str(folder.path) in line for folder in self.folders)
        ]

    def is_empty(self) -> bool:
        """Whether no process is here; those that are are given a moment to end."""
        left = self.processes()
        psutil.wait_procs(left, timeout=1)  # a look at every process takes long
        return not left


@pytest.fixture
def directory(tmp_path: Path, wait_until: WaitUntil) -> Iterator[Directory]:
    with cleaned(Directory(tmp_path, wait_until)) as made:
        yield made


@contextmanager
def cleaned(made: Directory) -> Iterator[Directory]:
    """Yield a directory; what was started in it and its data go with the block."""
    yield made
    for process in made.started:
        process.kill()
        print(process.communicate()[0])  # is shown if the test has failed
    made.wait_until(made.is_empty, "every server has ended")
    for folder in made.folders:
        shutil.rmtree(folder.path, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_directory() -> Iterator[list[Directory]]:
    """Hold the directory of `served`, which the first trial to ask for it makes."""
    with ExitStack() as stack:
        held: list[Directory] = []
        yield held
        for made in held:
            stack.enter_context(cleaned(made))


@pytest.fixture
def served(
    shared_directory: list[Directory],
    tmp_path_factory: pytest.TempPathFactory,
    wait_until: WaitUntil,
) -> Directory:
    """A directory whose `pgflow dev --no-worker`, the first that was started there,
    several trials use and leave alone.
    """
    if not shared_directory:
        made = Directory(tmp_path_factory.mktemp("served"), wait_until)
        made.start("--no-worker")
        shared_directory.append(made)
    return shared_directory[0]


def test_ctrl_c_drains_the_worker_and_stops_the_server(directory: Directory) -> None:
    handlers = directory.path / "slow.py"
    handlers.write_text(
        "import os, time\n"
        "from pgflow_cli import App\n"
        "app = App()\n"
        "@app.handler('slow')\n"
        "def slow(job):\n"
        "    open('began', 'w').close()\n"
        "    while not os.path.exists('gate'):\n"
        "        time.sleep(0.01)\n"
        "    open('ended', 'w').close()\n"
    )
    dev = directory.start("--no-admin", "--app", "slow.py")
    url = directory.url()
    directory.wait_for_worker(url)
    assert directory.run("enqueue", "slow", DATABASE_URL=url).returncode == 0
    directory.wait_until((directory.path / "began").exists, "the job begins")

    os.killpg(dev.pid, signal.SIGINT)  # as the terminal does: the whole group

    assert dev.stdout is not None
    before = [next(dev.stdout)]
    while "leasing no more" not in before[-1]:
        before.append(next(dev.stdout))
    (directory.path / "gate").touch()
    output = "".join(before) + dev.communicate(timeout=60)[0]
    assert dev.returncode == 0, output
    assert (directory.path / "ended").exists()
    assert directory.processes() == []
    password = url.split(":")[2].split("@")[0]
    assert password not in output


def test_the_url_reaches_a_migrated_database(served: Directory) -> None:
    url = served.url()
    assert served.run("dev", "--print-url").stdout == f"{url}\n"

    def is_migrated() -> bool:
        return not served.run("migrate", "--check", DATABASE_URL=url).returncode

    served.wait_until(is_migrated, "it is migrated")
    lines = [" ".join(process.info["cmdline"]) for process in served.processes()]
    assert lines
    assert not any("password" in line or url in line for line in lines)


def test_without_a_running_server_there_is_no_url(directory: Directory) -> None:
    done = directory.run("dev", "--print-url")
    assert done.returncode == 78
    assert done.stdout == ""
    assert "pgflow dev" in done.stderr


def test_a_second_dev_attaches_and_leaves_the_server_alone(served: Directory) -> None:
    url = served.url()
    second = served.start("--no-admin")
    assert second.stdout is not None
    said = next(line for line in second.stdout if "attached" in line)
    assert str(served.folders[0].path) in said

    second.send_signal(signal.SIGINT)

    assert second.wait(60) == 0
    assert served.started[0].poll() is None
    psycopg.connect(url).close()


def test_dev_stop_ends_from_another_terminal_it_and_what_is_attached(
    directory: Directory,
) -> None:
    first = directory.start("--no-admin")
    directory.wait_for_worker(directory.url())
    second = directory.start("--no-admin")
    assert second.stdout is not None
    next(line for line in second.stdout if "attached" in line)
    assert directory.run("dev", "stop").returncode == 0
    assert first.wait(60) == 0
    assert second.wait(60) == 0
    again = directory.run("dev", "stop")
    assert again.returncode == 0
    assert "no server runs here" in again.stderr


def test_dev_status_tells_owner_and_files(served: Directory) -> None:
    served.url()
    status = json.loads(served.run("dev", "status", "-o", "json").stdout)
    assert status["running"] is True
    assert status["owner"] == served.started[0].pid
    assert psutil.Process(status["pid"]).name() == "postgres"
    assert status["data"] == str(served.folders[0].data)


def test_a_killed_dev_takes_server_and_worker_with_it(directory: Directory) -> None:
    """And its page, which has gone to another port where the usual one is taken."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else listens there already
            taken.bind(("127.0.0.1", 3003))
            taken.listen()
        dev = directory.start()
        assert dev.stdout is not None
        said = next(line for line in dev.stdout if "admin server listens" in line)
    found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
    assert found, said
    assert found[1] != "3003"
    with urllib.request.urlopen(f"{found[0]}/health", timeout=60) as answer:  # noqa: S310
        assert answer.read() == b"ok"
    directory.wait_for_worker(directory.url())
    family = psutil.Process(dev.pid).children(recursive=True)
    dev.kill()
    dev.wait()
    directory.wait_until(
        lambda: not any(p.is_running() and p.status() != "zombie" for p in family),
        "server, worker, page and guard end",
    )
    status = json.loads(directory.run("dev", "status", "-o", "json").stdout)
    assert status["running"] is False


def test_an_ephemeral_dev_is_found_and_forgets(directory: Directory) -> None:
    dev = directory.start("--ephemeral", "--no-worker")
    with psycopg.connect(directory.url()) as connection:
        assert connection.execute("show fsync").fetchone() == ("off",)
    dev.send_signal(signal.SIGINT)
    output, _ = dev.communicate(timeout=60)
    assert "fsync=off" in output
    assert not directory.folders[1].path.exists()


def test_dev_psql_passes_its_arguments_on(served: Directory) -> None:
    served.url()
    done = served.run("dev", "psql", "--", "-XAtc", "select 6 * 7")
    assert done.stdout == "42\n", done.stderr


def test_dev_reset_deletes_nothing_under_a_running_server(served: Directory) -> None:
    url = served.url()
    refused = served.run("dev", "reset", "--yes")
    assert refused.returncode == 4, refused.stderr
    assert "pgflow dev stop" in refused.stderr
    psycopg.connect(url).close()


def test_the_url_dev_starts_a_server_for_one_command(directory: Directory) -> None:
    really = executable.start  # the server ends with what started it
    done = directory.run("migrate", how=really, DATABASE_URL="dev:")
    assert done.returncode == 0, done.stderr
    assert directory.processes() == []
    done = directory.run("migrate", "--check", how=really, DATABASE_URL="dev:")
    assert done.returncode == 0
    # What it leaves are data, and `dev reset` deletes them.
    assert directory.run("dev", "reset").returncode == 4  # nobody to ask
    assert directory.folders[0].data.exists()
    assert directory.run("dev", "reset", "--yes").returncode == 0
    assert not directory.folders[0].path.exists()


def test_the_url_dev_is_refused_outside_development(directory: Directory) -> None:
    done = directory.run("migrate", "--check", DATABASE_URL="dev:", PGFLOW_ENV="prod")
    assert done.returncode == 78
    assert "PGFLOW_ENV" in done.stderr
    assert not any(folder.path.exists() for folder in directory.folders)
