"""A signal in a command's first second, before it has begun anything, ends it as one
later would; and nothing that ends early leaves a traceback.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

import pgflow_cli
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.worker import channel, supervisor, worker
from pgflow_cli.worker import process as processes
from pgflow_cli.worker.options import WorkerOptions
from pgflow_cli.worker.shared_memory import Control, SharedMemory
from tests.acceptance.conftest import Worker
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]

NOWHERE = "postgresql://127.0.0.1:1/nowhere"
# Imported when Python starts; raises a signal when another module is imported.
HOOK = """
import importlib.abc, os, signal, sys

class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == os.environ["SIGNAL_AT"]:
            os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))

sys.meta_path.insert(0, Hook())
"""
WORK = ("work", "--no-maintain")
ENDS = [
    *((WORK, name) for name in ("SIGTERM", "SIGINT", "SIGQUIT")),
    *((("serve-admin", "--addr", "127.0.0.1:0"), n) for n in ("SIGTERM", "SIGINT")),
    (("maintain", "--loop"), "SIGTERM"),
]


@pytest.mark.parametrize(("command", "name"), ENDS)
@pytest.mark.parametrize("module", ["click", "pgflow_cli.repository"])
def test_a_signal_while_the_program_loads_ends_it_well(
    tmp_path: Path, command: tuple[str, ...], name: str, module: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("pgflow")), *command],
        env={
            **os.environ,
            "DATABASE_URL": NOWHERE,
            "PYTHONPATH": str(tmp_path),
            "SIGNAL": name,
            "SIGNAL_AT": module,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_next_to_nothing_is_loaded_before_signals_are_held() -> None:
    """Until then a signal ends the program as if it had failed.

    Without the packages of this environment: what one of them loads when Python starts
    (a .pth) would hide that we load it, too.
    """
    code = (
        "import os, signal, site, sys; sys.path.insert(0, sys.argv[1])\n"
        "before = set(sys.modules)\n"
        "import pgflow_cli.__main__\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    home = str(Path(pgflow_cli.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, home],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name for name in done.stdout.split() if "importlib" not in name}
    assert loaded - {"__future__", "warnings"} == {
        "pgflow_cli",
        "pgflow_cli.__main__",
        "pgflow_cli.cli",
        "pgflow_cli.cli.startup",
    }


def test_a_signal_while_another_command_loads_ends_it_as_ever(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("pgflow")), "jobs", "list"],
        env={
            **os.environ,
            "DATABASE_URL": NOWHERE,
            "PYTHONPATH": str(tmp_path),
            "SIGNAL": "SIGTERM",
            "SIGNAL_AT": "click",
        },
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_worker_that_waits_for_its_database_ends_well(
    start_worker: Start, wait_until: Wait, number: int
) -> None:
    waiting = start_worker(url=NOWHERE)
    wait_until(lambda: "event=database_unavailable" in waiting.log, "it waits")
    waiting.send(number)
    assert waiting.wait() == 0
    assert "Traceback" not in waiting.log


def test_a_process_that_ends_by_any_exception_says_so_in_one_line(
    start_worker: Start, wait_until: Wait, tmp_path: Path
) -> None:
    app = tmp_path / "stopping_app.py"
    app.write_text("class Stop(BaseException): pass\nraise Stop('no handlers today')\n")
    worker = start_worker("--app", str(app), app=False)
    wait_until(lambda: "ended before it was ready" in worker.log, "it ends")
    lines = worker.log.splitlines()
    [ended] = [line for line in lines if "event=process_died" in line]
    assert "ended before it was ready: exit code 70" in ended
    [failed] = [line for line in lines if "event=process_failed" in line]
    assert "the process has failed with Stop" in failed
    assert worker.log.count("Traceback") == failed.count("Traceback")


@pytest.mark.parametrize("code", [0, 70])
def test_a_process_left_to_the_kernel_changes_no_exit_status(
    tmp_path: Path, code: int
) -> None:
    """Here it only sleeps: nothing that a test starts hangs in the kernel."""
    program = tmp_path / "leaving.py"
    program.write_text(
        "import sys, time\n"
        "from pgflow_cli.worker import process as processes\n"
        "if __name__ == '__main__':\n"
        "    left = processes.CONTEXT.Process(target=time.sleep, args=(3600,))\n"
        "    processes.start_process(left)\n"
        "    processes.leave_behind()\n"
        "    print(left.pid, flush=True)\n"
        f"    sys.exit({code})\n"
    )
    told = tmp_path / "pid"
    with told.open("w") as output:  # a pipe would stay open with the process
        done = subprocess.run(
            [sys.executable, str(program)], stdout=output, check=False, timeout=60
        )
    os.kill(int(told.read_text()), signal.SIGKILL)
    assert done.returncode == code


def test_a_process_told_to_end_before_it_is_ready_ends_in_silence(
    start_worker: Start, wait_until: Wait, tmp_path: Path
) -> None:
    gate, loading = tmp_path / "gate", tmp_path / "loading"
    app = tmp_path / "slow_app.py"
    app.write_text(
        "import time\nfrom pathlib import Path\nfrom pgflow_cli import App\n"
        f"app = App()\nPath({str(loading)!r}).touch()\n"
        f"while not Path({str(gate)!r}).exists():\n    time.sleep(0.01)\n"
    )
    starting = start_worker("--app", str(app), app=False)
    wait_until(loading.exists, "its process loads the application")
    starting.send(signal.SIGTERM)
    wait_until(lambda: "leasing no more" in starting.log, "it is told")
    gate.touch()
    assert starting.wait() == 0
    events = [line.split("event=")[1].split()[0] for line in starting.log.splitlines()]
    assert set(events) <= {"settings", "draining", "reap_expired_locks"}


def test_a_signal_to_the_group_ends_no_process_that_starts(
    connection: Connection, start_worker: Start, wait_until: Wait
) -> None:
    """As Ctrl-C does: each is told, the supervisor alone decides."""
    starting = start_worker("--processes", "2")
    children = wait_until(
        lambda: len(starting.children()) == 2 and starting.children(), "they start"
    )
    for child in children:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGTSTP):
            child.send_signal(number)
    pids = {(child.pid,) for child in children}
    ready = "select pid from pgflow.workers"
    wait_until(
        lambda: set(connection.execute(ready).fetchall()) == pids, "they are ready"
    )
    starting.send(signal.SIGTERM)
    assert starting.wait() == 0
    assert "process_died" not in starting.log
    assert "Traceback" not in starting.log


def test_a_process_whose_supervisor_is_gone_leaves_no_traceback(
    capfd: pytest.CaptureFixture[str],
) -> None:
    options = WorkerOptions(
        url=NOWHERE, simulate=True, log_format="json", log_level="info"
    )
    ours, theirs = channel.pair()
    ours.close()
    held = (
        SharedMemory.create(processes.CONTEXT, 8, 8),
        Control.create(processes.CONTEXT, 8),
    )
    process = processes.CONTEXT.Process(
        target=worker.main,
        args=(
            *(options, "9c41e07b-0000-7000-8000-000000000000", "w", *held, theirs),
            processes.CONTEXT.Value("q", -1, lock=False),
        ),
    )
    processes.start_process(process)
    theirs.close()
    process.join(60)
    assert process.exitcode == 0
    assert capfd.readouterr().err == ""


def test_a_supervisor_that_fails_leaves_no_process_behind(
    database: Database, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    options = WorkerOptions(
        url=DatabaseSettings(database.url).url, simulate=True, processes=2
    )
    failing = supervisor.Supervisor(options)
    started: list[psutil.Process] = []

    def fail(*_: object, **__: object) -> None:
        started.extend(psutil.Process(c.process.pid) for c in failing._living())
        if len(started) >= 2:
            raise RuntimeError("a bug")
        started.clear()

    monkeypatch.setattr(failing._status, "write", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        failing.run()
    failing._stop([])  # its threads, which end with a process that is not a test's
    assert len(started) == 2
    assert not any(process.is_running() for process in started)
